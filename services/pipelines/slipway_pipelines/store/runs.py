"""Runs, and what their steps named."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from slipway_pipelines.domain import errors
from slipway_pipelines.domain.runs import Progress, Run, RunState, Trigger
from slipway_pipelines.store.tables import now, outputs, runs, steps

_FIELDS: tuple[str, ...] = (
    "id",
    "pipeline",
    "version",
    "parameters",
    "trigger_source",
    "schedule_time",
    "error",
    "creator",
)
_FIELDS += (
    "cancel_requested",
    "retry_count",
    "traceparent",
    "revision",
    "create_time",
    "start_time",
    "end_time",
)


class Runs:
    """Runs inside one transaction.

    Args:
        connection: The transaction.
    """

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def add(self, run: Run) -> bool:
        """Add a run; False when the schedule's run of that time is there already."""
        row = insert(runs).values(
            id=run.id,
            pipeline=run.pipeline,
            version=run.version,
            parameters=run.parameters,
            trigger=run.trigger.value,
            trigger_source=run.trigger_source,
            schedule_time=run.schedule_time,
            state=run.state.value,
            creator=run.creator,
            traceparent=run.traceparent,
        )
        row = row.on_conflict_do_nothing()
        return self._connection.execute(row.returning(runs.c.id)).first() is not None

    def get(self, pipeline: str, id: str, *, lock: bool = False) -> Run:
        """Return a run; `lock` keeps others from moving it until the transaction ends.

        Raises:
            NotFound: there is none of that name.
        """
        found = self.of_id(id, lock=lock)
        if found is None or found.pipeline != pipeline:
            query = sa.select(runs.c.id).where(runs.c.pipeline == pipeline).order_by(runs.c.serial.desc())
            known = self._connection.execute(query.limit(100)).scalars()
            names = [f"pipelines/{pipeline}/runs/{other}" for other in known]
            raise errors.run_not_found(f"pipelines/{pipeline}/runs/{id}", names)
        return found

    def of_id(self, id: str, *, lock: bool = False) -> Run | None:
        """Return a run by its id; None when there is none."""
        query = sa.select(runs).where(runs.c.id == id)
        row = self._connection.execute(query.with_for_update() if lock else query).mappings().first()
        return None if row is None else self._runs([row])[0]

    def revision(self, id: str) -> int:
        """Return the number that changes whenever the run or a step of it does."""
        return self._connection.execute(sa.select(runs.c.revision).where(runs.c.id == id)).scalar() or 0

    def page(self, *, before: int | None, limit: int, **equal: str) -> list[tuple[int, Run]]:
        """Return at most `limit` runs with their serial numbers, newest first; `equal` names columns."""
        query = sa.select(runs).order_by(runs.c.serial.desc()).limit(limit)
        query = query.where(runs.c.serial < before) if before is not None else query
        for column, value in equal.items():
            query = query.where(runs.c[column] == value) if value else query
        rows = self._connection.execute(query).mappings().all()
        return list(zip([row["serial"] for row in rows], self._runs(rows), strict=True))

    def change(self, id: str, **values: Any) -> None:
        """Change a run's row, and the number that tells watchers."""
        statement = sa.update(runs).where(runs.c.id == id)
        self._connection.execute(statement.values(revision=runs.c.revision + 1, **values))

    def begin(self, id: str) -> None:
        """Note that a step began."""
        first = sa.func.coalesce(runs.c.start_time, now())
        self.change(id, state=RunState.RUNNING.value, start_time=first)

    def end(self, id: str, state: RunState, error: str) -> None:
        """End a run; the caller holds its lock."""
        self.change(id, state=state.value, error=error, end_time=now())

    def times_taken(self, pipeline: str, start: datetime, end: datetime) -> set[datetime]:
        """Return the times of a schedule that have a run which succeeded or goes on."""
        where = (
            runs.c.pipeline == pipeline,
            runs.c.schedule_time >= start,
            runs.c.schedule_time < end,
            runs.c.state.in_(["PENDING", "RUNNING", "SUCCEEDED"]),
        )
        return set(self._connection.execute(sa.select(runs.c.schedule_time).where(*where)).scalars())

    def name_outputs(self, id: str, names: Iterable[str]) -> None:
        """Keep which things a run's steps named, each once."""
        rows = [{"name": name, "run": id} for name in sorted(names)]
        if rows:
            self._connection.execute(insert(outputs).on_conflict_do_nothing(), rows)

    def named(self, id: str, *, after: int, limit: int) -> list[tuple[int, str]]:
        """Return things that a run's steps named, in the order in which they came."""
        query = sa.select(outputs.c.serial, outputs.c.name).where(
            outputs.c.run == id, outputs.c.serial > after
        )
        found = self._connection.execute(query.order_by(outputs.c.serial).limit(limit))
        return [(serial, name) for serial, name in found]

    def naming(self, name: str, *, after: int, limit: int) -> list[tuple[int, str]]:
        """Return the names of runs whose steps named a thing, in the order in which they did."""
        query = sa.select(outputs.c.serial, runs.c.pipeline, runs.c.id).join(runs, runs.c.id == outputs.c.run)
        query = query.where(outputs.c.name == name, outputs.c.serial > after)
        found = self._connection.execute(query.order_by(outputs.c.serial).limit(limit))
        return [(serial, f"pipelines/{pipeline}/runs/{id}") for serial, pipeline, id in found]

    def of(self, *, after: int, limit: int, **equal: str) -> list[tuple[int, str]]:
        """Return names of runs by columns, oldest first."""
        query = sa.select(runs.c.serial, runs.c.pipeline, runs.c.id).where(runs.c.serial > after)
        for column, value in equal.items():
            query = query.where(runs.c[column] == value)
        found = self._connection.execute(query.order_by(runs.c.serial).limit(limit))
        return [(serial, f"pipelines/{pipeline}/runs/{id}") for serial, pipeline, id in found]

    def counts(self) -> dict[str, int]:
        """Return the number of runs by state."""
        query = sa.select(runs.c.state, sa.func.count()).group_by(runs.c.state)
        return {state: int(count) for state, count in self._connection.execute(query)}

    def _runs(self, rows: Sequence[Mapping[Any, Any]]) -> list[Run]:
        ids = [row["id"] for row in rows]
        counts: dict[str, dict[str, int]] = {id: {} for id in ids}
        cached: dict[str, int] = {}
        query = sa.select(steps.c.run, steps.c.state, sa.func.count(), _cached()).where(steps.c.run.in_(ids))
        for id, state, count, from_cache in self._connection.execute(
            query.group_by(steps.c.run, steps.c.state)
        ):
            counts[id][state] = int(count)
            cached[id] = cached.get(id, 0) + int(from_cache)
        active: dict[str, list[str]] = {}
        alive = (steps.c.run.in_(ids), steps.c.state.in_(["PENDING", "RUNNING"]))
        query = sa.select(steps.c.run, steps.c.step).where(*alive).group_by(steps.c.run, steps.c.step)
        for id, step in self._connection.execute(query.order_by(sa.func.min(steps.c.position))):
            active.setdefault(id, []).append(step)
        return [
            _run(row, Progress(counts=counts[row["id"]], cached=cached.get(row["id"], 0)), active)
            for row in rows
        ]


def _cached() -> Any:
    return sa.func.count().filter(steps.c.cached_from != "")


def _run(row: Mapping[Any, Any], progress: Progress, active: Mapping[str, Sequence[str]]) -> Run:
    return Run(
        **{name: row[name] for name in _FIELDS},
        trigger=Trigger(row["trigger"]),
        state=RunState(row["state"]),
        progress=progress,
        active_steps=tuple(active.get(row["id"], ())),
    )
