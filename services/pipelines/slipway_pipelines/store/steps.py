"""Steps of runs: their rows, leases, outputs, and the log of their attempts."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from slipway_pipelines.domain.definition import Definition
from slipway_pipelines.domain.errors import FencedError
from slipway_pipelines.domain.runs import StepRun, StepState
from slipway_pipelines.store.tables import attempts, in_seconds, now, runs, steps

_FIELDS: tuple[str, ...] = (
    "run",
    "step",
    "index",
    "attempt",
    "failures",
    "deaths",
    "generation",
    "cache_key",
    "cached_from",
)
_FIELDS += ("output", "error", "log_tail", "host", "ready_time", "start_time", "end_time", "due_time")


MAX_RESEND_S = 30.0


def held(step: StepRun) -> tuple[Any, ...]:
    """The fence: only the newest attempt of a running step may change it."""
    return (*_row(step), steps.c.attempt == step.attempt, steps.c.state == "RUNNING")


def _row(step: StepRun) -> tuple[Any, ...]:
    return (steps.c.run == step.run, steps.c.step == step.step, steps.c.index == step.index)


class Steps:
    """Steps inside one transaction. Who moves a run holds its row's lock first.

    Args:
        connection: The transaction.
    """

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def add(self, run: str, definition: Definition) -> None:
        """Add a blocked row for every step of a new run."""
        rows = [
            {"run": run, "step": step.name, "index": -1, "position": position, "state": "BLOCKED"}
            for position, step in enumerate(definition.steps)
        ]
        self._connection.execute(insert(steps), rows)

    def expand(self, run: str, step: str, count: int) -> None:
        """Make a step's one row as many as its list has items."""
        one = (steps.c.run == run, steps.c.step == step, steps.c.index == -1)
        position = self._connection.execute(sa.delete(steps).where(*one).returning(steps.c.position)).scalar()
        rows = [
            {"run": run, "step": step, "index": index, "position": position, "state": "BLOCKED"}
            for index in range(count)
        ]
        if rows:
            self._connection.execute(insert(steps), rows)

    def get(self, run: str, step: str, index: int, *, lock: bool = False) -> StepRun | None:
        """Return a row; None when there is none (any more)."""
        query = sa.select(steps).where(steps.c.run == run, steps.c.step == step, steps.c.index == index)
        row = self._connection.execute(query.with_for_update() if lock else query).mappings().first()
        return None if row is None else _step(row)

    def page(self, run: str, *, after: tuple[int, int] | None, limit: int) -> list[tuple[int, StepRun]]:
        """Return at most `limit` rows with their positions, in the order of the graph, then of the items."""
        place = sa.tuple_(steps.c.position, steps.c.index)
        query = (
            sa.select(steps).where(steps.c.run == run).order_by(steps.c.position, steps.c.index).limit(limit)
        )
        query = query.where(place > sa.tuple_(*map(sa.literal, after))) if after is not None else query
        return [(row["position"], _step(row)) for row in self._connection.execute(query).mappings()]

    def states(self, run: str, definition: Definition) -> dict[str, dict[int, StepState]]:
        """Return the states of a run's rows by step and index."""
        found: dict[str, dict[int, StepState]] = {step.name: {} for step in definition.steps}
        query = sa.select(steps.c.step, steps.c.index, steps.c.state).where(steps.c.run == run)
        for step, index, state in self._connection.execute(query):
            found[step][index] = StepState(state)
        return found

    def output(self, run: str, step: str) -> Any:
        """Return a step's output; of a fan-out the list of those that succeeded, in the items' order."""
        query = sa.select(steps.c.index, steps.c.output).where(steps.c.run == run, steps.c.step == step)
        query = query.where(steps.c.state == "SUCCEEDED").order_by(steps.c.index)
        found = [(index, json.loads(text)) for index, text in self._connection.execute(query)]
        if len(found) == 1 and found[0][0] == -1:
            return found[0][1]
        return [output for _, output in found]

    def cached(self, key: str) -> tuple[str, str, list[str]] | None:
        """Return run, output and names of a step that succeeded with the same cache key; the newest."""
        where = (steps.c.cache_key == key, steps.c.state == "SUCCEEDED", steps.c.cached_from == "")
        query = sa.select(runs.c.pipeline, runs.c.id, steps.c.output, steps.c.names)
        query = query.join(runs, runs.c.id == steps.c.run).where(*where)
        row = self._connection.execute(query.order_by(steps.c.end_time.desc()).limit(1)).first()
        return None if row is None else (f"pipelines/{row[0]}/runs/{row[1]}", row[2], list(row[3]))

    def change(self, run: str, step: str, index: int, **values: Any) -> None:
        """Change a row; the caller holds the run's lock."""
        where = (steps.c.run == run, steps.c.step == step, steps.c.index == index)
        self._connection.execute(sa.update(steps).where(*where).values(**values))

    def leased(self, step: StepRun) -> bool:
        """Say whether a running attempt's lease still holds."""
        query = sa.select(steps.c.lease_until > now()).where(*_row(step), steps.c.state == "RUNNING")
        return bool(self._connection.execute(query).scalar())

    def due(self, step: StepRun) -> bool:
        """Say whether a pending row's time has come."""
        query = sa.select(sa.func.coalesce(steps.c.due_time <= now(), True)).where(*_row(step))
        return bool(self._connection.execute(query).scalar())

    def begin(self, step: StepRun, host: str, lease_s: float) -> StepRun:
        """Give the row to its next attempt, with a lease; the caller holds its lock."""
        values = {"state": "RUNNING", "attempt": step.attempt + 1, "host": host, "due_time": None}
        first = sa.func.coalesce(steps.c.start_time, now())
        statement = sa.update(steps).where(*_row(step))
        statement = statement.values(**values, lease_until=in_seconds(lease_s), start_time=first)
        row = self._connection.execute(statement.returning(*steps.c)).mappings().one()
        return _step(row)

    def renew(self, step: StepRun, lease_s: float) -> bool:
        """Prolong an attempt's lease; return whether the run is to be cancelled.

        Raises:
            FencedError: another attempt holds the step, or it has ended.
        """
        statement = sa.update(steps).where(*held(step)).values(lease_until=in_seconds(lease_s))
        if self._connection.execute(statement.returning(steps.c.run)).first() is None:
            raise FencedError(step.id, step.attempt)
        asked = sa.select(runs.c.cancel_requested).where(runs.c.id == step.run)
        return bool(self._connection.execute(asked).scalar())

    def note(self, step: StepRun, **values: Any) -> None:
        """Change a row for the attempt that holds it.

        Raises:
            FencedError: another attempt holds the step, or it has ended.
        """
        statement = sa.update(steps).where(*held(step)).values(**values)
        if self._connection.execute(statement.returning(steps.c.run)).first() is None:
            raise FencedError(step.id, step.attempt)

    def log_attempt(self, step: StepRun, outcome: str, error: str) -> None:
        """Write down how an attempt ended."""
        values = {"run": step.run, "step": step.step, "index": step.index, "number": step.attempt}
        self._connection.execute(
            insert(attempts).values(**values, outcome=outcome, error=error[:2000], host=step.host)
        )

    def waiting(self, resend_s: float, limit: int = 100) -> list[tuple[str, str]]:
        """Return rows that should be sent (again), and mark them sent: due, or their lease expired.

        Each comes with the trace of its run. A row is sent once when it is due; again after `resend_s`, and
        after twice as long each time, at most half a minute: a long fan-out that waits for its turn must not
        fill the queue with its copies.
        """
        column = steps.c
        due = sa.and_(column.state == "PENDING", sa.func.coalesce(column.due_time <= now(), True))
        lost = sa.and_(column.state == "RUNNING", column.lease_until < now())
        waited = sa.func.least(column.sent_time - column.ready_time, _span(MAX_RESEND_S))
        pause = sa.case((lost, _span(resend_s)), else_=sa.func.greatest(waited, _span(resend_s)))
        unsent = sa.or_(column.sent_time.is_(None), column.sent_time < now() - pause)
        query = sa.select(column.run, column.step, column.index).where(sa.or_(due, lost), unsent)
        query = query.order_by(column.ready_time).limit(limit).with_for_update(skip_locked=True)
        rows = [tuple(row) for row in self._connection.execute(query)]
        for run, step, index in rows:
            self.change(run, step, index, sent_time=now())
        query = sa.select(runs.c.id, runs.c.traceparent).where(runs.c.id.in_({row[0] for row in rows}))
        traces = {row.id: row.traceparent for row in self._connection.execute(query)}
        return [(f"{run}/{step}/{index}", traces[run]) for run, step, index in rows]

    def cancel(self, run: str) -> None:
        """Cancel what does not run; the caller holds the run's lock."""
        where = (steps.c.run == run, steps.c.state.in_(["BLOCKED", "PENDING"]))
        values = {"state": "CANCELLED", "end_time": now(), "due_time": None}
        self._connection.execute(sa.update(steps).where(*where).values(**values))

    def reset(self, run: str) -> None:
        """Block again what failed or never ran; what failed gets another request_id."""
        failed = steps.c.state == "FAILED"
        generation = sa.case((failed, steps.c.generation + 1), else_=steps.c.generation)
        cleared = {"error": "", "failures": 0, "deaths": 0, "log_tail": "", "cache_key": ""}
        times = dict.fromkeys(("due_time", "sent_time", "ready_time", "start_time", "end_time"))
        where = (steps.c.run == run, steps.c.state.in_(["FAILED", "UPSTREAM_FAILED", "CANCELLED"]))
        statement = sa.update(steps).where(*where)
        self._connection.execute(statement.values(state="BLOCKED", generation=generation, **cleared, **times))

    def first_failure(self, run: str) -> str:
        """Return which step failed first, and why."""
        where = (steps.c.run == run, steps.c.state == "FAILED")
        row = (
            self._connection.execute(sa.select(steps).where(*where).order_by(steps.c.end_time).limit(1))
            .mappings()
            .first()
        )
        return "" if row is None else f"{_step(row).item}: {row['error']}"

    def counts(self) -> dict[str, int]:
        """Return the number of live rows by state."""
        live: Iterable[str] = ("BLOCKED", "PENDING", "RUNNING")
        query = sa.select(steps.c.state, sa.func.count()).where(steps.c.state.in_(live))
        return {state: int(count) for state, count in self._connection.execute(query.group_by(steps.c.state))}

    def attempts(self, run: str) -> Sequence[tuple[str, int, int, str]]:
        """Return (step, index, number, outcome) of every logged attempt of a run, in order."""
        query = sa.select(attempts.c.step, attempts.c.index, attempts.c.number, attempts.c.outcome)
        return [tuple(row) for row in self._connection.execute(query.where(attempts.c.run == run))]  # type: ignore[misc]


def _span(seconds: float) -> Any:
    return sa.func.make_interval(0, 0, 0, 0, 0, 0, seconds)


def _step(row: Mapping[Any, Any]) -> StepRun:
    return StepRun(
        **{name: row[name] for name in _FIELDS}, state=StepState(row["state"]), names=tuple(row["names"])
    )
