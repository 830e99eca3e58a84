"""Aliases: names that point at versions, moved by compare-and-set."""

from collections.abc import Sequence

from slipway_runtime.db import Database, PageToken, once, page_size
from slipway_runtime.errors import Aborted, FailedPrecondition, InvalidArgument, NotFound
from slipway_runtime.identity import current_caller

from slipway_registry.domain import Version, VersionState, check_id, name_part
from slipway_registry.domain.gates import CHAMPION, Alias
from slipway_registry.store import Store
from slipway_registry.usecases.models import model_named, version_named
from slipway_registry.usecases.runs import Repeat

_KNOWN = 1000


class Aliases:
    """The verbs over aliases."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def set(self, name: str, version: str, expected: str, repeat: Repeat) -> Alias:
        """Point an alias at a version of its model; where it points there already, nothing changes.

        Args:
            name: The alias.
            version: What it is to point at.
            expected: The version that the caller saw it at; empty for whatever it is now.
            repeat: Makes a repeat return the first answer.

        Raises:
            Aborted: It points elsewhere than expected (ALIAS_MOVED).
            FailedPrecondition: `champion` takes approved versions alone (VERSION_NOT_APPROVED).
        """
        id, alias = name_part(name, "models", "aliases")
        check_id("name", alias)
        with self._database.transaction() as connection:
            store = Store(connection)

            def effect() -> Alias:
                model_named(store, id, lock=True)
                target = version_named(store, version, "model_version")
                if target.model != id:
                    text = f"is {version!r}, of another model than models/{id}"
                    raise InvalidArgument.field("model_version", text)
                current = store.alias(id, alias)
                _check_moved(name, current, expected)
                if current is not None and current.version == target.number:
                    return current
                _check_approved(alias, target)
                return store.set_alias(id, alias, target.number, current_caller().subject)

            return once(
                connection,
                request_id=repeat.request_id,
                method="SetAlias",
                request=repeat.request,
                answer=Alias,
                effect=effect,
            )

    def get(self, name: str) -> Alias:
        """Return one alias.

        Raises:
            NotFound: The model has none of that name; near ones are named.
        """
        with self._database.transaction() as connection:
            return _alias(Store(connection), name)

    def list(self, parent: str, size: int, token: str) -> tuple[Sequence[Alias], str]:
        """Return a page of a model's aliases by name."""
        (id,) = name_part(parent, "models", field_name="parent")
        limit, tokens = page_size(size), PageToken(("aliases", parent))
        after = tokens.decode(token) or [""]
        with self._database.transaction() as connection:
            store = Store(connection)
            model_named(store, id)
            rows = store.aliases(id, str(after[0]), limit + 1)
        return rows[:limit], tokens.encode(rows[limit - 1].alias) if len(rows) > limit else ""

    def delete(self, name: str, repeat: Repeat) -> Alias:
        """Take an alias away and return it as it was."""
        with self._database.transaction() as connection:
            store = Store(connection)

            def effect() -> Alias:
                found = _alias(store, name, lock=True)
                store.delete_alias(found)
                return found

            return once(
                connection,
                request_id=repeat.request_id,
                method="DeleteAlias",
                request=repeat.request,
                answer=Alias,
                effect=effect,
            )


def _alias(store: Store, name: str, *, lock: bool = False) -> Alias:
    id, alias = name_part(name, "models", "aliases")
    model_named(store, id, lock=lock)
    found = store.alias(id, alias)
    if found is None:
        known = [each.alias for each in store.aliases(id, "", _KNOWN)]
        raise NotFound.of("ALIAS_NOT_FOUND", "alias", alias, known)
    return found


def _check_moved(name: str, current: Alias | None, expected: str) -> None:
    there = current.model_version if current else ""
    if expected and expected != there:
        message = f"{name} points at {there or 'nothing'}, not at {expected}; read it, then decide again"
        raise Aborted("ALIAS_MOVED", message, metadata={"model_version": there})


def _check_approved(alias: str, target: Version) -> None:
    if alias == CHAMPION and target.state is not VersionState.APPROVED:
        verdict = f"; {target.gate_verdict} says why" if target.verdict else ""
        message = (
            f"{target.name} is {target.state}{verdict}: alias {CHAMPION!r} takes approved versions alone; "
            "have it judged, or let an admin override its gate"
        )
        raise FailedPrecondition("VERSION_NOT_APPROVED", message, metadata={"state": str(target.state)})
