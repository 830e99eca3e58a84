"""Prepared statements that make up a whole transaction, sent in one message and answered in one.

A statement costs its caller, the server and the network a turn each; what a transaction's statements cost
between client and PostgreSQL is mostly these turns. Statements whose values are known beforehand need no turn
of their own: PostgreSQL runs what one message holds in order, and stops at the first that fails.
"""

import re
from collections.abc import MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psycopg.errors
from psycopg.rows import namedtuple_row

# Planned once without its values, and by its indexes: a plan that was made while a table was young reads it
# whole for every row that is looked up, and stays when the table has grown, until statistics come.
_PLANNING = "SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL enable_seqscan = off; "
# psycopg drops all of a connection's statements after a rollback or some DDL, at a later call of its own: it
# may be between our preparing one statement and the next.
_DROPPED_AT_MOST = 2
_FIELD = re.compile(r"(?<![:\w]):([a-z_]+)")


@dataclass(frozen=True)
class Prepared:
    """A statement that each connection parses once.

    Args:
        name: Of the statement, within the service.
        statement: SQL with `:field` where a value goes, as SQLAlchemy's `text` takes it.
        types: PostgreSQL's type of each field.
    """

    name: str
    statement: str
    types: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, name: str, statement: str, /, **types: str) -> "Prepared":
        """Return a statement with the types of its fields."""
        return cls(name, statement, tuple(types.items()))

    @property
    def preparation(self) -> str:
        """The SQL that prepares it."""
        places = {field: f"${place}" for place, (field, _) in enumerate(self.types, 1)}
        body = _FIELD.sub(lambda found: places[found[1]], self.statement)
        types = f" ({', '.join(type for _, type in self.types)})" if self.types else ""
        return f"PREPARE {self.name}{types} AS {body}"

    @property
    def execution(self) -> str:
        """The SQL that runs it, with psycopg's places for the values."""
        places = f" ({', '.join(['%s'] * len(self.types))})" if self.types else ""
        return f"EXECUTE {self.name}{places}"

    def values(self, **values: Any) -> "Step":
        """Return the statement with its values; more than its fields are no harm."""
        return Step(self, tuple(values[field] for field, _ in self.types))


@dataclass(frozen=True)
class Step:
    """A prepared statement with the values of one call."""

    statement: Prepared
    values: tuple[Any, ...]


def run_at_once(
    driver: psycopg.Connection[Any],
    info: MutableMapping[str, Any],
    begin: str,
    steps: Sequence[Step],
) -> list[list[Any]]:
    """Run the steps as one transaction in one round trip; return the rows of each.

    Args:
        driver: Outside of a transaction; so it is afterwards, unless a statement failed.
        info: What is known of this connection as long as it is open; says what it has prepared.
        begin: The SQL that begins the transaction: statements, each with its semicolon.
        steps: In order.
    """
    known: set[str] = info.setdefault("prepared", set())
    for _ in range(_DROPPED_AT_MOST):
        try:
            return _send(driver, known, begin, steps)
        except psycopg.errors.InvalidSqlStatementName:
            known.clear()
    return _send(driver, known, begin, steps)


def _send(
    driver: psycopg.Connection[Any], known: set[str], begin: str, steps: Sequence[Step]
) -> list[list[Any]]:
    text = "; ".join(step.statement.execution for step in steps)
    values = [value for step in steps for value in step.values]
    driver.autocommit = True  # the message begins and commits by itself
    try:
        _prepare(driver, known, steps)
        cursor = psycopg.ClientCursor(driver, row_factory=namedtuple_row)
        cursor.execute(f"{begin}{_PLANNING}{text}; COMMIT".encode(), values)
        rows = [found.fetchall() for found in cursor.results() if found.rownumber is not None]
    except BaseException:
        if not driver.closed:
            driver.rollback()
        raise
    finally:
        if not driver.closed:
            driver.autocommit = False
    return rows


def _prepare(driver: psycopg.Connection[Any], known: set[str], steps: Sequence[Step]) -> None:
    for statement in (step.statement for step in steps if step.statement.name not in known):
        with suppress(psycopg.errors.DuplicatePreparedStatement):  # not all were dropped
            driver.execute(statement.preparation.encode(), prepare=False)
        known.add(statement.name)
