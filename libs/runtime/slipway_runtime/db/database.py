"""Connections and transactions."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg.errors
import psycopg.pq
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from slipway_runtime import deadline
from slipway_runtime.db.prepared import Step, run_at_once
from slipway_runtime.errors import DeadlineExceeded, Unavailable, Unstorable
from slipway_runtime.settings import DatabaseSettings


class Database:
    """One service's database.

    Args:
        url: SQLAlchemy URL, `postgresql+psycopg://…`.
        pool_size: Connections kept; twice as many at most.
    """

    def __init__(self, url: str, pool_size: int = 8) -> None:
        self.engine = create_engine(
            url,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=5,
            connect_args={
                "connect_timeout": 5,
                "application_name": "slipway",
                # The default of 4 is a spinning disk's: with it a young table is read whole for every row
                # that is looked up, by a plan that stays when the table has grown.
                "options": "-c random_page_cost=1.1",
            },
        )
        _ping_rested(self.engine)

    @classmethod
    def connect(cls, settings: DatabaseSettings) -> "Database":
        """Return the database that the settings name."""
        return cls(settings.database_url, settings.database_pool)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Yield a connection in a transaction that commits at the end, or rolls back on an error.

        Statements get no more time than the current call has left.

        Raises:
            Unavailable: The database is away, or busy beyond its pool.
            DeadlineExceeded: A statement outlasted the caller's deadline.
            InvalidArgument: PostgreSQL does not keep a value (a NUL in a text, a number too large).
        """
        try:
            with self.engine.begin() as connection:
                _bound_statements(connection)
                yield connection
        except PoolTimeout as error:
            raise Unavailable("DATABASE_BUSY", "the database is busy; try again", retry_after_s=1) from error
        except DBAPIError as error:
            raise _ours(error) from error

    def at_once(self, *steps: Step) -> list[list[Any]]:
        """Run prepared statements as one transaction in one round trip; return the rows of each.

        For what is called so often that the way to PostgreSQL and back counts. Nothing is read before all is
        committed, so no statement's values may depend on another's rows; one that fails undoes all.

        Raises:
            Unavailable: The database is away, or busy beyond its pool.
            DeadlineExceeded: A statement outlasted the caller's deadline.
            InvalidArgument: PostgreSQL does not keep a value (a NUL in a text, a number too large).
            psycopg.IntegrityError: A constraint stands against it.
        """
        try:
            pooled = self.engine.raw_connection()
        except PoolTimeout as error:
            raise Unavailable("DATABASE_BUSY", "the database is busy; try again", retry_after_s=1) from error
        except psycopg.Error as error:
            raise _named(error, lost=True) from error
        driver: Any = pooled.driver_connection
        try:
            return run_at_once(driver, pooled.info, f"BEGIN; {_bound()}", steps)
        except psycopg.Error as error:
            if driver.closed:
                pooled.invalidate(error)
            raise _named(error, lost=driver.closed) from error
        finally:
            pooled.close()

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def _ping_rested(engine: Engine) -> None:
    """Ask a pooled connection whether it lives when it has rested, not at every use: a round trip each."""

    @event.listens_for(engine, "checkin")
    def note(connection: Any, record: Any) -> None:
        record.info["used"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def ping(connection: Any, record: Any, proxy: Any) -> None:
        if time.monotonic() - record.info.get("used", time.monotonic()) < _FRESH_S:
            return
        try:
            engine.dialect.do_ping(connection)
        except psycopg.Error as error:
            raise DisconnectionError from error  # the pool opens another one


def _bound_statements(connection: Connection) -> None:
    bound = _bound()
    if bound and not _begun_with(connection, bound):
        connection.execute(text(bound))


def _bound() -> str:
    """Return the statement that gives each of a transaction's the time that the call has left, if bounded."""
    left_s = deadline.remaining_s()
    if left_s is None:
        return ""
    if left_s <= 0:
        raise DeadlineExceeded("DEADLINE_EXCEEDED", "the deadline passed before the database was asked")
    # a call without a deadline has one in the far future, past what PostgreSQL takes
    left_ms = min(max(int(left_s * 1000), 1), _MAX_TIMEOUT_MS)
    return f"SET LOCAL statement_timeout = {left_ms}; "


def _begun_with(connection: Connection, statement: str) -> bool:
    """Begin the transaction and run a statement in one round trip; False when that did not work.

    psycopg begins with a round trip of its own before the first statement, unless it sees that this was done.
    """
    driver: Any = connection.connection.driver_connection
    try:
        result = driver.pgconn.exec_(f"BEGIN; {statement}".encode())
    except psycopg.Error:
        return False
    return bool(result.status == psycopg.pq.ExecStatus.COMMAND_OK)


def _ours(error: DBAPIError) -> Exception:
    if not isinstance(error.orig, psycopg.Error):
        return error
    named = _named(error.orig, lost=error.connection_invalidated)
    return error if named is error.orig else named


def _named(error: psycopg.Error, *, lost: bool) -> Exception:
    """Return what a caller can do something about, or the error itself."""
    if isinstance(error, psycopg.DataError):
        return Unstorable()
    if isinstance(error, psycopg.errors.QueryCanceled):
        return DeadlineExceeded("DEADLINE_EXCEEDED", "the database did not answer within the deadline")
    if isinstance(error, _Operational) and (
        lost or isinstance(error, _AWAY) or error.__class__ is _Operational
    ):
        return Unavailable(
            "DATABASE_UNAVAILABLE", "the database cannot be reached; try again", retry_after_s=1
        )
    return error


_FRESH_S = 1.0  # a connection that was used so lately needs no ping
_MAX_TIMEOUT_MS = 2**31 - 1
_Operational = psycopg.OperationalError
_AWAY = (
    psycopg.errors.AdminShutdown,
    psycopg.errors.CrashShutdown,
    psycopg.errors.CannotConnectNow,
    psycopg.errors.TooManyConnections,
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
)


@contextmanager
def leader(database: Database, name: str) -> Iterator[bool]:
    """Yield whether this process leads `name`: one process of all does, by an advisory lock.

    The lock lives as long as its connection, so a dead leader frees it at once.
    """
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        row = connection.execute(text("SELECT pg_try_advisory_lock(hashtextextended(:n, 0))"), {"n": name})
        leads = bool(row.scalar_one())
        try:
            yield leads
        finally:
            if leads:
                connection.execute(text("SELECT pg_advisory_unlock(hashtextextended(:n, 0))"), {"n": name})
