"""Events on their way to monitoring: in order, in batches, again until they are taken, beside the replies.

Monitoring keeps the highest sequence of a spool with the rows, so a batch that comes twice changes nothing.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence

from prometheus_client import Counter, Gauge
from slipway_runtime.errors import InvalidArgument, SlipwayError

from slipway_inference.engine.outbox import Batch, Outbox
from slipway_inference.engine.spool import DROPPED

SENT = Counter("slipway_inference_events_sent_total", "Events that monitoring has taken")
FAILED = Counter("slipway_inference_delivery_failures_total", "Calls to monitoring that failed", ["reason"])
LAG = Gauge(
    "slipway_inference_delivery_lag_seconds", "Time for which the oldest undelivered event has waited"
)

_MOST_BYTES, _MOST_EVENTS = 512 << 10, 1000
_CALL_S = 10.0
# Few large calls cost the replies less than many small ones; verdicts can wait that long.
_GATHER_S = 0.2
# A spool that says nothing for long is given up; this one lives.
_IDLE_S = 10.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0

log = logging.getLogger(__name__)
Report = Callable[[Batch, float], int]


class Courier:
    """Brings one outbox after the other to monitoring.

    Args:
        report: Sends a batch within so many seconds; returns the sequence that is acknowledged.
        wait: Waits so many seconds, or less when there is something else to do.
    """

    def __init__(self, report: Report, wait: Callable[[float], object]) -> None:
        self._report = report
        self._wait = wait
        self._pause_s = _FIRST_PAUSE_S
        self._most = _MOST_EVENTS
        self._refusal = ""

    def deliver(self, outbox: Outbox, left_s: Callable[[], float]) -> bool:
        """Send all that it holds now; return whether that was done in the time that is left."""
        while left_s() > 0:
            batch = self.next_of(outbox)
            if not batch.records:
                return True
            self.send(outbox, batch, left_s)
        return False

    def next_of(self, outbox: Outbox) -> Batch:
        """Return what is to be sent next."""
        return outbox.batch(_MOST_BYTES, self._most)

    def finish(self, outbox: Outbox, left_s: Callable[[], float]) -> bool:
        """Send all that it holds, say that nothing more will come, remove it; return whether it was done."""
        if not self.deliver(outbox, left_s):
            return False
        while outbox.original and not self.send(outbox, outbox.closing_batch(), left_s):
            if left_s() <= 0:
                return False
        outbox.remove()
        return True

    def send(self, outbox: Outbox, batch: Batch, left_s: Callable[[], float]) -> bool:
        """Send one batch; return whether it was taken. After a failure some time has passed."""
        try:
            acknowledged = self._report(batch, max(min(_CALL_S, left_s()), 0.1))
        except Exception as error:  # such as a token's file that is not there yet: the thread must live
            self._refused(outbox, batch, error)
            return False
        outbox.acknowledge(acknowledged)
        SENT.inc(len(batch.records))
        self._pause_s, self._refusal = _FIRST_PAUSE_S, ""
        self._most = min(2 * self._most, _MOST_EVENTS)
        return True

    def _refused(self, outbox: Outbox, batch: Batch, error: Exception) -> None:
        reason = error.reason if isinstance(error, SlipwayError) else type(error).__name__
        FAILED.labels(reason).inc()
        if reason == "SEQUENCE_GAP" and isinstance(error, SlipwayError):
            outbox.acknowledge(int(error.metadata["expected_sequence"]) - 1)
        elif isinstance(error, InvalidArgument) and len(batch.records) == 1:
            log.error("an event is refused and not sent again: %s", error)
            DROPPED.labels("refused").inc()
            outbox.pass_over(batch.records[0][0])
        elif isinstance(error, InvalidArgument) and batch.records:
            self._most = len(batch.records) // 2  # one of them is not taken, or they are too many
        else:
            self._back_off(reason, error)

    def _back_off(self, reason: str, error: Exception) -> None:
        """Wait, longer each time, with full jitter so that fronts do not come back together."""
        if self._refusal != reason:
            self._refusal = reason
            log.warning("events wait, monitoring does not take them: %s", error)
        self._wait(random.uniform(0, self._pause_s))
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)


class Delivery:
    """The thread that delivers a front's spool, and what its folder holds of others.

    Args:
        outbox: Of the spool that is written to.
        others: Delivered, closed and removed first.
        report: As the courier's.
    """

    def __init__(self, *, outbox: Outbox, others: Sequence[Outbox], report: Report) -> None:
        self._outbox = outbox
        self._others = list(others)
        self._stopping = threading.Event()
        self._courier = Courier(report, self._wait)
        self._until = float("inf")
        self._done = False
        self._told_at = float("-inf")
        self._level_at = time.monotonic()
        LAG.set_function(lambda: time.monotonic() - self._level_at)
        self._thread = threading.Thread(target=self._run, name="delivery", daemon=True)

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def stop(self, within_s: float) -> bool:
        """Deliver what is left and say that the spool is closed; return whether all of that was done in time.

        What was not stays on the disk for whoever comes to the folder next.
        """
        self._until = time.monotonic() + within_s
        self._stopping.set()
        self._thread.join(within_s + _CALL_S)
        return self._done

    def _run(self) -> None:
        while self._others and not self._stopping.is_set():
            if self._courier.finish(self._others[0], self._left_s):
                del self._others[0]
        while not self._stopping.is_set():
            if not self._turn():
                self._stopping.wait(_GATHER_S)
        outboxes = (*self._others, self._outbox)
        self._done = sum(self._courier.finish(one, self._left_s) for one in outboxes) == len(outboxes)

    def _turn(self) -> bool:
        """Send one batch, if there is one; return whether another is there already."""
        began, last = time.monotonic(), self._outbox.segments.last
        batch = self._courier.next_of(self._outbox)
        if not batch.records and began - self._told_at < _IDLE_S:
            self._level_at = began
            return False
        if not self._courier.send(self._outbox, batch, self._left_s):
            return True
        self._told_at = began
        more = bool(batch.records) and batch.records[-1][0] < last
        if not more:
            self._level_at = began
        return more

    def _left_s(self) -> float:
        return self._until - time.monotonic()

    def _wait(self, seconds: float) -> None:
        if self._stopping.is_set():
            time.sleep(max(min(seconds, self._left_s(), 1.0), 0.0))
        else:
            self._stopping.wait(seconds)
