"""What was made of what, as far as training knows: commits, task code, jobs, runs, versions."""

from typing import Any

import sqlalchemy as sa
from slipway_runtime.db import Database, PageToken, page_size
from slipway_runtime.errors import InvalidArgument

from slipway_training import domain
from slipway_training.store import ScoringStore, Store
from slipway_training.store.leases import LeasedRows
from slipway_training.store.lineage import CHILDREN, PARENTS, LineageStore

_ROWS: dict[str, type[LeasedRows[Any]]] = {"trainingJobs": Store, "scoringJobs": ScoringStore}


class Lineage:
    """The verbs over lineage.

    Args:
        database: Of this service.
    """

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def children(self, name: str, size: int, token: str) -> tuple[list[str], str]:
        """Return a page of what was made of a thing, and the token of the next.

        Raises:
            InvalidArgument: The name is of a kind that training knows nothing of.
            NotFound: There is no such job or task code. Commits and versions are not training's: one that it
                never saw has no children.
        """
        return self._page("children", CHILDREN, name, size, token)

    def parents(self, name: str, size: int, token: str) -> tuple[list[str], str]:
        """Return a page of what a job was made of; task code has no parents. Errors as `children`."""
        return self._page("parents", PARENTS, name, size, token)

    def _page(
        self, verb: str, statements: dict[str, str], name: str, size: int, token: str
    ) -> tuple[list[str], str]:
        kind = "/".join(name.split("/")[::2])
        if kind not in statements:
            known = ", ".join(f"{one.replace('/', '/*/')}/*" for one in statements)
            raise InvalidArgument.field("name", f"is {name!r}; write one of {known}")
        limit, tokens = page_size(size), PageToken((verb, name), (int, int))
        key = tokens.decode(token)
        after = (int(key[0]), int(key[1])) if key else (-1, -1)
        with self._database.transaction() as connection:
            _require(connection, kind, name)
            found = LineageStore(connection).edges(statements[kind], name, after, limit + 1)
        more = tokens.encode(*found[limit - 1][:2]) if len(found) > limit else ""
        return [other for _, _, other in found[:limit]], more


def _require(connection: sa.Connection, kind: str, name: str) -> None:
    """Refuse a thing that is training's own and not there."""
    if kind == "taskCode":
        Store(connection).code(name)
    elif kind in _ROWS:
        _ROWS[kind](connection).get(domain.id_of(name, kind))
