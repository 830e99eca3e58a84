"""Statements on one connection, and what their rows become."""

import functools
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, TextClause, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from slipway_labeling.domain.projects import Labels


class Rows:
    """Runs statements on one connection, within the caller's transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def _rows(self, statement: str, *json_fields: str, **values: Any) -> Sequence[Row[Any]]:
        result = self._connection.execute(_clause(statement, json_fields), values)
        return result.all() if result.returns_rows else ()


@functools.cache
def _clause(statement: str, json_fields: tuple[str, ...]) -> TextClause:
    """Return a statement as SQLAlchemy takes it, read once for its parameters."""
    clause = text(statement)
    return (
        clause.bindparams(*(bindparam(field, type_=JSONB) for field in json_fields))
        if json_fields
        else clause
    )


def labels_of(value: Sequence[str] | None) -> Labels | None:
    """Return an answer as it is stored: None where there is none."""
    return None if value is None else tuple(value)
