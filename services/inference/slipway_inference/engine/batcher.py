"""The queue of a slot: bounded by rows, emptied by batches, proof against callers that vanish.

The batch owns its futures: a caller that went away is skipped, never waited for, and never keeps the
others from their answers (in MLServer one cancelled caller hangs the whole batch).
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from opentelemetry.trace import SpanContext
from slipway_runtime.errors import Cancelled, Internal, SlipwayError

from slipway_inference.domain import BatchLimit, BatchReason, Signature, expired, queue_full
from slipway_inference.engine.measures import SlotMeasures
from slipway_inference.engine.region import Region


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a request got, and the batch that it was in."""

    outputs: list[bytes]
    batch_rows: int
    batch_requests: int
    reason: BatchReason
    queue_ns: int
    compute_ns: int
    ended_ns: int
    lead: SpanContext | None


@dataclass(slots=True)
class Pending:
    """One request in the queue.

    Args:
        rows: Its rows.
        parts: Bytes of each input, in the signature's order.
        deadline: By `time.monotonic`; None for none.
        span: Server span of the request when it is traced.
    """

    rows: int
    parts: list[bytes]
    deadline: float | None
    span: SpanContext | None
    answer: asyncio.Future[Outcome]
    arrived_ns: int = field(default_factory=time.monotonic_ns)

    def resolve(self, outcome: Outcome) -> None:
        """Answer, unless the caller has gone."""
        if not self.answer.done():
            self.answer.set_result(outcome)

    def reject(self, error: SlipwayError) -> None:
        """Refuse, unless the caller has gone."""
        if not self.answer.done():
            self.answer.set_exception(error)


@dataclass(slots=True)
class _Batch:
    members: list[Pending]
    rows: int
    reason: BatchReason
    started_ns: int
    copied_ns: int


class Batcher:
    """Takes requests, makes batches while the engine is free, hands the answers out.

    One batch is in the engine at a time: what arrives meanwhile makes the next one as large as may be.
    Callers that were here together a moment ago are waited for, `hold_s` at most: a batch of one costs the
    front as much as a batch of many. Whoever calls alone never waits.
    """

    def __init__(
        self,
        *,
        name: str,
        signature: Signature,
        limit: BatchLimit,
        max_queue_rows: int,
        region: Region,
        execute: Callable[[int], None],
        measures: SlotMeasures,
        hold_s: float = 0.0,
    ) -> None:
        self._name = name
        self._signature = signature
        self._limit = limit
        self._max_queue_rows = max_queue_rows
        self._region = region
        self._execute = execute
        self._measures = measures
        self._queue: deque[Pending] = deque()
        self._rows = 0
        self._running: _Batch | None = None
        self._scheduled = False
        self._hold_s = hold_s
        self._hold: asyncio.TimerHandle | None = None
        self._crowd = 1  # requests that were here at once
        self._hurried = False
        self._loop = asyncio.get_running_loop()

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return not self._queue and self._running is None

    def submit(self, pending: Pending) -> None:
        """Put a request at the end of the queue.

        Raises:
            ResourceExhausted: Its rows do not fit.
        """
        if self._rows + pending.rows > self._max_queue_rows:
            self._sweep()
        if self._rows + pending.rows > self._max_queue_rows:
            raise queue_full(
                self._name, pending.rows, self._rows, self._max_queue_rows, self._retry_after_s()
            )
        self._queue.append(pending)
        self._count(pending.rows)
        here = len(self._queue) + (len(self._running.members) if self._running is not None else 0)
        self._crowd = max(self._crowd, here)
        if pending.deadline is not None and pending.deadline < time.monotonic() + 2 * self._hold_s:
            self._hurried = True
        if self._running is None and not self._scheduled:
            # after the callbacks that are due now: what arrived together goes together
            self._scheduled = True
            self._loop.call_soon(self._next)

    def _count(self, rows: int) -> None:
        self._rows += rows
        self._measures.queue_rows.set(self._rows)

    def _retry_after_s(self) -> float:
        batches = self._rows / self._limit.rows
        return max(batches * self._limit.predicted_ms() / 1000, 0.05)

    def _sweep(self) -> None:
        """Drop who has gone or is too late, so that they hold no place; keep the order."""
        kept = [pending for pending in self._queue if self._alive(pending)]
        self._queue = deque(kept)
        self._rows = 0
        self._count(sum(pending.rows for pending in kept))

    def _alive(self, pending: Pending) -> bool:
        if pending.answer.done():
            return False
        if pending.deadline is not None and pending.deadline <= time.monotonic():
            pending.reject(expired(self._name, (time.monotonic_ns() - pending.arrived_ns) / 1e6))
            return False
        return True

    def _next(self) -> None:
        """Start a batch when the engine is free and somebody waits."""
        self._scheduled = False
        if self._running is not None or not self._queue:
            return
        if self._holds():
            return
        self._sweep()
        count, rows, reason = self._limit.take(pending.rows for pending in self._queue)
        if not count:
            return
        members = [self._queue.popleft() for _ in range(count)]
        self._hurried = False
        self._count(-rows)
        started_ns = time.monotonic_ns()
        self._fill(members)
        self._running = _Batch(members, rows, reason, started_ns, time.monotonic_ns())
        try:
            self._execute(rows)
        except OSError:  # the engine has just ended: `fail` comes from there
            return

    def _holds(self) -> bool:
        """Say whether the batch waits for the rest of the crowd; a timer ends that."""
        if self._hurried or len(self._queue) >= self._crowd or self._rows >= self._limit.rows:
            return False
        left_s = self._hold_s - (time.monotonic_ns() - self._queue[0].arrived_ns) / 1e9
        if left_s <= 0:
            self._crowd = len(self._queue)  # who did not come is not waited for again
            return False
        if self._hold is None:
            self._hold = self._loop.call_later(left_s, self._end_hold)
        return True

    def _end_hold(self) -> None:
        self._hold = None
        self._next()

    def _fill(self, members: list[Pending]) -> None:
        row = 0
        for pending in members:
            for index, part in enumerate(pending.parts):
                self._region.write(index, row, part)
            row += pending.rows

    def on_answer(self, compute_ns: int, worked: bool) -> None:
        """Hand out the answers of the batch in the engine and start the next."""
        batch, self._running = self._running, None
        if batch is None:
            return
        if worked:
            self._hand_out(batch, compute_ns)
        else:
            failure = Internal(
                "ENGINE_FAILED", f"model {self._name!r}: the engine could not compute the batch"
            )
            for pending in batch.members:
                pending.reject(failure)
        self._next()

    def _hand_out(self, batch: _Batch, compute_ns: int) -> None:
        self._limit.observe(batch.rows, compute_ns / 1e6)
        computed_ns, ended_ns = time.monotonic_ns(), time.time_ns()
        lead = next((pending.span for pending in batch.members if pending.span is not None), None)
        row = 0
        for pending in batch.members:
            if not pending.answer.done():
                queue_ns = batch.started_ns - pending.arrived_ns
                outputs = [
                    self._region.read(i, row, pending.rows) for i in range(len(self._signature.outputs))
                ]
                pending.resolve(
                    Outcome(
                        outputs,
                        batch.rows,
                        len(batch.members),
                        batch.reason,
                        queue_ns,
                        compute_ns,
                        ended_ns,
                        lead,
                    )
                )
                self._measures.answered(queue_ns, computed_ns - pending.arrived_ns)
            row += pending.rows
        self._measures.batch(
            rows=batch.rows,
            requests=len(batch.members),
            reason=batch.reason,
            limit=self._limit.rows,
            ns=(batch.copied_ns - batch.started_ns, compute_ns, time.monotonic_ns() - computed_ns),
            now_ms=ended_ns // 1_000_000,
        )

    def fail(self, error: SlipwayError) -> None:
        """Refuse all that runs and waits; the engine is gone."""
        members = self._running.members if self._running is not None else []
        for pending in (*members, *self._queue):
            pending.reject(error)
        self._running = None
        self._queue.clear()
        self._count(-self._rows)


def went_away(name: str) -> Cancelled:
    """Return the error for a caller that cancelled while it waited."""
    return Cancelled("CANCELLED", f"model {name!r}: the caller went away")
