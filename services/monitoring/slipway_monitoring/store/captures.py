"""Imports of captured inputs, and the rows that each takes."""

import json
from typing import Any

from sqlalchemy import Row

from slipway_monitoring.domain.captures import CaptureImport, Chosen, Errand, FencedError, ImportSpec
from slipway_monitoring.domain.events import Role, Tensor
from slipway_monitoring.store.predictions import CLASS_NAME
from slipway_monitoring.store.rows import Rows

_SPEC = "endpoint, dataset, branch, start_time, end_time, max_confidence, max_count, attributes"
_COLUMNS = f"id, {_SPEC}, state, commit, example_count, error, create_time, creator"
_DUE = "(state = 'PENDING' OR (state = 'RUNNING' AND lease_until < clock_timestamp()))"
# A captured input is an image when it is (H, W, C) of bytes with as many channels as a PNG has.
_IMAGE = (
    "c.datatype = 'UINT8' AND cardinality(c.shape) = 3 AND c.shape[3] IN (1, 3, 4) "
    "AND length(c.data) = c.shape[1]::bigint * c.shape[2] * c.shape[3] AND length(c.data) > 0"
)


class CaptureImportStore(Rows):
    """The tables `capture_imports` and `capture_import_rows`."""

    def add(self, id: str, spec: ImportSpec, creator: str, traceparent: str) -> CaptureImport:
        """Add an import, PENDING."""
        (row,) = self._rows(
            f"INSERT INTO capture_imports (id, {_SPEC}, creator, traceparent) VALUES (:id, :endpoint, "
            ":dataset, :branch, :start_time, :end_time, :max_confidence, :max_count, "
            f"CAST(:attributes AS jsonb), :creator, :traceparent) RETURNING {_COLUMNS}",
            **{**vars(spec), "attributes": json.dumps(dict(spec.attributes))},
            id=id,
            creator=creator,
            traceparent=traceparent,
        )
        return _capture_import(row)

    def choose(self, id: str, endpoint: int, spec: ImportSpec) -> int:
        """Choose the rows of an import: live ones with a captured image, the least confident first.

        Returns:
            How many.
        """
        (row,) = self._rows(
            "WITH chosen AS (INSERT INTO capture_import_rows (capture_import, prediction_id, row, endpoint, "
            "arrival, version, predicted, confidence) SELECT :id, p.prediction_id, p.row, p.endpoint, "
            "p.arrival, p.version, p.predicted, p.confidence FROM predictions p WHERE p.endpoint = :endpoint "
            "AND p.captured AND p.role = :live AND EXISTS (SELECT FROM captures c "
            f"WHERE c.endpoint = p.endpoint AND c.arrival = p.arrival AND {_IMAGE}) "
            "AND p.time >= coalesce(CAST(:start AS timestamptz), '-infinity') "
            "AND p.time < coalesce(CAST(:end AS timestamptz), 'infinity') "
            "AND (:confidence <= 0 OR p.confidence <= :confidence) "
            "ORDER BY p.confidence, p.arrival LIMIT :limit RETURNING 1) SELECT count(*) AS n FROM chosen",
            id=id,
            endpoint=endpoint,
            live=int(Role.LIVE),
            start=spec.start_time,
            end=spec.end_time,
            confidence=spec.max_confidence,
            limit=spec.max_count,
        )
        return int(row.n)

    def get(self, id: str) -> CaptureImport | None:
        """Return one import, or None."""
        rows = self._rows(f"SELECT {_COLUMNS} FROM capture_imports WHERE id = :id", id=id)
        return _capture_import(rows[0]) if rows else None

    def due(self, limit: int) -> list[str]:
        """Return imports that wait for an attempt, the oldest first."""
        rows = self._rows(
            f"SELECT id FROM capture_imports WHERE state IN ('PENDING', 'RUNNING') AND {_DUE} "
            "AND next_time <= clock_timestamp() ORDER BY serial LIMIT :limit",
            limit=limit,
        )
        return [str(row.id) for row in rows]

    def begin(self, id: str, lease_s: float) -> Errand | None:
        """Give the import to a new attempt, with a lease; None: it ended, or another attempt has it."""
        rows = self._rows(
            "UPDATE capture_imports SET state = 'RUNNING', attempt = attempt + 1, "
            f"lease_until = clock_timestamp() + make_interval(secs => :lease_s) WHERE id = :id AND {_DUE} "
            f"RETURNING id, attempt, failures, {_SPEC}, creator, traceparent",
            id=id,
            lease_s=lease_s,
        )
        if not rows:
            return None
        row = rows[0]
        return Errand(row.id, row.attempt, row.failures, _spec(row), row.creator, row.traceparent)

    def chosen(self, errand: Errand, after: tuple[str, int], limit: int, lease_s: float) -> list[Chosen]:
        """Return the next rows of an import by prediction and row, and prolong the lease.

        Raises:
            FencedError: Another attempt has the import, or it has ended.
        """
        self._fenced(
            "lease_until = clock_timestamp() + make_interval(secs => :lease_s)", errand, lease_s=lease_s
        )
        rows = self._rows(
            "SELECT p.prediction_id, p.row, v.name AS model_version, "
            f"{CLASS_NAME} AS predicted_label, p.confidence, c.datatype, c.shape, c.data "
            "FROM capture_import_rows p JOIN versions v ON v.id = p.version CROSS JOIN LATERAL "
            "(SELECT c.datatype, c.shape, c.data FROM captures c WHERE c.endpoint = p.endpoint "
            f"AND c.arrival = p.arrival AND {_IMAGE} ORDER BY c.name LIMIT 1) c "
            "WHERE p.capture_import = :id AND (p.prediction_id, p.row) > (:prediction, :row) "
            "ORDER BY p.prediction_id, p.row LIMIT :limit",
            id=errand.id,
            prediction=after[0],
            row=after[1],
            limit=limit,
        )
        return [
            Chosen(
                row.prediction_id,
                row.row,
                row.model_version,
                row.predicted_label,
                row.confidence,
                Tensor(row.datatype, tuple(row.shape), bytes(row.data)),
            )
            for row in rows
        ]

    def succeed(self, errand: Errand, commit: str, example_count: int, error: str) -> None:
        """End the import with its commit.

        Raises:
            FencedError: Another attempt has the import, or it has ended.
        """
        self._fenced(
            f"state = 'SUCCEEDED', commit = :commit, example_count = :count, error = :error, {_ENDING}",
            errand,
            commit=commit,
            count=example_count,
            error=error,
        )
        self._let_go(errand.id)

    def fail(self, errand: Errand, error: str) -> None:
        """End the import without a commit.

        Raises:
            FencedError: Another attempt has the import, or it has ended.
        """
        self._fenced(f"state = 'FAILED', error = :error, {_ENDING}", errand, error=error)
        self._let_go(errand.id)

    def put_off(self, errand: Errand, error: str, wait_s: float) -> None:
        """Let the import wait for another attempt.

        Raises:
            FencedError: Another attempt has the import, or it has ended.
        """
        self._fenced(
            "state = 'PENDING', error = :error, failures = failures + 1, lease_until = NULL, "
            "next_time = clock_timestamp() + make_interval(secs => :wait_s)",
            errand,
            error=error,
            wait_s=wait_s,
        )

    def _let_go(self, id: str) -> None:
        """Delete captured inputs that retention spared for this import alone."""
        self._rows(
            "DELETE FROM captures c USING capture_import_rows r, endpoints e WHERE r.capture_import = :id "
            "AND c.endpoint = r.endpoint AND c.arrival = r.arrival AND e.id = c.endpoint "
            "AND c.arrival <= e.forgotten_capture AND NOT EXISTS (SELECT FROM capture_import_rows o "
            "JOIN capture_imports i ON i.id = o.capture_import WHERE i.state IN ('PENDING', 'RUNNING') "
            "AND o.endpoint = c.endpoint AND o.arrival = c.arrival)",
            id=id,
        )

    def _fenced(self, changes: str, errand: Errand, **values: Any) -> None:
        rows = self._rows(
            f"UPDATE capture_imports SET {changes} "
            "WHERE id = :id AND attempt = :attempt AND state = 'RUNNING' RETURNING id",
            id=errand.id,
            attempt=errand.attempt,
            **values,
        )
        if not rows:
            raise FencedError(f"attempt {errand.attempt} no longer has capture import {errand.id}")


_ENDING = "lease_until = NULL, finish_time = clock_timestamp()"


def _spec(row: Row[Any]) -> ImportSpec:
    return ImportSpec(
        endpoint=row.endpoint,
        dataset=row.dataset,
        branch=row.branch,
        start_time=row.start_time,
        end_time=row.end_time,
        max_confidence=row.max_confidence,
        max_count=row.max_count,
        attributes=dict(row.attributes),
    )


def _capture_import(row: Row[Any]) -> CaptureImport:
    return CaptureImport(
        id=row.id,
        spec=_spec(row),
        state=row.state,
        commit=row.commit,
        example_count=row.example_count,
        error=row.error,
        create_time=row.create_time,
        creator=row.creator,
    )
