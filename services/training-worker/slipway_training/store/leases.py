"""What all jobs have that a worker takes with a lease: columns, and the statements over them."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

import sqlalchemy as sa
from slipway_runtime.errors import NotFound

from slipway_training.domain import FencedError, LeasedJob, Outcome, State

J = TypeVar("J", bound=LeasedJob)
ENDED = [state.value for state in State if state.ended]
now = sa.func.clock_timestamp
_LEASED = ["id", "creator", "error", "attempt", "failures", "cancel_requested", "traceparent", "revision"]
_LEASED += ["create_time", "end_time"]


def leased_columns() -> list[sa.Column[Any]]:
    """Return the columns that every table of jobs has."""
    return [
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("serial", sa.BigInteger),
        sa.Column("spec", sa.JSON),
        sa.Column("creator", sa.Text),
        sa.Column("state", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("attempt", sa.Integer),
        sa.Column("failures", sa.Integer),
        sa.Column("cancel_requested", sa.Boolean),
        sa.Column("traceparent", sa.Text),
        sa.Column("revision", sa.BigInteger),
        sa.Column("lease_until", sa.DateTime(timezone=True)),
        sa.Column("sent_time", sa.DateTime(timezone=True)),
        sa.Column("create_time", sa.DateTime(timezone=True)),
        sa.Column("end_time", sa.DateTime(timezone=True)),
    ]


def leased_values(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Return what a row of any table of jobs says about the job."""
    return {"state": State(row["state"]), **{name: row[name] for name in _LEASED}}


def held(table: sa.Table, id: str, attempt: int) -> tuple[Any, ...]:
    """The fence: only the newest attempt of a running job may change it."""
    return (table.c.id == id, table.c.attempt == attempt, table.c.state == "RUNNING")


def _in(seconds: float) -> Any:
    return now() + sa.func.make_interval(0, 0, 0, 0, 0, 0, seconds)


class LeasedRows(ABC, Generic[J]):
    """Jobs of one noun inside one transaction.

    Args:
        connection: The transaction.
    """

    table: ClassVar[sa.Table]
    collection: ClassVar[str]
    unclosed_where: ClassVar[tuple[Any, ...]]

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    @abstractmethod
    def add(self, job: J) -> J:
        """Add a new job, PENDING."""

    @abstractmethod
    def close(self, id: str) -> None:
        """Note that all is done that follows the job's end."""

    @abstractmethod
    def _jobs(self, rows: Sequence[Mapping[Any, Any]]) -> list[J]:
        """Return the jobs of these rows."""

    @abstractmethod
    def _not_found(self, name: str, known: Iterable[str]) -> NotFound:
        """Return the error for an unknown job."""

    def get(self, id: str, *, lock: bool = False) -> J:
        """Return a job; `lock` keeps others from changing it until the transaction ends.

        Raises:
            NotFound: there is none; near matches are named.
        """
        query = sa.select(self.table).where(self.table.c.id == id)
        row = self._connection.execute(query.with_for_update() if lock else query).mappings().first()
        if row is None:
            known = [f"{self.collection}/{other}" for other in self._ids()]
            raise self._not_found(f"{self.collection}/{id}", known)
        return self._jobs([row])[0]

    def revision(self, id: str) -> int:
        """Return the number that changes whenever the job does; 0 when there is none."""
        found = self._connection.execute(sa.select(self.table.c.revision).where(self.table.c.id == id))
        return found.scalar() or 0

    def page(self, *, before: int | None, limit: int, **equal: str) -> list[tuple[int, J]]:
        """Return at most `limit` jobs with their serial numbers, newest first; `equal` names columns."""
        serial = self.table.c.serial
        query = sa.select(self.table).order_by(serial.desc()).limit(limit)
        query = query.where(serial < before) if before is not None else query
        for column, value in equal.items():
            query = query.where(self.table.c[column] == value) if value else query
        rows = self._connection.execute(query).mappings().all()
        return list(zip([row["serial"] for row in rows], self._jobs(rows), strict=True))

    def leased(self, id: str) -> bool:
        """Say whether a running attempt's lease still holds."""
        holds = (self.table.c.id == id, self.table.c.state == "RUNNING")
        query = sa.select(self.table.c.lease_until > now()).where(*holds)
        return bool(self._connection.execute(query).scalar())

    def begin(self, job: J, host: str, lease_s: float) -> J:
        """Give the job to its next attempt, with a lease; the caller holds the row's lock."""
        values = {"state": "RUNNING", "attempt": job.attempt + 1, "lease_until": _in(lease_s), "error": ""}
        self._change(job.id, **values)
        return self.get(job.id)

    def renew(self, id: str, attempt: int, lease_s: float) -> bool:
        """Prolong an attempt's lease; return whether a cancellation waits.

        Raises:
            FencedError: another attempt holds the job, or it has ended.
        """
        statement = sa.update(self.table).where(*held(self.table, id, attempt))
        statement = statement.values(lease_until=_in(lease_s))
        row = self._connection.execute(statement.returning(self.table.c.cancel_requested)).first()
        if row is None:
            raise self._fenced(id, attempt)
        return bool(row[0])

    def note(self, id: str, attempt: int, **values: Any) -> None:
        """Change a job's row for the attempt that holds it.

        Raises:
            FencedError: another attempt holds the job, or it has ended.
        """
        if not self._change(id, *held(self.table, id, attempt), **values):
            raise self._fenced(id, attempt)

    def finish_attempt(self, id: str, number: int, outcome: Outcome, error: str) -> None:
        """Write down how an attempt ended, where attempts have rows of their own."""

    def give_back(self, id: str, failures: int) -> None:
        """Make the job PENDING again, without a lease; the caller holds the row's lock."""
        self._change(id, state="PENDING", lease_until=None, failures=failures, sent_time=now())

    def end(self, id: str, state: State, error: str = "", **values: Any) -> None:
        """End the job; the caller holds the row's lock."""
        self._change(id, state=state.value, error=error, lease_until=None, end_time=now(), **values)

    def request_cancel(self, id: str) -> None:
        """Ask the running attempt to stop."""
        self._change(id, cancel_requested=True)

    def waiting(self, resend_s: float, limit: int = 100) -> list[str]:
        """Return jobs that should be sent again, and mark them sent: PENDING for long, or lease expired."""
        column = self.table.c
        lost = sa.and_(column.state == "RUNNING", column.lease_until < now())
        where = (sa.or_(column.state == "PENDING", lost), column.sent_time < _in(-resend_s))
        query = sa.select(column.id).where(*where).order_by(column.serial).limit(limit)
        ids = list(self._connection.execute(query.with_for_update(skip_locked=True)).scalars())
        self._connection.execute(sa.update(self.table).where(column.id.in_(ids)).values(sent_time=now()))
        return ids

    def unclosed(self, limit: int = 20) -> list[str]:
        """Return jobs that have ended and whose end is not known to be followed up."""
        where = (self.table.c.state.in_(ENDED), *self.unclosed_where)
        query = sa.select(self.table.c.id).where(*where).limit(limit)
        return list(self._connection.execute(query).scalars())

    def counts(self) -> dict[str, int]:
        """Return the number of jobs by state."""
        query = sa.select(self.table.c.state, sa.func.count()).group_by(self.table.c.state)
        return {state: int(count) for state, count in self._connection.execute(query)}

    def _require_held(self, id: str, attempt: int) -> None:
        """Lock the row for the attempt that holds it, until the transaction ends.

        Raises:
            FencedError: another attempt holds the job, or it has ended.
        """
        query = sa.select(self.table.c.id).where(*held(self.table, id, attempt)).with_for_update()
        if not self._connection.execute(query).first():
            raise self._fenced(id, attempt)

    def _change(self, id: str, *where: Any, **values: Any) -> bool:
        statement = sa.update(self.table).where(self.table.c.id == id, *where)
        result = self._connection.execute(statement.values(revision=self.table.c.revision + 1, **values))
        return result.rowcount == 1

    def _fenced(self, id: str, attempt: int) -> FencedError:
        return FencedError(f"{self.collection}/{id}", attempt)

    def _ids(self, limit: int = 1000) -> list[str]:
        query = sa.select(self.table.c.id).order_by(self.table.c.serial.desc()).limit(limit)
        return list(self._connection.execute(query).scalars())
