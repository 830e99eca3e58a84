"""Statements on one connection."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB


class Tables:
    """The tables of a service on one connection, within the caller's transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def _rows(self, statement: str, *json_fields: str, **values: Any) -> Sequence[Row[Any]]:
        clause = text(statement)
        if json_fields:
            clause = clause.bindparams(*(bindparam(field, type_=JSONB) for field in json_fields))
        result = self._connection.execute(clause, values)
        return result.all() if result.returns_rows else ()
