"""Traces: receive spans, show traces and edges, forget."""

from collections.abc import Sequence
from datetime import datetime

from prometheus_client import Counter
from slipway_runtime.db import Database, PageToken, page_size
from slipway_runtime.errors import InvalidArgument, NotFound

from slipway_monitoring.domain.spans import (
    Edge,
    Span,
    Trace,
    TraceFilter,
    edges,
    prediction_of,
    trace_id_of,
    trace_of,
)
from slipway_monitoring.store.spans import SpanStore

SPANS = Counter("slipway_monitoring_spans_total", "Spans kept.")
FORGOTTEN = Counter("slipway_monitoring_spans_forgotten_total", "Spans deleted by age or count.")
DEFAULT_WINDOW_S = 300
MAX_WINDOW_S = 86_400


class Traces:
    """The verbs over spans."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def receive(self, spans: Sequence[Span]) -> None:
        """Keep spans; they are durable when this returns, and coming twice changes nothing."""
        if not spans:
            return
        with self._database.transaction() as connection:
            stored = SpanStore(connection).add_spans(spans)
        SPANS.inc(stored)

    def get(self, name: str) -> Trace:
        """Return one trace.

        Raises:
            NotFound: No span of it is kept.
        """
        return self._whole(trace_id_of(name), name)

    def find(self, prediction_id: str) -> Trace:
        """Return the trace of a prediction, given its id with or without the row.

        Raises:
            NotFound: No span names it.
        """
        with self._database.transaction() as connection:
            trace_id = SpanStore(connection).trace_of_prediction(prediction_of(prediction_id))
        return self._whole(trace_id, prediction_id)

    def _whole(self, trace_id: str, asked: str) -> Trace:
        with self._database.transaction() as connection:
            spans = SpanStore(connection).trace(trace_id) if trace_id else []
        if not spans:
            message = f"no span of {asked!r} is kept: it never came, or it is older than the retention"
            raise NotFound("TRACE_NOT_FOUND", message, metadata={"name": asked})
        return trace_of(spans)

    def list(self, wanted: TraceFilter, size: int, token: str) -> tuple[Sequence[Trace], str]:
        """Return a page of traces without their spans, newest first."""
        listing = ("traces", *map(str, vars(wanted).values()))
        limit, tokens = page_size(size), PageToken(listing, (str, str))
        after = tokens.decode(token)
        try:
            before = (datetime.fromisoformat(after[0]), str(after[1])) if after else None
        except ValueError as error:
            description = "is not one of this listing; repeat it without, from the first page"
            raise InvalidArgument.field("page_token", description, reason="INVALID_PAGE_TOKEN") from error
        with self._database.transaction() as connection:
            found = SpanStore(connection).traces(wanted, before, limit + 1)
        last = found[limit - 1] if len(found) > limit else None
        return found[:limit], tokens.encode(last.start_time.isoformat(), last.trace_id) if last else ""

    def edges(self, window_s: int) -> Sequence[Edge]:
        """Return who called whom in the last seconds."""
        if window_s < 0 or window_s > MAX_WINDOW_S:
            raise InvalidArgument.field("window_s", f"is {window_s}; give 1 to {MAX_WINDOW_S}, or 0 for 300")
        window = window_s or DEFAULT_WINDOW_S
        with self._database.transaction() as connection:
            spans = SpanStore(connection).recent(window)
        return edges(spans, window)

    def forget(self, hours: float, max_spans: int) -> None:
        """Delete spans that are too old or too many."""
        with self._database.transaction() as connection:
            FORGOTTEN.inc(SpanStore(connection).forget(hours, max_spans))
