"""Spans, traces and service edges: what they are, and how edges are read off spans."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from slipway_runtime.errors import InvalidArgument

PROXY = "envoy"  # spans of sidecars: an edge goes through them
SERVING = ("server", "consumer")
_TRACE_NAME = re.compile(r"traces/([0-9a-f]{32})")
_ROW = re.compile(r"\.[0-9]+$")


@dataclass(frozen=True)
class Span:
    """One operation of one service."""

    trace_id: str
    span_id: str
    parent_span_id: str
    service: str
    operation: str
    kind: str
    start_time: datetime
    duration_us: int
    error: bool
    status_message: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    links: Sequence[str] = ()
    prediction_id: str = ""

    @property
    def end_time(self) -> datetime:
        """When it ended."""
        return self.start_time + timedelta(microseconds=self.duration_us)


@dataclass(frozen=True)
class Trace:
    """All kept spans of one request, in start order; `spans` may be left out."""

    trace_id: str
    start_time: datetime
    duration_us: int
    services: Sequence[str]
    root: str
    root_service: str
    error: bool
    spans: Sequence[Span] = ()

    @property
    def name(self) -> str:
        """Resource name."""
        return f"traces/{self.trace_id}"


@dataclass(frozen=True)
class TraceFilter:
    """Which traces are listed; what is empty or None asks for nothing."""

    service: str = ""
    root_service: str = ""
    errors_only: bool = False
    start_time: datetime | None = None
    end_time: datetime | None = None


@dataclass(frozen=True)
class Edge:
    """Who called whom in a window."""

    source: str
    destination: str
    protocol: str
    calls: int
    errors: int
    rate: float
    p95_ms: float


def trace_id_of(name: str) -> str:
    """Return the id in `traces/{id}`.

    Raises:
        InvalidArgument: The name has another form.
    """
    match = _TRACE_NAME.fullmatch(name)
    if match is None:
        raise InvalidArgument.field("name", f"is {name!r}; write traces/ and 32 hexadecimal characters")
    return match[1]


def prediction_of(id: str) -> str:
    """Return a prediction's id without its row."""
    if not id or len(id) > 200:
        raise InvalidArgument.field("prediction_id", f"is {id[:50]!r}; give the id that came with the reply")
    return _ROW.sub("", id)


def trace_of(spans: Sequence[Span]) -> Trace:
    """Return the trace that these spans make; parents come before children where clocks allow."""
    ordered = sorted(spans, key=lambda span: (span.start_time, span.parent_span_id != "", span.span_id))
    known = {span.span_id for span in ordered}
    # spans may name each other as parents: then none is a root, and the first stands for it
    roots = [span for span in ordered if span.parent_span_id not in known] or ordered
    root = min(roots, key=lambda span: span.parent_span_id != "")
    first, last = ordered[0].start_time, max(span.end_time for span in ordered)
    return Trace(
        trace_id=ordered[0].trace_id,
        start_time=first,
        duration_us=int((last - first).total_seconds() * 1e6),
        services=list(dict.fromkeys(span.service for span in ordered)),
        root=root.operation,
        root_service=root.service,
        error=any(span.error for span in ordered),
        spans=ordered,
    )


def edges(spans: Iterable[Span], window_s: float) -> list[Edge]:
    """Return the edges that the spans show.

    A span that serves is a call from its nearest ancestor of another service; spans of sidecars are stepped
    over. A consumer's span is a call over a queue, also within one service.
    """
    by_id = {(span.trace_id, span.span_id): span for span in spans}
    calls: dict[tuple[str, str, str], list[Span]] = {}
    for span in by_id.values():
        if span.kind in SERVING and span.service != PROXY:
            source = _caller(span, by_id)
            if source:
                calls.setdefault((source, span.service, _protocol(span)), []).append(span)
    return [_edge(key, served, window_s) for key, served in sorted(calls.items())]


def _caller(span: Span, by_id: Mapping[tuple[str, str], Span]) -> str:
    above = by_id.get((span.trace_id, span.parent_span_id))
    for _ in range(len(by_id)):
        if above is None:
            return ""
        queued = span.kind == "consumer"
        if above.service != PROXY and (queued or above.service != span.service):
            return above.service
        if above.service != PROXY:
            return ""
        above = by_id.get((above.trace_id, above.parent_span_id))
    return ""


def _protocol(span: Span) -> str:
    if span.kind == "consumer":
        return "queue"
    return "grpc" if "rpc.system" in span.attributes or "rpc.system.name" in span.attributes else "http"


def _edge(key: tuple[str, str, str], served: Sequence[Span], window_s: float) -> Edge:
    durations = sorted(span.duration_us for span in served)
    p95 = durations[min(int(0.95 * len(durations)), len(durations) - 1)]
    errors = sum(span.error for span in served)
    return Edge(*key, len(served), errors, len(served) / window_s, p95 / 1e3)
