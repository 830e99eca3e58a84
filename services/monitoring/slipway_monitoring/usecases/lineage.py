"""Lineage: what was made of a predicted row, and what rows, alerts and imports were made of."""

from collections.abc import Callable, Sequence

from slipway_runtime.db import Database, PageToken, page_size
from slipway_runtime.errors import InvalidArgument, NotFound
from sqlalchemy import Connection

from slipway_monitoring.domain.names import prediction_row
from slipway_monitoring.store.lineage import LineageStore
from slipway_monitoring.usecases.alerts import existing_alert
from slipway_monitoring.usecases.captures import existing_import

Edges = Sequence[tuple[int, str]]  # a number to go on after, and a resource name
Step = Callable[[Connection, str, int, int], Edges]


class Lineage:
    """The verbs of lineage."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def children(self, name: str, size: int, token: str) -> tuple[Sequence[str], str]:
        """Return a page of the commits that took a predicted row, or an import's rows, in as examples.

        Raises:
            NotFound: The row's event has not come, or is forgotten; or there is no such import.
            InvalidArgument: The name is of a kind that monitoring knows no children of.
        """
        return self._page("children", _CHILDREN, name, size, token)

    def parents(self, name: str, size: int, token: str) -> tuple[Sequence[str], str]:
        """Return a page of the version and the endpoint behind a row or an alert, or an import's endpoint.

        Raises:
            NotFound: The row's event has not come, or is forgotten; or there is no such alert or import.
            InvalidArgument: The name is of a kind that monitoring knows no parents of.
        """
        return self._page("parents", _PARENTS, name, size, token)

    def _page(
        self, verb: str, steps: dict[str, Step], name: str, size: int, token: str
    ) -> tuple[Sequence[str], str]:
        kind = name.partition("/")[0]
        if kind not in steps:
            known = ", ".join(f"{one}/*" for one in steps)
            raise InvalidArgument.field("name", f"is {name[:200]!r}; write one of {known}")
        limit, tokens = page_size(size), PageToken((verb, name), (int,))
        key = tokens.decode(token)
        with self._database.transaction() as connection:
            found = steps[kind](connection, name, int(key[0]) if key else -1, limit + 1)
        more = tokens.encode(found[limit - 1][0]) if len(found) > limit else ""
        return [other for _, other in found[:limit]], more


def _commits_of_row(connection: Connection, name: str, after: int, limit: int) -> Edges:
    prediction_id, row = prediction_row(name)
    _source_of_row(connection, name)
    return LineageStore(connection).commits(prediction_id, row, after, limit)


def _commit_of_import(connection: Connection, name: str, after: int, limit: int) -> Edges:
    return _rest([existing_import(connection, name).commit], after, limit)


def _of_row(connection: Connection, name: str, after: int, limit: int) -> Edges:
    return _rest(_source_of_row(connection, name), after, limit)


def _of_alert(connection: Connection, name: str, after: int, limit: int) -> Edges:
    alert = existing_alert(connection, name)
    return _rest([alert.model_version, f"endpoints/{alert.endpoint}"], after, limit)


def _of_import(connection: Connection, name: str, after: int, limit: int) -> Edges:
    return _rest([existing_import(connection, name).spec.endpoint], after, limit)


def _source_of_row(connection: Connection, name: str) -> Sequence[str]:
    found = LineageStore(connection).parents(*prediction_row(name))
    if not found:
        message = f"no event of {name!r} is kept: it has not come yet, or it is older than the retention"
        raise NotFound("PREDICTION_NOT_FOUND", message, metadata={"name": name})
    return found


def _rest(names: Sequence[str], after: int, limit: int) -> Edges:
    return [(number, name) for number, name in enumerate(names) if name and number > after][:limit]


_CHILDREN: dict[str, Step] = {"predictions": _commits_of_row, "captureImports": _commit_of_import}
_PARENTS: dict[str, Step] = {"predictions": _of_row, "alerts": _of_alert, "captureImports": _of_import}
