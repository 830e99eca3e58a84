"""Events on disk until monitoring has them: bounded, checksummed, never on the reply path.

Every event gets a sequence when it is made, whether it is kept or not, so that what is lost shows as a gap.
When the bound is reached the oldest segment goes, and its events are counted as dropped. After a restart on
the same folder the spool goes on with its identity and its sequences; what the folder holds of other spools
(the version before, a copy, one whose end was not confirmed) is delivered beside it.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

from prometheus_client import Counter, Gauge

from slipway_inference.engine.ledger import Ledger
from slipway_inference.engine.outbox import Outbox, open_all, without_ledger
from slipway_inference.engine.segments import Segments, framed, read_segment

SPOOLED = Counter("slipway_inference_events_spooled_total", "Events written to the spool")
DROPPED = Counter("slipway_inference_events_dropped_total", "Events that were not kept", ["reason"])
SPOOL_BYTES = Gauge("slipway_inference_spool_bytes", "Bytes of events that wait")

# A writer that wakes for every event fights the replies for the interpreter's lock, so events gather. It is
# also what a kill may lose.
_GATHER_S = 0.05
# A larger event does not go into one call to monitoring.
_MOST_EVENT_BYTES = 24 << 20

log = logging.getLogger(__name__)
Make = Callable[[int], bytes]


class Spool:
    """Takes events from the reply path and writes them in a thread of its own.

    Args:
        folder: Where segments are; None counts events and keeps none.
        max_bytes: Of all segments.
        endpoint: `endpoints/{endpoint}` whose events these are.
        model_version: `models/{model}/versions/{number}` whose events these are.
        segment_bytes: Of one.
        max_waiting: Events that may wait for the writer; more are dropped, counted.
        max_waiting_bytes: Bytes that these may hold in memory.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        max_bytes: int,
        endpoint: str = "",
        model_version: str = "",
        segment_bytes: int = 4 << 20,
        max_waiting: int = 20_000,
        max_waiting_bytes: int = 128 << 20,
    ) -> None:
        self._max_bytes = max_bytes
        self._segment_bytes = min(segment_bytes, max(max_bytes // 4, 1))
        self._max_waiting = max_waiting
        self._max_waiting_bytes = max_waiting_bytes
        self._waiting: deque[tuple[int, Make, int]] = deque()
        self._put_bytes = self._taken_bytes = 0  # each has one writer, so neither needs a lock
        self._arrived, self._closing = threading.Event(), threading.Event()
        self._ledger: Ledger | None = None
        self._segments: Segments | None = None
        self.outbox: Outbox | None = None
        self.others: list[Outbox] = []
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._open(folder, endpoint, model_version)
            self._trim()
        self._thread = threading.Thread(target=self._write_all, name="spool", daemon=True)
        self._thread.start()

    def put(self, make: Make, size: int = 0) -> None:
        """Have an event kept; its bytes are made by the writer. Never waits; call it from one thread.

        Args:
            make: Gives the event's bytes for its sequence.
            size: Bytes that it holds in memory until then.
        """
        sequence = 0
        if self._ledger is not None:
            sequence = self._ledger.produced + 1
            self._ledger.produced = sequence
        behind = self._put_bytes - self._taken_bytes + size
        if len(self._waiting) >= self._max_waiting or behind > self._max_waiting_bytes:
            DROPPED.labels("writer_behind").inc()
            return
        self._put_bytes += size
        self._waiting.append((sequence, make, size))
        if not self._arrived.is_set():
            self._arrived.set()

    def close(self) -> None:
        """Write what waits, durably, and stop; the files stay open for who delivers them."""
        self._closing.set()
        self._arrived.set()
        self._thread.join(10)

    def _open(self, folder: Path, endpoint: str, model_version: str) -> None:
        for path in without_ledger(folder):
            DROPPED.labels("no_ledger").inc(sum(1 for _ in read_segment(path)))
            log.warning("segment %s is removed: the ledger of its spool is lost", path.name)
            path.unlink()
        found, left = open_all(folder, self._segment_bytes)
        for why in left:
            log.warning("a spool in %s is left alone: %s", folder, why)
        own = None
        for ledger, outbox in found:
            same = (ledger.endpoint, ledger.model_version) == (endpoint, model_version)
            if own is None and same and ledger.original and not ledger.closing:
                own = (ledger, outbox)
            else:
                self.others.append(outbox)
        if own is None:
            ledger = Ledger.create(folder, endpoint, model_version)
            own = (ledger, Outbox(ledger, Segments(folder, ledger.identity, self._segment_bytes)))
        self._ledger, self.outbox = own
        self._segments = segments = self.outbox.segments
        SPOOL_BYTES.set_function(lambda: segments.size)

    def _write_all(self) -> None:
        goes_on = True
        while goes_on:
            self._arrived.wait()
            self._closing.wait(_GATHER_S)
            self._arrived.clear()  # before the look at what waits: what comes after it is for the next turn
            goes_on = not self._closing.is_set()
            left = len(self._waiting)
            while left:
                taken, batch = self._next_batch(left)
                left -= taken
                if batch:
                    self._append(batch)

    def _next_batch(self, most: int) -> tuple[int, list[tuple[int, bytes]]]:
        """Return how many events were taken, `most` or about a segment of them, and their records."""
        batch: list[tuple[int, bytes]] = []
        taken = size = 0
        while taken < most and size < self._segment_bytes:
            sequence, make, held = self._waiting.popleft()
            record = _framed(sequence, make)
            self._taken_bytes += held
            taken += 1
            if 0 < len(record) <= min(self._max_bytes, _MOST_EVENT_BYTES):
                batch.append((sequence, record))
                size += len(record)
            elif record:
                DROPPED.labels("too_large").inc()
        return taken, batch

    def _append(self, batch: list[tuple[int, bytes]]) -> None:
        if self._segments is None:
            DROPPED.labels("no_spool").inc(len(batch))
            return
        group: list[bytes] = []
        size = last = 0
        for sequence, record in batch:
            if group and size + len(record) > self._segment_bytes:
                self._write(self._segments, group, last)
                group, size = [], 0
            group.append(record)
            size, last = size + len(record), sequence
        self._write(self._segments, group, last)

    def _write(self, segments: Segments, records: list[bytes], last: int) -> None:
        try:
            segments.append(records, last)
        except OSError:
            DROPPED.labels("disk").inc(len(records))
            return
        SPOOLED.inc(len(records))
        self._trim()

    def _trim(self) -> None:
        if self._segments is None or self._ledger is None:
            return
        while self._segments.size > self._max_bytes:
            lost = self._segments.forget_oldest(self._ledger.acknowledged)
            if lost is None:
                break
            DROPPED.labels("spool_full").inc(lost)


def _framed(sequence: int, make: Make) -> bytes:
    """Return an event as it is kept; nothing when it cannot be made, which must not stop the others."""
    try:
        record = make(sequence)
    except Exception:
        log.exception("an event could not be made")
        DROPPED.labels("not_made").inc()
        return b""
    return framed(sequence, record)
