"""Spans in and out; returns domain objects."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text

from slipway_monitoring.domain.spans import Span, Trace, TraceFilter
from slipway_monitoring.store.rows import Rows

MAX_EDGE_SPANS = 200_000
# Traces with a span in the time asked for, by the index over start_time; those that began earlier go later.
_AMONG = (
    "WHERE trace_id IN (SELECT trace_id FROM spans "
    "WHERE start_time >= coalesce(CAST(:begin AS timestamptz), '-infinity') "
    "AND start_time < coalesce(CAST(:end AS timestamptz), 'infinity'))"
)


class SpanStore(Rows):
    """Spans on one connection, within the caller's transaction."""

    def add_spans(self, spans: Sequence[Span]) -> int:
        """Keep spans in one statement; those that came before stay. Return how many are new."""
        rows = self._rows(
            "WITH new AS (INSERT INTO spans SELECT r.trace_id, r.span_id, r.parent_span_id, r.service, "
            "r.operation, r.kind, r.start_time, r.duration_us, r.error, r.status_message, r.attributes, "
            "r.links, r.prediction_id FROM jsonb_to_recordset(CAST(:spans AS jsonb)) AS r(trace_id text, "
            "span_id text, parent_span_id text, service text, operation text, kind text, "
            "start_time timestamptz, duration_us bigint, error boolean, status_message text, "
            "attributes jsonb, links jsonb, prediction_id text) ON CONFLICT DO NOTHING RETURNING 1) "
            "SELECT count(*) AS stored FROM new",
            spans=json.dumps([_as_json(span) for span in spans]),
        )
        return int(rows[0].stored)

    def trace(self, trace_id: str) -> list[Span]:
        """Return the spans of a trace."""
        return [_span(row) for row in self._rows("SELECT * FROM spans WHERE trace_id = :id", id=trace_id)]

    def trace_of_prediction(self, prediction_id: str) -> str:
        """Return the id of the trace in which a prediction was made, or nothing."""
        rows = self._rows(
            "SELECT trace_id FROM spans WHERE prediction_id = :id AND prediction_id <> '' LIMIT 1",
            id=prediction_id,
        )
        return str(rows[0].trace_id) if rows else ""

    def traces(self, wanted: TraceFilter, before: tuple[datetime, str] | None, limit: int) -> list[Trace]:
        """Return traces without their spans, newest first."""
        rows = self._rows(
            "SELECT * FROM (SELECT trace_id, min(start_time) AS start_time, "
            "array_agg(DISTINCT service) AS services, bool_or(error) AS error, "
            "max(start_time + duration_us * interval '1 microsecond') AS end_time, "
            "(array_agg(operation ORDER BY parent_span_id <> '', start_time))[1] AS root, "
            "(array_agg(service ORDER BY parent_span_id <> '', start_time))[1] AS root_service FROM spans "
            f"{_AMONG if wanted.start_time or wanted.end_time else ''} GROUP BY trace_id) AS t "
            "WHERE (:service = '' OR :service = ANY(services)) AND (NOT :errors_only OR error) "
            "AND (:root_service = '' OR root_service = :root_service) "
            "AND (CAST(:begin AS timestamptz) IS NULL OR start_time >= :begin) "
            "AND (CAST(:end AS timestamptz) IS NULL OR start_time < :end) "
            "AND (CAST(:time AS timestamptz) IS NULL OR (start_time, trace_id) < (:time, :id)) "
            "ORDER BY start_time DESC, trace_id DESC LIMIT :limit",
            service=wanted.service,
            root_service=wanted.root_service,
            errors_only=wanted.errors_only,
            begin=wanted.start_time,
            end=wanted.end_time,
            time=before[0] if before else None,
            id=before[1] if before else "",
            limit=limit,
        )
        return [_trace(row) for row in rows]

    def recent(self, window_s: float) -> list[Span]:
        """Return the spans of the last seconds, the newest first, at most 200,000."""
        rows = self._rows(
            "SELECT * FROM spans WHERE start_time > clock_timestamp() - make_interval(secs => :window) "
            "ORDER BY start_time DESC LIMIT :limit",
            window=window_s,
            limit=MAX_EDGE_SPANS,
        )
        return [_span(row) for row in rows]

    def forget(self, hours: float, max_spans: int) -> int:
        """Delete spans that are too old or too many; return how many went."""
        old = self._connection.execute(
            text("DELETE FROM spans WHERE start_time < clock_timestamp() - make_interval(secs => :seconds)"),
            {"seconds": hours * 3600},
        )
        many = self._connection.execute(
            text(
                "DELETE FROM spans WHERE (start_time, trace_id, span_id) <= (SELECT start_time, trace_id, "
                "span_id FROM spans ORDER BY start_time DESC, trace_id DESC, span_id DESC "
                "OFFSET :most LIMIT 1)"
            ),
            {"most": max_spans},
        )
        return int(old.rowcount) + int(many.rowcount)


def _as_json(span: Span) -> dict[str, Any]:
    return {
        **span.__dict__,
        "start_time": span.start_time.isoformat(),
        "attributes": dict(span.attributes),
        "links": list(span.links),
    }


def _span(row: Row[Any]) -> Span:
    return Span(**dict(row._mapping))


def _trace(row: Row[Any]) -> Trace:
    duration_us = int((row.end_time - row.start_time).total_seconds() * 1e6)
    return Trace(
        row.trace_id, row.start_time, duration_us, row.services, row.root, row.root_service, row.error
    )
