"""What a worker does with a step: claim, run, end. Row first, task second, sweeper third."""

import logging
import shutil
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentelemetry import propagate, trace
from prometheus_client import Counter
from slipway_runtime import archive, telemetry
from slipway_runtime.db import Database
from slipway_runtime.errors import DeadlineExceeded, Unavailable
from slipway_runtime.objects import ObjectStore

from slipway_pipelines.domain import runs as domain
from slipway_pipelines.domain.definition import Kind, Step, Version
from slipway_pipelines.domain.errors import FencedError
from slipway_pipelines.domain.runs import Run, StepRun
from slipway_pipelines.engine.process import Answer, StepProcess
from slipway_pipelines.store import Definitions, Runs, Steps
from slipway_pipelines.store.tables import now
from slipway_pipelines.usecases.definitions import code_key
from slipway_pipelines.usecases.ending import MAX_DEATHS, Ending
from slipway_pipelines.usecases.moving import Mover

log = logging.getLogger(__name__)

ATTEMPTS = Counter("slipway_pipelines_attempts_total", "Attempts that ended", ["outcome"])
LEASE_EXPIRED = "its lease expired: the worker died or hung"
LOOK_S = 0.1
LOOK_TIMEOUT_S = 60.0  # of one look of a sensor
WRITES_FOR_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Claimed:
    """A step that this worker holds."""

    run: Run
    version: Version
    step: Step
    row: StepRun
    inputs: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What attempts work with.

    Attributes:
        work_dir: For code and attempts; may be lost.
        environment: How a step reaches the platform; called at each attempt's start, since tokens rotate.
        host: Name of this host.
        lease_s: How long a silent worker keeps a step.
    """

    database: Database
    objects: ObjectStore
    work_dir: Path
    environment: Callable[[], dict[str, str]]
    host: str
    lease_s: float


class Attempts:
    """The worker's verbs over steps.

    Args:
        bench: What attempts work with.
        enqueue: Sends a task with a step's id, and the trace to go on from.
    """

    def __init__(self, *, bench: Bench, enqueue: Callable[[str, str, str], None]) -> None:
        self._bench = bench
        self._enqueue = enqueue
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Make running attempts give their steps back, and begin no more."""
        self._stopping.set()

    def clear_leftovers(self) -> None:
        """Remove what a worker that was killed left behind of its attempts, when this one starts."""
        shutil.rmtree(self._bench.work_dir / "attempts", ignore_errors=True)

    def run(self, id: str) -> None:
        """Make one attempt at a step, unless another holds it, or its time has not come, or it has ended."""
        if self._stopping.is_set():
            return
        claimed = self._claim(id)
        if claimed is None:
            return
        row = claimed.row
        with telemetry.tracer.start_as_current_span(f"step {row.item}") as span:
            span.set_attributes({"slipway.run": claimed.run.name, "slipway.attempt": row.attempt})
            answer, log_tail = self._attempt(claimed)
            if answer.kind in {"failed", "lost"}:
                span.set_status(trace.StatusCode.ERROR, answer.why)
            self._end(claimed, answer, log_tail)

    def _claim(self, id: str) -> Claimed | None:
        """Take the step with a lease, under the run's and the row's lock; None when it is not to be had."""
        run_id, name, index = domain.split_id(id)
        ready: list[str] = []
        with self._bench.database.transaction() as connection:
            steps = Steps(connection)
            run = Runs(connection).of_id(run_id, lock=True)
            row = steps.get(run_id, name, index, lock=True)
            if run is None or row is None or not self._free(steps, row):
                return None
            version = Definitions(connection).version(run.pipeline, run.version)
            mover = Mover(connection, run, version)
            step = version.definition.step(name)
            end = self._end_unclaimed(Definitions(connection), steps, run, step, row)
            if end is None:
                row = steps.begin(row, self._bench.host, self._bench.lease_s)
                Runs(connection).begin(run.id)
                inputs = mover.inputs(step, index)
            else:
                steps.change(run_id, name, index, **end, end_time=now(), due_time=None)
                ready = mover.advance()
        self._send(ready, run)
        return None if end else Claimed(run=run, version=version, step=step, row=row, inputs=inputs)

    @staticmethod
    def _free(steps: Steps, row: StepRun) -> bool:
        if row.state is domain.StepState.PENDING:
            return steps.due(row)
        return row.state is domain.StepState.RUNNING and not steps.leased(row)

    @staticmethod
    def _end_unclaimed(
        definitions: Definitions, steps: Steps, run: Run, step: Step, row: StepRun
    ) -> dict[str, Any] | None:
        """Note a death of the attempt before; return how the step ends when no more attempt may begin."""
        deaths = row.deaths
        if row.state is domain.StepState.RUNNING:
            deaths += 1
            ATTEMPTS.labels("LOST").inc()
            steps.log_attempt(row, "LOST", LEASE_EXPIRED)
            steps.change(row.run, row.step, row.index, deaths=deaths, error=LEASE_EXPIRED)
        if run.cancel_requested:
            return {"state": "CANCELLED"}
        if deaths >= MAX_DEATHS:
            return {"state": "FAILED", "error": f"gave up after {deaths} attempts that died; {LEASE_EXPIRED}"}
        if step.kind is Kind.SENSOR and row.ready_time is not None:
            waited_s = (definitions.now() - row.ready_time).total_seconds()
            if waited_s > step.timeout_s:
                return {"state": "FAILED", "error": f"it had no answer within {step.timeout_s:g} s"}
        return None

    def _attempt(self, claimed: Claimed) -> tuple[Answer, str]:
        """Run the step in a process of its own; return what came of it and what it printed last."""
        folder = self._bench.work_dir / "attempts" / uuid.uuid4().hex
        try:
            (folder / "code").mkdir(parents=True)
            self._unpack(claimed.version, folder / "code")
            environment = self._bench.environment() | _trace()
            process = StepProcess(_spec(claimed, folder), folder, environment)
            try:
                answer = self._follow(claimed, process)
            finally:
                log_tail = process.close()
            return answer, log_tail
        except (Unavailable, DeadlineExceeded, OSError) as error:
            log.warning("step %s is given back: %s", claimed.row.id, error)
            return Answer("stopped", why=f"given back: {error}"), ""
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _follow(self, claimed: Claimed, process: StepProcess) -> Answer:
        sensor = claimed.step.kind is Kind.SENSOR
        limit_s = min(LOOK_TIMEOUT_S, claimed.step.timeout_s) if sensor else claimed.step.timeout_s
        stop_at = time.monotonic() + limit_s
        renewed_at = time.monotonic()
        while (answer := process.wait(LOOK_S)) is None:
            if self._stopping.is_set():
                return Answer("stopped", why="the worker was stopped")
            if time.monotonic() > stop_at:
                return Answer("failed", why=f"it took longer than {limit_s:g} s and was stopped")
            if time.monotonic() - renewed_at > min(1.0, self._bench.lease_s / 3):
                renewed_at = time.monotonic()
                verdict = self._renew(claimed.row)
                if verdict:
                    return Answer(verdict)
        return answer

    def _renew(self, row: StepRun) -> str:
        """Prolong the lease; return why the attempt must end, or nothing."""
        try:
            with self._bench.database.transaction() as connection:
                return "cancelled" if Steps(connection).renew(row, self._bench.lease_s) else ""
        except FencedError:
            return "fenced"
        except (Unavailable, DeadlineExceeded) as error:
            log.warning("the lease of %s was not renewed (%s); trying again", row.id, error)
            return ""

    def _end(self, claimed: Claimed, answer: Answer, log_tail: str) -> None:
        """Write what came of the attempt, if it still holds the step; else it has no effect."""
        stop_at = time.monotonic() + WRITES_FOR_S
        while True:
            try:
                with self._bench.database.transaction() as connection:
                    ending = Ending(connection, claimed.run, claimed.version, claimed.step, claimed.row)
                    outcome, ready = ending.write(answer, log_tail)
                break
            except FencedError:
                outcome, ready = "FENCED", []
                break
            except (Unavailable, DeadlineExceeded) as error:
                if time.monotonic() > stop_at:
                    log.warning("the end of %s was not written (%s); its lease ends", claimed.row.id, error)
                    return
                time.sleep(0.5)
        ATTEMPTS.labels(outcome).inc()
        self._send(ready, claimed.run)

    def _send(self, ready: list[str], run: Run) -> None:
        for id in ready:
            self._enqueue("step", id, run.traceparent)

    def _unpack(self, version: Version, folder: Path) -> None:
        kept = self._bench.work_dir / "code" / f"{version.code_digest}.tar"
        if not kept.is_file():
            kept.parent.mkdir(parents=True, exist_ok=True)
            part = kept.with_suffix(f".{uuid.uuid4().hex}")
            part.write_bytes(self._bench.objects.get(code_key(version.code_digest)))
            part.rename(kept)
        archive.read(kept.read_bytes()).unpack(folder)


def _trace() -> dict[str, str]:
    """Return what makes the step's own calls part of the run's trace."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return {"SLIPWAY_TRACEPARENT": carrier["traceparent"]} if "traceparent" in carrier else {}


def _spec(claimed: Claimed, folder: Path) -> dict[str, Any]:
    run, row = claimed.run, claimed.row
    time = run.schedule_time
    return {
        "code": str(folder / "code"),
        "file": claimed.version.entry_point.partition(":")[0],
        "step": row.step,
        "sensor": claimed.step.kind is Kind.SENSOR,
        "inputs": claimed.inputs,
        "context": {
            "run": run.name,
            "step": row.step,
            "index": row.index,
            "attempt": row.attempt,
            "request_id": row.request_id,
            "parameters": run.parameters,
            "trigger": run.trigger.value,
            "trigger_source": run.trigger_source,
            "schedule_time": None if time is None else time.isoformat(),
        },
    }
