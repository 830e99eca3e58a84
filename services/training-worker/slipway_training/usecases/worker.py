"""What workers do with jobs of any noun: claim, run, end, sweep. Row first, task second, sweeper third."""

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Generic, TypeVar

from opentelemetry import trace
from prometheus_client import Counter, Gauge
from slipway_runtime import telemetry
from slipway_runtime.db import Database
from slipway_runtime.errors import DeadlineExceeded, Internal, SlipwayError, Unavailable
from slipway_runtime.identity import Caller, acting_as

from slipway_training import domain
from slipway_training.domain import FencedError, LeasedJob, Outcome, State
from slipway_training.store.leases import LeasedRows
from slipway_training.usecases.lease import Heartbeat, InterruptedAttempt

log = logging.getLogger(__name__)

J = TypeVar("J", bound=LeasedJob)
LEASE_EXPIRED = "its lease expired: the worker died or hung"
FENCES = {"STALE_ATTEMPT", "RUN_FINISHED"}


@dataclass(frozen=True)
class Ending:
    """How an attempt ended.

    Attributes:
        retry: Gives the job back.
        counted: Uses up one of the job's attempts.
        values: Columns of the row that say what came of it.
    """

    outcome: Outcome
    error: str = ""
    retry: bool = False
    counted: bool = True
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Meters:
    """What is counted of one noun."""

    attempts: Counter
    resent: Counter
    jobs: Gauge


class Worker(ABC, Generic[J]):
    """The verbs of a worker. A noun names its rows, task and meters, and what an attempt is.

    Args:
        database: The service's own.
        host: Name of this host.
        enqueue: Sends a task with a job's id, and the trace to go on from.
        lease_s: How long a silent worker keeps a job.
        resend_s: How long a job may wait before it is sent again.
    """

    rows: ClassVar[type[LeasedRows[Any]]]
    task: ClassVar[str]
    meters: ClassVar[Meters]

    def __init__(
        self,
        *,
        database: Database,
        host: str,
        enqueue: Callable[[str, str, str], None],
        lease_s: float,
        resend_s: float,
    ) -> None:
        self._database = database
        self._host = host
        self._enqueue = enqueue
        self._lease_s = lease_s
        self._resend_s = resend_s
        self._stopping = threading.Event()

    @abstractmethod
    def _work(self, job: J, heartbeat: Heartbeat) -> Ending:
        """Make an attempt at the job, which holds the lease while `heartbeat` beats."""

    @abstractmethod
    def _close(self, id: str) -> None:
        """Follow up the end of a job; what does not succeed now, the sweeper does."""

    def stop(self) -> None:
        """Make running attempts give their jobs back, and begin no more."""
        self._stopping.set()

    def run(self, id: str) -> None:
        """Make one attempt at a job, unless another holds it or it has ended."""
        if self._stopping.is_set():
            return
        job = self._claim(id)
        if job is None:
            self._close(id)
            return
        with (
            acting_as(Caller(job.creator, frozenset())),
            telemetry.tracer.start_as_current_span(f"attempt {job.name}") as span,
        ):
            span.set_attributes({"slipway.job": job.name, "slipway.attempt": job.attempt})
            ending = self._attempt(job)
            _mark(span, ending)
            self._end(job, ending)

    def sweep(self) -> None:
        """Send again what nobody works at, and follow up what has ended."""
        with self._database.transaction() as connection:
            rows = self.rows(connection)
            jobs = [rows.get(id) for id in rows.waiting(self._resend_s)]
            unclosed = rows.unclosed()
            counts = rows.counts()
        for job in jobs:
            self.meters.resent.inc()
            self._enqueue(self.task, job.id, job.traceparent)
        for id in unclosed:
            self._close(id)
        for state in State:
            self.meters.jobs.labels(state.value).set(counts.get(state.value, 0))

    def _claim(self, id: str) -> J | None:
        """Take the job with a lease, under the row's lock; None when it is not to be had."""
        with self._database.transaction() as connection:
            rows: LeasedRows[J] = self.rows(connection)
            job = rows.get(id, lock=True)
            if job.state.ended or rows.leased(id):
                return None
            if job.state is State.RUNNING:
                self.meters.attempts.labels(Outcome.LOST.value).inc()
                rows.finish_attempt(id, job.attempt, Outcome.LOST, LEASE_EXPIRED)
                job = replace(job, failures=job.failures + 1)
                rows.give_back(id, job.failures)
            if job.cancel_requested:
                rows.end(id, State.CANCELLED)
                return None
            if job.failures >= job.max_attempts:
                rows.end(id, State.FAILED, domain.dead_letter(job, LEASE_EXPIRED))
                return None
            return rows.begin(job, self._host, self._lease_s)

    def _attempt(self, job: J) -> Ending:
        heartbeat = Heartbeat(
            renew=lambda: self._renew(job), interval_s=min(1.0, self._lease_s / 3), stopping=self._stopping
        )
        try:
            with heartbeat:
                return self._work(job, heartbeat)
        except InterruptedAttempt as interrupt:
            return _INTERRUPTED[interrupt.verdict]
        except FencedError:
            return _INTERRUPTED["fenced"]
        except (Unavailable, DeadlineExceeded) as error:
            log.warning("attempt %d of %s is given back: %s", job.attempt, job.name, error)
            return Ending(Outcome.LOST, f"given back: {error}", retry=True, counted=False)
        except (Internal, OSError) as error:
            log.exception("attempt %d of %s failed", job.attempt, job.name)
            return Ending(Outcome.LOST, f"{type(error).__name__}: {error}", retry=True)
        except SlipwayError as error:
            if error.reason in FENCES:
                return _INTERRUPTED["fenced"]
            return Ending(Outcome.FAILED, f"{error.reason}: {error.message}")
        except Exception as error:
            log.exception("attempt %d of %s failed", job.attempt, job.name)
            return Ending(Outcome.FAILED, f"{type(error).__name__}: {error}", retry=True)

    def _renew(self, job: J) -> bool:
        with self._database.transaction() as connection:
            return self.rows(connection).renew(job.id, job.attempt, self._lease_s)

    def _end(self, job: J, ending: Ending) -> None:
        """Write the end, if the attempt still holds the job; else it has no effect."""
        self.meters.attempts.labels(ending.outcome.value).inc()
        with self._database.transaction() as connection:
            rows: LeasedRows[J] = self.rows(connection)
            current = rows.get(job.id, lock=True)
            if current.state is not State.RUNNING or current.attempt != job.attempt:
                return
            rows.finish_attempt(job.id, job.attempt, ending.outcome, ending.error)
            given_back = _settle(rows, current, ending)
        if not given_back:
            self._close(job.id)
        elif (
            ending.counted or self._stopping.is_set()
        ):  # else a neighbour is away: the sweeper waits a little
            self._enqueue(self.task, job.id, job.traceparent)


def _settle(rows: LeasedRows[J], job: J, ending: Ending) -> bool:
    """End the job or give it back; return whether it was given back."""
    if ending.outcome is Outcome.SUCCEEDED:
        rows.end(job.id, State.SUCCEEDED, **ending.values)
        return False
    if ending.outcome is Outcome.CANCELLED or (ending.retry and job.cancel_requested):
        rows.end(job.id, State.CANCELLED)
        return False
    if not ending.retry:
        rows.end(job.id, State.FAILED, ending.error)
        return False
    job = replace(job, failures=job.failures + ending.counted)
    if job.failures >= job.max_attempts:
        rows.end(job.id, State.FAILED, domain.dead_letter(job, ending.error), failures=job.failures)
        return False
    rows.give_back(job.id, job.failures)
    return True


def _mark(span: trace.Span, ending: Ending) -> None:
    span.set_attribute("slipway.outcome", ending.outcome.value)
    if ending.outcome in {Outcome.FAILED, Outcome.LOST}:
        span.set_status(trace.StatusCode.ERROR, ending.error)


_INTERRUPTED = {
    "cancelled": Ending(Outcome.CANCELLED, "cancelled by its owner"),
    "fenced": Ending(Outcome.LOST, "another attempt took the job", retry=True, counted=False),
    "stopping": Ending(Outcome.LOST, "the worker was stopped", retry=True, counted=False),
}
