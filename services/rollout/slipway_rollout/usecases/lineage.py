"""What was made of a version or a rollout, and what an endpoint or a rollout is made of."""

from slipway_runtime.db import Database, PageToken, page_size

from slipway_rollout import domain
from slipway_rollout.store import Store

Place = tuple[str, int]  # an endpoint, and the number of its rollout; 0 for the endpoint itself


class Lineage:
    """Edges between versions, endpoints and rollouts.

    Args:
        database: Of this service.
    """

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def children(self, name: str, size: int, token: str) -> tuple[list[str], str]:
        """Return a page of what was made of a thing, and the token of the next.

        That is the endpoints that serve a version, by name, then the rollouts that should bring it traffic;
        of a rollout, its endpoint.

        Raises:
            NotFound: There is no such rollout. Versions are not rollout's: one that it never saw has none.
        """
        limit, tokens = page_size(size), PageToken(("children", name), (str, int))
        key = tokens.decode(token)
        after = (str(key[0]), int(key[1])) if key else ("", 0)
        with self._database.transaction() as connection:
            store = Store(connection)
            found = (
                _of_rollout(store, name) if "/rollouts/" in name else _of_version(store, name, after, limit)
            )
        more = tokens.encode(*found[limit - 1]) if len(found) > limit else ""
        return [_name(*one) for one in found[:limit]], more

    def parents(self, name: str, size: int, token: str) -> tuple[list[str], str]:
        """Return a page of the versions that an endpoint serves, by number, and the token of the next.

        Those of a rollout are the version that it brings and the one that it is compared with.

        Raises:
            NotFound: There is no such endpoint or rollout.
        """
        limit, tokens = page_size(size), PageToken(("parents", name), (int,))
        key = tokens.decode(token)
        with self._database.transaction() as connection:
            versions = _versions(Store(connection), name)
        past = [v for v in versions if key is None or v[0] > int(key[0])]
        more = tokens.encode(past[limit - 1][0]) if len(past) > limit else ""
        return [version for _, version in past[:limit]], more


def _of_version(store: Store, name: str, after: Place, limit: int) -> list[Place]:
    """Return places past `after`: endpoints have the number 0 and come first."""
    domain.parse_version(name, field="name")
    endpoint, number = after
    serving = [] if number else [(id, 0) for id in store.serving(name, endpoint, limit + 1)]
    past = after if number else ("", 0)
    return [*serving, *store.rollouts_of(name, past, limit + 1 - len(serving))]


def _of_rollout(store: Store, name: str) -> list[Place]:
    rollout = store.rollout(*domain.parse_rollout(name))
    return [(rollout.endpoint, 0)]


def _versions(store: Store, name: str) -> list[tuple[int, str]]:
    if "/rollouts/" not in name:
        served = store.get(domain.parse_endpoint(name)).versions
        return [(version.number, version.model_version) for version in served]
    rollout = store.rollout(*domain.parse_rollout(name))
    both = dict.fromkeys((rollout.model_version, rollout.stable_version))
    return [(place, version) for place, version in enumerate(both) if version]


def _name(endpoint: str, number: int) -> str:
    return f"endpoints/{endpoint}/rollouts/{number}" if number else f"endpoints/{endpoint}"
