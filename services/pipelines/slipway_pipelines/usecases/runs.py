"""What callers may do with runs: start, read, list, watch, cancel, retry, backfill."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any

import sqlalchemy as sa
from opentelemetry import propagate
from slipway_runtime.db import Database, PageToken, once, page_of, page_size
from slipway_runtime.errors import InvalidArgument
from slipway_runtime.identity import current_caller

from slipway_pipelines.domain import definition, errors, names, schedule
from slipway_pipelines.domain.runs import Run, RunState, StepRun, Trigger
from slipway_pipelines.store import Definitions, Runs, Steps
from slipway_pipelines.usecases.moving import Mover, start

MAX_BACKFILL = 1000
MAX_SOURCE = 256


@dataclass(frozen=True, kw_only=True)
class Backfill:
    """What a backfill started."""

    runs: tuple[str, ...]
    time_count: int
    skipped_count: int


class RunBook:
    """The verbs over runs.

    Args:
        database: The service's own.
        enqueue: Sends a task with a step's id, after the commit; may fail silently (the sweeper).
        watch_interval_s: Between two looks of `watch`.
    """

    def __init__(
        self, *, database: Database, enqueue: Callable[[str, str], None], watch_interval_s: float
    ) -> None:
        self._database = database
        self._enqueue = enqueue
        self._watch_interval_s = watch_interval_s

    def create(
        self,
        parent: str,
        given: Mapping[str, Any],
        *,
        trigger: Trigger,
        trigger_source: str,
        request_id: str,
        content: bytes,
    ) -> Run:
        """Start a run of the newest version: committed, then its first steps are sent.

        Raises:
            NotFound: there is no such pipeline.
            InvalidArgument: a parameter, the trigger or its source is refused.
        """
        id = names.pipeline_id(parent, "parent")
        _require_trigger(trigger, trigger_source)
        ready: list[str] = []

        def effect(connection: sa.Connection) -> Run:
            version = Definitions(connection).newest(id)
            strict = trigger is not Trigger.ALERT
            started = start(
                connection,
                version,
                definition.resolved(version.definition, given, strict=strict),
                trigger=trigger,
                trigger_source=trigger_source,
                creator=current_caller().subject,
                traceparent=_traceparent(),
            )
            assert started is not None
            ready.extend(started[1])
            return started[0]

        made = self._once("CreatePipelineRun", request_id, content, Run, effect)
        self._send(ready)
        return made

    def get(self, name: str) -> Run:
        """Return a run."""
        with self._database.transaction() as connection:
            return Runs(connection).get(*names.run_id(name))

    def page(self, parent: str, size: int, token: str, state: str, trigger: str) -> tuple[list[Run], str]:
        """Return a page of runs, newest first, and the token of the next; `pipelines/-` means all."""
        id = "" if parent == "pipelines/-" else names.pipeline_id(parent, "parent")
        limit = page_size(size)
        tokens = PageToken(("runs", id, state, trigger), (int,))
        key = tokens.decode(token)
        with self._database.transaction() as connection:
            if id:
                Definitions(connection).get(id)
            before = None if key is None else int(key[0])
            equal = {"pipeline": id, "state": state, "trigger": trigger}
            found = Runs(connection).page(before=before, limit=limit + 1, **equal)
        page = page_of(found, limit)
        return [run for _, run in page], tokens.encode(page[-1][0]) if len(found) > len(page) else ""

    def steps(self, parent: str, size: int, token: str) -> tuple[list[StepRun], str]:
        """Return a page of a run's steps in the order of the graph, and the token of the next."""
        pipeline, id = names.run_id(parent, "parent")
        limit = page_size(size)
        tokens = PageToken(("steps", id), (int, int))
        key = tokens.decode(token)
        with self._database.transaction() as connection:
            Runs(connection).get(pipeline, id)
            after = None if key is None else (int(key[0]), int(key[1]))
            found = Steps(connection).page(id, after=after, limit=limit + 1)
        page = page_of(found, limit)
        following = tokens.encode(page[-1][0], page[-1][1].index) if len(found) > len(page) else ""
        return [step for _, step in page], following

    def watch(self, name: str, active: Callable[[], bool]) -> Iterator[Run]:
        """Yield the run now and whenever it changes, until it ends or the caller has gone."""
        run = self.get(name)
        yield run
        while not run.state.ended and active():
            time.sleep(self._watch_interval_s)
            with self._database.transaction() as connection:
                changed = Runs(connection).revision(run.id) != run.revision
            if changed:
                run = self.get(name)
                yield run

    def cancel(self, name: str, request_id: str, content: bytes) -> Run:
        """End a run: what waits ends now, what runs is killed by its worker.

        Raises:
            FailedPrecondition: it has ended.
        """
        pipeline, id = names.run_id(name)

        def effect(connection: sa.Connection) -> Run:
            runs = Runs(connection)
            run = runs.get(pipeline, id, lock=True)
            if run.state.ended:
                raise errors.run_ended(run.name, run.state.value)
            runs.change(id, cancel_requested=True)
            Steps(connection).cancel(id)
            self._advance(connection, runs.get(pipeline, id))
            return runs.get(pipeline, id)

        return self._once("CancelPipelineRun", request_id, content, Run, effect)

    def retry(self, name: str, request_id: str, content: bytes) -> Run:
        """Go on with a run that failed or was cancelled: what succeeded or was skipped stays.

        Raises:
            FailedPrecondition: it goes on, or has succeeded (NOTHING_TO_RETRY).
        """
        pipeline, id = names.run_id(name)
        ready: list[str] = []

        def effect(connection: sa.Connection) -> Run:
            runs = Runs(connection)
            run = runs.get(pipeline, id, lock=True)
            if run.state not in {RunState.FAILED, RunState.CANCELLED}:
                raise errors.nothing_to_retry(run.name, run.state.value)
            again = {"error": "", "end_time": None, "cancel_requested": False}
            runs.change(id, state=RunState.RUNNING.value, retry_count=run.retry_count + 1, **again)
            Steps(connection).reset(id)
            ready.extend(self._advance(connection, runs.get(pipeline, id)))
            return runs.get(pipeline, id)

        made = self._once("RetryPipelineRun", request_id, content, Run, effect)
        self._send(ready)
        return made

    def backfill(
        self,
        parent: str,
        start_time: datetime,
        end_time: datetime,
        given: Mapping[str, Any],
        request_id: str,
        content: bytes,
    ) -> Backfill:
        """Start a run for each time of the schedule in a window that has none which succeeded or goes on.

        Raises:
            FailedPrecondition: the pipeline declares no schedule.
            InvalidArgument: the window is empty, ends in the future, or holds more than 1000 times.
        """
        id = names.pipeline_id(parent, "parent")
        ready: list[str] = []

        def effect(connection: sa.Connection) -> Backfill:
            definitions = Definitions(connection)
            pipeline = definitions.get(id, lock=True)
            if pipeline.schedule is None:
                raise errors.no_schedule(pipeline.name)
            times = _times(pipeline.schedule, start_time, end_time, definitions.now())
            taken = Runs(connection).times_taken(id, start_time, end_time)
            version = definitions.newest(id)
            parameters = definition.resolved(version.definition, given, strict=True)
            made = []
            for moment in times:
                if moment in taken:
                    continue
                started = start(
                    connection,
                    version,
                    parameters,
                    trigger=Trigger.BACKFILL,
                    creator=current_caller().subject,
                    schedule_time=moment,
                    traceparent=_traceparent(),
                )
                assert started is not None
                made.append(started[0].name)
                ready.extend(started[1])
            skipped = len(times) - len(made)
            return Backfill(runs=tuple(made), time_count=len(times), skipped_count=skipped)

        answer = self._once("CreateBackfill", request_id, content, Backfill, effect)
        self._send(ready)
        return answer

    def _advance(self, connection: sa.Connection, run: Run) -> list[str]:
        version = Definitions(connection).version(run.pipeline, run.version)
        return Mover(connection, run, version).advance()

    def _once(
        self,
        method: str,
        request_id: str,
        content: bytes,
        answer: type[Any],
        effect: Callable[[sa.Connection], Any],
    ) -> Any:
        with self._database.transaction() as connection:
            return once(
                connection,
                request_id=request_id,
                method=method,
                request=content,
                answer=answer,
                effect=lambda: effect(connection),
            )

    def _send(self, ready: list[str]) -> None:
        for id in ready:
            self._enqueue("step", id)


def _require_trigger(trigger: Trigger, source: str) -> None:
    if trigger in {Trigger.SCHEDULE, Trigger.BACKFILL}:
        remedy = "the platform gives it itself; use MANUAL or ALERT, or CreateBackfill"
        raise InvalidArgument.field("trigger", f"is {trigger.value}; {remedy}")
    if len(source) > MAX_SOURCE:
        raise InvalidArgument.field("trigger_source", f"has {len(source)} characters; send a resource name")


def _times(
    declared: definition.Schedule, start_time: datetime, end_time: datetime, now: datetime
) -> list[datetime]:
    if not start_time < end_time:
        raise InvalidArgument.field("end_time", f"is {end_time}, not after {start_time}; send a later one")
    if end_time > now:
        raise InvalidArgument.field("end_time", f"is {end_time}, in the future; send a time up to now")
    found: list[datetime] = []
    before = start_time - timedelta(seconds=1)
    for moment in takewhile(lambda time: time < end_time, schedule.times(declared, before)):
        if moment >= start_time:
            found.append(moment)
        if len(found) > MAX_BACKFILL:
            message = f"is {end_time}: the window holds more than {MAX_BACKFILL} times; send a shorter one"
            raise InvalidArgument.field("end_time", message)
    return found


def _traceparent() -> str:
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier.get("traceparent", "")
