"""What is done though nobody asks: steps are sent that wait, and schedules start their runs."""

import logging
import time
from collections.abc import Callable

from prometheus_client import Counter, Gauge
from slipway_runtime.db import Database, forget_old

from slipway_pipelines.domain import definition, schedule
from slipway_pipelines.domain.runs import RunState, StepState, Trigger
from slipway_pipelines.store import Definitions, Runs, Steps
from slipway_pipelines.usecases.moving import start

log = logging.getLogger(__name__)

SENT = Counter("slipway_pipelines_sent_total", "Steps that the sweeper sent: looks, retries, and lost tasks")
SCHEDULED = Counter("slipway_pipelines_scheduled_total", "Runs that a schedule started")
RUNS = Gauge("slipway_pipelines_runs", "Runs by state, as the sweeper counted them", ["state"])
STEPS = Gauge("slipway_pipelines_steps", "Live steps by state, as the sweeper counted them", ["state"])
COUNT_EVERY_S = 10.0
FORGET_EVERY_S = 3600.0


class Sweep:
    """One look at what waits.

    Args:
        database: The service's own.
        enqueue: Sends a task with a step's id, and the trace to go on from.
        resend_s: How long a step that was sent may wait before it is sent again.
        grace_s: How late a time of a schedule may be and still not count as missed.
    """

    def __init__(
        self,
        *,
        database: Database,
        enqueue: Callable[[str, str, str], None],
        resend_s: float,
        grace_s: float,
    ) -> None:
        self._database = database
        self._enqueue = enqueue
        self._resend_s = resend_s
        self._grace_s = grace_s
        self._counted_at = self._forgot_at = time.monotonic() - COUNT_EVERY_S

    def run(self) -> None:
        """Start what schedules are due, then send what waits."""
        with self._database.transaction() as connection:
            due = Definitions(connection).due()
        for id in due:
            self._on_time(id)
        with self._database.transaction() as connection:
            waiting = Steps(connection).waiting(self._resend_s)
        for step, traceparent in waiting:
            SENT.inc()
            self._enqueue("step", step, traceparent)
        if time.monotonic() - self._counted_at >= COUNT_EVERY_S:
            self._count()

    def _on_time(self, id: str) -> None:
        """Start the runs of a pipeline's schedule; the next time moves in the transaction that adds them."""
        ready: list[str] = []
        with self._database.transaction() as connection:
            definitions = Definitions(connection)
            pipeline = definitions.get(id, lock=True)
            if pipeline.paused or pipeline.schedule is None or pipeline.next_time is None:
                return
            now = definitions.now()
            times, following = schedule.due(pipeline.schedule, pipeline.next_time, now, self._grace_s)
            version = definitions.newest(id)
            for moment in times:
                started = start(
                    connection,
                    version,
                    definition.resolved(version.definition, {}, strict=True),
                    trigger=Trigger.SCHEDULE,
                    creator="services/pipelines",
                    schedule_time=moment,
                )
                if started is not None:
                    SCHEDULED.inc()
                    ready += started[1]
            last = times[-1] if times else pipeline.last_time
            definitions.move(id, next_time=following, last_time=last)
        for step in ready:
            self._enqueue("step", step, "")

    def _count(self) -> None:
        self._counted_at = time.monotonic()
        with self._database.transaction() as connection:
            runs, steps = Runs(connection).counts(), Steps(connection).counts()
            if time.monotonic() - self._forgot_at >= FORGET_EVERY_S:
                self._forgot_at = time.monotonic()
                forget_old(connection)
        for run_state in RunState:
            RUNS.labels(run_state.value).set(runs.get(run_state.value, 0))
        for step_state in StepState:
            if not step_state.ended:
                STEPS.labels(step_state.value).set(steps.get(step_state.value, 0))
