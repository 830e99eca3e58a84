"""Statements on one connection."""

import functools
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, TextClause, text


class Rows:
    """Runs statements on one connection, within the caller's transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def _rows(self, statement: str, **values: Any) -> Sequence[Row[Any]]:
        result = self._connection.execute(_clause(statement), values)
        return result.all() if result.returns_rows else ()


@functools.cache
def _clause(statement: str) -> TextClause:
    """Return a statement as SQLAlchemy takes it, read once for its parameters."""
    return text(statement)
