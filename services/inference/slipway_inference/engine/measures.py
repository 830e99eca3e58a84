"""What a slot counts: for Prometheus, and for KServe's ModelStatistics."""

from dataclasses import dataclass, field

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

QUEUE_ROWS = Gauge("slipway_inference_queue_rows", "Rows that wait for a batch", ["model"])
SLOT_READY = Gauge("slipway_inference_slot_ready", "Whether the slot takes calls (1) or not (0)", ["model"])
RESTARTS = Counter(
    "slipway_inference_engine_restarts_total", "Engine processes that ended unasked", ["model"]
)
BATCH_ROWS = Histogram("slipway_inference_batch_rows", "Rows per executed batch", ["model"], buckets=_ROWS)
BATCHES = Counter(
    "slipway_inference_batches_total", "Executed batches by why they had their size", ["model", "reason"]
)
BATCH_LIMIT = Gauge("slipway_inference_batch_limit_rows", "Rows a batch may have now", ["model"])
QUEUE_SECONDS = Histogram(
    "slipway_inference_queue_seconds", "Time from arrival to the batch", ["model"], buckets=_SECONDS
)
COMPUTE_SECONDS = Histogram(
    "slipway_inference_compute_seconds", "Time in the engine", ["model"], buckets=_SECONDS
)
REFUSED = Counter(
    "slipway_inference_refused_total", "Requests not answered with a result", ["model", "reason"]
)


@dataclass
class Span:
    """How often and how long in all."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int, count: int = 1) -> None:
        """Count `count` more of `ns` nanoseconds each."""
        self.count += count
        self.ns += ns * count


@dataclass
class BatchSpan:
    """One batch size: how long its inputs, its computing and its outputs took."""

    copy_in: Span = field(default_factory=Span)
    compute: Span = field(default_factory=Span)
    copy_out: Span = field(default_factory=Span)


class SlotMeasures:
    """The counts of one slot since the front started; a restarted engine goes on counting."""

    def __init__(self, model: str) -> None:
        self.rows = 0
        self.batches = 0
        self.last_ms = 0
        self.success, self.failure, self.queue = Span(), Span(), Span()
        self.copy_in, self.compute, self.copy_out = Span(), Span(), Span()
        self.by_rows: dict[int, BatchSpan] = {}
        self.by_reason: dict[str, int] = {}
        self._model = model
        self.queue_rows = QUEUE_ROWS.labels(model)
        self.ready = SLOT_READY.labels(model)
        self.restarts = RESTARTS.labels(model)
        self._batch_rows = BATCH_ROWS.labels(model)
        self._limit = BATCH_LIMIT.labels(model)
        self._queue_seconds = QUEUE_SECONDS.labels(model)
        self._compute_seconds = COMPUTE_SECONDS.labels(model)

    def batch(
        self, *, rows: int, requests: int, reason: str, limit: int, ns: tuple[int, int, int], now_ms: int
    ) -> None:
        """Count one executed batch; `ns` is copy in, compute, copy out."""
        self.rows += rows
        self.batches += 1
        self.last_ms = now_ms
        self.by_reason[reason] = self.by_reason.get(reason, 0) + 1
        size = self.by_rows.setdefault(rows, BatchSpan())
        pairs = ((self.copy_in, size.copy_in), (self.compute, size.compute), (self.copy_out, size.copy_out))
        for (whole, one), spent in zip(pairs, ns, strict=True):
            whole.add(spent, requests)
            one.add(spent)
        self._batch_rows.observe(rows)
        self._compute_seconds.observe(ns[1] / 1e9)
        BATCHES.labels(self._model, reason).inc()
        self._limit.set(limit)

    def answered(self, queue_ns: int, total_ns: int) -> None:
        """Count one request that got its result."""
        self.queue.add(queue_ns)
        self.success.add(total_ns)
        self._queue_seconds.observe(queue_ns / 1e9)

    def refused(self, reason: str, total_ns: int = 0) -> None:
        """Count one request that got none."""
        self.failure.add(total_ns)
        REFUSED.labels(self._model, reason).inc()
