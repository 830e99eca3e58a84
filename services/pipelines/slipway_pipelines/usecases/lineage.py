"""What a thing came from, and what came of it, as far as runs know."""

from collections.abc import Callable

import sqlalchemy as sa
from slipway_runtime.db import Database, PageToken, page_size
from slipway_runtime.errors import InvalidArgument

from slipway_pipelines.domain import names
from slipway_pipelines.store import Definitions, Runs

MAX_NAME = 256
Found = list[tuple[int, str]]  # a serial number to go on after, and a name


class Lineage:
    """The verbs over lineage.

    Args:
        database: The service's own.
    """

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def children(self, name: str, size: int, token: str) -> tuple[list[str], str]:
        """Return a page of what came of a thing: runs, or what a run's steps named; and the next token."""
        return self._page("children", name, size, token, _children)

    def parents(self, name: str, size: int, token: str) -> tuple[list[str], str]:
        """Return a page of what a thing came from: a run's source and version, or the runs that named it."""
        return self._page("parents", name, size, token, _parents)

    def _page(
        self,
        verb: str,
        name: str,
        size: int,
        token: str,
        find: Callable[[sa.Connection, str, int, int], Found],
    ) -> tuple[list[str], str]:
        if not name or len(name) > MAX_NAME:
            raise InvalidArgument.field("name", f"has {len(name)} characters; send a resource name")
        limit = page_size(size)
        tokens = PageToken((verb, name), (int,))
        key = tokens.decode(token)
        with self._database.transaction() as connection:
            found = find(connection, name, 0 if key is None else int(key[0]), limit + 1)
        page = found[:limit]
        return [one for _, one in page], tokens.encode(page[-1][0]) if len(found) > limit else ""


def _children(connection: sa.Connection, name: str, after: int, limit: int) -> Found:
    runs = Runs(connection)
    if match := names.PIPELINE.fullmatch(name):
        Definitions(connection).get(match[1])
        return runs.of(after=after, limit=limit, pipeline=match[1])
    if match := names.VERSION.fullmatch(name):
        version = Definitions(connection).version(match[1], match[2])
        return runs.of(after=after, limit=limit, version=version.digest)
    if match := names.RUN.fullmatch(name):
        runs.get(match[1], match[2])
        return runs.named(match[2], after=after, limit=limit)
    return runs.of(after=after, limit=limit, trigger_source=name)


def _parents(connection: sa.Connection, name: str, after: int, limit: int) -> Found:
    runs = Runs(connection)
    if match := names.RUN.fullmatch(name):
        run = runs.get(match[1], match[2])
        sources = [run.trigger_source, f"pipelines/{run.pipeline}/versions/{run.version}"]
        return [(place, one) for place, one in enumerate(sources, start=1) if one and place > after]
    if match := names.VERSION.fullmatch(name):
        version = Definitions(connection).version(match[1], match[2])
        return [(1, f"pipelines/{version.definition.pipeline}")][after:]
    return runs.naming(name, after=after, limit=limit)
