"""Predicted rows out: one, a page, a window of a version in the order of arrival."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Row

from slipway_monitoring.domain.answers import matrix
from slipway_monitoring.domain.events import Role, Tensor
from slipway_monitoring.domain.predictions import Prediction, Wanted, Window
from slipway_monitoring.store.rows import Rows

# What a row's class is called: by its index where the version's classes are not known.
CLASS_NAME = (
    "CASE WHEN p.predicted < 0 THEN '' ELSE coalesce(v.classes[p.predicted + 1], p.predicted::text) END"
)
_PREDICTION = (
    "SELECT p.prediction_id, p.row, p.arrival, e.name AS endpoint, v.name AS model_version, p.role, p.time, "
    "coalesce(replace(p.trace_id::text, '-', ''), '') AS trace_id, p.request_id, p.latency_ms, "
    f"{CLASS_NAME} AS predicted_label, p.confidence, p.probabilities, p.captured, "
    "coalesce(l.label, '') AS label, coalesce(l.source, '') AS label_source, l.time AS label_time "
    "FROM predictions p JOIN endpoints e ON e.id = p.endpoint JOIN versions v ON v.id = p.version "
    "LEFT JOIN labels l ON l.prediction_id = p.prediction_id AND l.row = p.row "
)


class PredictionStore(Rows):
    """Predicted rows on one connection."""

    def get(self, prediction_id: str, row: int) -> Prediction | None:
        """Return one row, or None."""
        found = self._rows(
            f"{_PREDICTION} WHERE p.prediction_id = :id AND p.row = :row", id=prediction_id, row=row
        )
        return _prediction(found[0]) if found else None

    def list(self, wanted: Wanted, endpoint: int, before: int, limit: int) -> list[Prediction]:
        """Return rows of an endpoint that arrived before a place, the last to arrive first.

        Args:
            wanted: Which.
            endpoint: Its number.
            before: Arrival that the rows lie before.
            limit: Rows at most.
        """
        first, last = self._arrivals(endpoint, wanted.start_time, wanted.end_time)
        found = self._rows(
            f"{_PREDICTION} WHERE p.endpoint = :endpoint AND p.arrival > :first AND p.arrival <= :last "
            "AND p.arrival < :before AND (:version = '' OR v.name = :version) "
            "AND p.time >= coalesce(CAST(:start AS timestamptz), '-infinity') "
            "AND p.time < coalesce(CAST(:end AS timestamptz), 'infinity') "
            "AND (NOT :labelled OR l.label IS NOT NULL) AND (NOT :captured OR p.captured) "
            "AND (:confidence <= 0 OR p.confidence <= :confidence) ORDER BY p.arrival DESC LIMIT :limit",
            endpoint=endpoint,
            first=first,
            last=last,
            before=before,
            version=wanted.model_version,
            start=wanted.start_time,
            end=wanted.end_time,
            labelled=wanted.labelled_only,
            captured=wanted.captured_only,
            confidence=wanted.max_confidence,
            limit=limit,
        )
        return [_prediction(row) for row in found]

    def window(
        self, endpoint: str, model_version: str, after: int, limit: int, role: Role = Role.LIVE
    ) -> Window:
        """Return the rows of a version that arrived after a place, in the order of their arrival.

        Arrivals are numbered per endpoint, from 1, under a lock: when a number is seen, all lower ones were
        committed before. So a reader that goes on after `Window.last_arrival` sees each row once.

        Args:
            endpoint: `endpoints/{endpoint}`.
            model_version: `models/{model}/versions/{number}`.
            after: Arrival of the last row that was read; 0 begins.
            limit: Rows at most.
            role: Whose rows.
        """
        found = self._rows(
            "SELECT p.endpoint, p.arrival, p.time, p.prediction_id, p.row, p.predicted, p.confidence, "
            "p.captured, p.probabilities, p.embedding FROM predictions p "
            "WHERE p.endpoint = (SELECT id FROM endpoints WHERE name = :endpoint) "
            "AND p.version = (SELECT id FROM versions WHERE name = :version) AND p.role = :role "
            "AND p.arrival > :after ORDER BY p.arrival LIMIT :limit",
            endpoint=endpoint,
            version=model_version,
            role=int(role),
            after=after,
            limit=limit,
        )
        captured = [int(row.arrival) for row in found if row.captured]
        inputs = self.inputs(found[0].endpoint, captured) if captured else {}
        return Window(
            arrivals=np.array([row.arrival for row in found], dtype=np.int64),
            times=[row.time for row in found],
            prediction_ids=[row.prediction_id for row in found],
            rows=[row.row for row in found],
            classes=np.array([row.predicted for row in found], dtype=np.int64),
            confidences=np.array([row.confidence for row in found], dtype=np.float64),
            probabilities=_matrix([row.probabilities for row in found]),
            embeddings=_matrix([row.embedding for row in found]),
            inputs=[inputs.get(int(row.arrival), {}) for row in found],
        )

    def inputs(self, endpoint: int, arrivals: Sequence[int]) -> dict[int, Mapping[str, Tensor]]:
        """Return captured inputs by arrival and name; those that are forgotten are missing."""
        rows = self._rows(
            "SELECT arrival, name, datatype, shape, data FROM captures "
            "WHERE endpoint = :endpoint AND arrival = ANY(:arrivals)",
            endpoint=endpoint,
            arrivals=list(arrivals),
        )
        found: dict[int, dict[str, Tensor]] = {}
        for row in rows:
            found.setdefault(int(row.arrival), {})[row.name] = Tensor(
                row.datatype, tuple(row.shape), bytes(row.data)
            )
        return dict(found)

    def _arrivals(self, endpoint: int, start: datetime | None, end: datetime | None) -> tuple[int, int]:
        """Return between which arrivals all rows answered in a time lie; others may lie there too."""
        if start is None and end is None:
            return 0, 2**62
        (row,) = self._rows(
            "SELECT coalesce(min(after_arrival), 0) AS first, coalesce(max(last_arrival), 0) AS last "
            "FROM outcomes WHERE endpoint = :endpoint AND row_count > 0 "
            "AND second >= coalesce(floor(extract(epoch FROM CAST(:start AS timestamptz))), 0) "
            "AND second <= coalesce(floor(extract(epoch FROM CAST(:end AS timestamptz))), 1e12)",
            endpoint=endpoint,
            start=start,
            end=end,
        )
        return int(row.first), int(row.last)


def _prediction(row: Row[Any]) -> Prediction:
    fields = dict(row._mapping)
    probabilities = np.frombuffer(bytes(fields["probabilities"]), "<f4").astype(float).tolist()
    return Prediction(**{**fields, "probabilities": probabilities})


def _matrix(vectors: Sequence[bytes]) -> NDArray[np.float32] | None:
    sizes = set(map(len, vectors))
    return matrix(vectors) if len(sizes) == 1 and sizes != {0} else None
