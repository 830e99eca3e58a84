"""Events in: rows with their captured inputs, the labels that waited for them, and their shadow twins."""

from collections.abc import Sequence
from itertools import chain, repeat
from typing import Any

from slipway_monitoring.domain.answers import Answers
from slipway_monitoring.domain.events import Event, Role, Row
from slipway_monitoring.domain.outcomes import Tally
from slipway_monitoring.store.predictions import CLASS_NAME
from slipway_monitoring.store.rows import Rows
from slipway_monitoring.store.sources import Place

# Columns travel as arrays in PostgreSQL's binary form: one statement, and no text is made of numbers.
_INSERT = """
INSERT INTO predictions SELECT u.id, u.row, %(endpoint)b, u.arrival, u.version, u.role,
  'epoch'::timestamptz + u.time_us * interval '1 microsecond', u.latency_ms, u.predicted, u.confidence,
  u.captured, nullif(u.trace_id, '')::uuid, u.request_id, u.probabilities, u.embedding
FROM unnest(%(ids)b::text[], %(rows)b::int[], %(arrivals)b::bigint[], %(versions)b::int[], %(roles)b::int[],
  %(times)b::bigint[], %(latencies)b::float8[], %(classes)b::int[], %(confidences)b::float8[],
  %(captured)b::bool[], %(traces)b::text[], %(requests)b::text[], %(probabilities)b::bytea[],
  %(embeddings)b::bytea[]) AS u(id, row, arrival, version, role, time_us, latency_ms, predicted, confidence,
  captured, trace_id, request_id, probabilities, embedding)
"""
_CAPTURE = """
INSERT INTO captures SELECT %(endpoint)b, u.arrival, u.name, u.datatype,
  coalesce(string_to_array(nullif(u.shape, ''), ',')::int[], '{}'), u.data
FROM unnest(%(arrivals)b::bigint[], %(names)b::text[], %(datatypes)b::text[], %(shapes)b::text[],
  %(data)b::bytea[]) AS u(arrival, name, datatype, shape, data)
"""
_PAIRS = """
WITH new AS (
  SELECT request_id, row, role, arrival, predicted FROM predictions WHERE endpoint = :endpoint
  AND arrival > :after AND arrival <= :last AND request_id <> '' AND role IN (:live, :shadow)
), pair AS (
  SELECT live.request_id, live.row, live.arrival, live.predicted <> shadow.predicted AS differs
  FROM new shadow JOIN predictions live ON live.request_id = shadow.request_id AND live.request_id <> ''
  AND live.row = shadow.row AND live.endpoint = :endpoint AND live.arrival < shadow.arrival
  WHERE shadow.role = :shadow AND live.role = :live
  UNION ALL
  SELECT live.request_id, live.row, live.arrival, live.predicted <> shadow.predicted
  FROM new live JOIN predictions shadow ON shadow.request_id = live.request_id AND shadow.request_id <> ''
  AND shadow.row = live.row AND shadow.endpoint = :endpoint AND shadow.arrival < live.arrival
  WHERE shadow.role = :shadow AND live.role = :live
)
SELECT count(*) AS pairs, count(*) FILTER (WHERE differs) AS differ FROM pair WHERE NOT EXISTS (
  SELECT FROM predictions first WHERE first.request_id = pair.request_id AND first.request_id <> ''
  AND first.row = pair.row AND first.endpoint = :endpoint AND first.role = :live
  AND first.arrival < pair.arrival
)
"""
_LABELS_LOCK = 0x6C6162656C73  # "labels": held by feedback alone, or shared by reporters


class EventStore(Rows):
    """Events on one connection."""

    def share_labels(self) -> None:
        """Wait for feedback that is being taken, and let none begin before the commit."""
        self._rows("SELECT pg_advisory_xact_lock_shared(:lock)", lock=_LABELS_LOCK)

    def own_labels(self) -> None:
        """Wait for events that are being taken, and let none begin before the commit."""
        self._rows("SELECT pg_advisory_xact_lock(:lock)", lock=_LABELS_LOCK)

    def known(self, prediction_ids: Sequence[str]) -> set[str]:
        """Return which predictions are there already: another spool brought them."""
        rows = self._rows(
            "SELECT prediction_id FROM predictions WHERE prediction_id = ANY(:ids) AND row = 0",
            ids=list(prediction_ids),
        )
        return {row.prediction_id for row in rows}

    def add(self, place: Place, events: Sequence[Event], versions: Sequence[int], answers: Answers) -> None:
        """Insert the rows of events of one endpoint, in order.

        Args:
            place: Where they go.
            events: Of one endpoint.
            versions: Number of each event's version.
            answers: Of all rows, in order.
        """
        rows = [row for event in events for row in event.rows]
        self._connection.exec_driver_sql(
            _INSERT,
            {
                "endpoint": place.endpoint,
                "ids": _each(events, [event.prediction_id for event in events]),
                "rows": [number for event in events for number in range(len(event.rows))],
                "arrivals": list(range(place.arrival + 1, place.arrival + len(rows) + 1)),
                "versions": _each(events, versions),
                "roles": _each(events, [event.role for event in events]),
                "times": _each(events, [event.time_us for event in events]),
                "latencies": _each(events, [event.latency_ms for event in events]),
                "classes": answers.classes,
                "confidences": answers.confidences,
                "captured": [bool(row.inputs) for row in rows],
                "traces": _each(events, [event.trace_id for event in events]),
                "requests": _each(events, [event.request_id for event in events]),
                "probabilities": answers.probabilities,
                "embeddings": answers.embeddings,
            },
        )
        self._capture(place, rows)

    def _capture(self, place: Place, rows: Sequence[Row]) -> None:
        kept = [
            (arrival, name, tensor)
            for arrival, row in enumerate(rows, place.arrival + 1)
            for name, tensor in row.inputs.items()
        ]
        if not kept:
            return
        self._connection.exec_driver_sql(
            _CAPTURE,
            {
                "endpoint": place.endpoint,
                "arrivals": [arrival for arrival, _, _ in kept],
                "names": [name for _, name, _ in kept],
                "datatypes": [tensor.datatype for _, _, tensor in kept],
                "shapes": [",".join(map(str, tensor.shape)) for _, _, tensor in kept],
                "data": [tensor.data for _, _, tensor in kept],
            },
        )

    def join_labels(self, place: Place, last_arrival: int, tally: Tally) -> None:
        """Give labels that waited to the rows that came since `place`, and count them."""
        rows = self._rows(
            "UPDATE labels l SET endpoint = p.endpoint, arrival = p.arrival, version = p.version, "
            f"role = p.role, prediction_time = p.time, correct = l.label = {CLASS_NAME} "
            "FROM predictions p JOIN versions v ON v.id = p.version WHERE l.endpoint IS NULL "
            "AND l.prediction_id = p.prediction_id AND l.row = p.row AND p.endpoint = :endpoint "
            "AND p.arrival > :after AND p.arrival <= :last RETURNING p.version, p.role, "
            "floor(extract(epoch FROM p.time))::bigint AS second, l.correct",
            endpoint=place.endpoint,
            after=place.arrival,
            last=last_arrival,
        )
        for row in rows:
            outcome = tally.of(row.second, row.version, row.role)
            outcome.labelled_count += 1
            outcome.correct_count += bool(row.correct)

    def pairs(self, place: Place, last_arrival: int) -> tuple[int, int]:
        """Return how many mirrored rows found their live twin since `place`, and how many differ from it.

        A mirrored row is counted once, when the later of the two arrives; of live rows with one request id
        (a retry) the first is the twin.
        """
        (row,) = self._rows(
            _PAIRS,
            live=int(Role.LIVE),
            shadow=int(Role.SHADOW),
            endpoint=place.endpoint,
            after=place.arrival,
            last=last_arrival,
        )
        return int(row.pairs), int(row.differ)


def _each(events: Sequence[Event], values: Sequence[Any]) -> list[Any]:
    """Return one value per row, given one per event."""
    return list(chain.from_iterable(map(repeat, values, (len(event.rows) for event in events))))
