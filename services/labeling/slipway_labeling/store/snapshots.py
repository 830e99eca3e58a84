"""Snapshots: what was chosen for them, and how far they are. Leases run on the database's clock."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row

from slipway_labeling.domain.snapshots import (
    ChosenLabel,
    Errand,
    FencedError,
    Snapshot,
    SnapshotSpec,
    SnapshotState,
)
from slipway_labeling.store.rows import Rows

_COLUMNS = (
    "id, serial, project, branch, message, min_confidence, state, error, commit, label_count, "
    "left_out_count, annotation_count, creator, revision, create_time, end_time"
)
# Standing answers: those that their assignments point at.
_STANDING = (
    "SELECT s.task, n.id, n.labels FROM assignments s JOIN annotations n ON n.id = s.annotation "
    "WHERE s.project = :project"
)
_DUE = "(state = 'PENDING' OR (state = 'RUNNING' AND lease_until < clock_timestamp()))"


class SnapshotStore(Rows):
    """The tables `snapshots`, `snapshot_labels`, `snapshot_annotations`."""

    def add(
        self, *, id: str, project: str, dataset: str, spec: SnapshotSpec, creator: str, traceparent: str
    ) -> Snapshot:
        """Add a snapshot, PENDING, with the labels that it takes; counts say what came in and what did not.

        The tasks are locked first: an undo that comes later sees the snapshot, one that came before is seen.
        """
        self._rows(
            "INSERT INTO snapshots (id, project, dataset, branch, message, min_confidence, creator, "
            "traceparent) VALUES (:id, :project, :dataset, :branch, :message, :min_confidence, :creator, "
            ":traceparent)",
            id=id,
            project=project,
            dataset=dataset,
            branch=spec.branch,
            message=spec.message,
            min_confidence=spec.min_confidence,
            creator=creator,
            traceparent=traceparent,
        )
        candidates = self._rows(
            "SELECT count(*) AS n FROM (SELECT FROM tasks WHERE project = :project "
            "AND state IN ('ANSWERED', 'REVIEWED') ORDER BY serial FOR SHARE) AS locked",
            project=project,
        )[0].n
        self._choose_labels(id, project, spec.min_confidence)
        self._choose_annotations(id, project)
        self._rows(
            "UPDATE snapshots SET label_count = l.n, left_out_count = :candidates - l.n, "
            "annotation_count = a.n "
            "FROM (SELECT count(*) AS n FROM snapshot_labels WHERE snapshot = :id) AS l, "
            "(SELECT count(*) AS n FROM snapshot_annotations WHERE snapshot = :id) AS a WHERE id = :id",
            id=id,
            candidates=candidates,
        )
        made = self.get(project, id)
        assert made is not None
        return made

    def _choose_labels(self, id: str, project: str, min_confidence: float) -> None:
        """Take the reviewed answer, else the consensus, else the one answer of a task that asks for one."""
        self._rows(
            f"WITH answers AS (SELECT task, min(labels) AS only FROM ({_STANDING}) AS standing "
            "GROUP BY task HAVING count(*) = 1), chosen AS (SELECT t.serial, t.key, t.blob, "
            "coalesce(t.reviewed, t.consensus, CASE WHEN t.overlap = 1 THEN o.only END) AS labels, "
            "CASE WHEN t.reviewed IS NULL AND t.consensus IS NOT NULL THEN t.consensus_confidence ELSE 1 END "
            "AS confidence FROM tasks t LEFT JOIN answers o ON o.task = t.serial "
            "WHERE t.project = :project AND t.state IN ('ANSWERED', 'REVIEWED')) "
            "INSERT INTO snapshot_labels (snapshot, task, key, blob, labels) "
            "SELECT :id, serial, key, blob, labels FROM chosen "
            "WHERE labels IS NOT NULL AND confidence >= :min_confidence",
            id=id,
            project=project,
            min_confidence=min_confidence,
        )

    def _choose_annotations(self, id: str, project: str) -> None:
        """Take the correction, else the standing answers that agree; all of them where none agrees."""
        self._rows(
            "INSERT INTO snapshot_annotations (snapshot, annotation, task) "
            "SELECT l.snapshot, t.review_annotation, l.task FROM snapshot_labels l "
            "JOIN tasks t ON t.serial = l.task WHERE l.snapshot = :id AND t.review_annotation IS NOT NULL "
            "UNION ALL SELECT snapshot, id, task FROM (SELECT l.snapshot, a.id, l.task, a.labels = l.labels "
            "AS agrees, bool_or(a.labels = l.labels) OVER (PARTITION BY l.task) AS any_agrees "
            f"FROM snapshot_labels l JOIN tasks t ON t.serial = l.task JOIN ({_STANDING}) AS a "
            "ON a.task = l.task WHERE l.snapshot = :id AND t.review_annotation IS NULL) AS behind "
            "WHERE agrees OR NOT any_agrees",
            id=id,
            project=project,
        )

    def get(self, project: str, id: str) -> Snapshot | None:
        """Return one snapshot, or None."""
        statement = f"SELECT {_COLUMNS} FROM snapshots WHERE project = :project AND id = :id"
        rows = self._rows(statement, project=project, id=id)
        return _snapshot(rows[0]) if rows else None

    def revision(self, id: str) -> int:
        """Return the number that changes whenever the snapshot does."""
        rows = self._rows("SELECT revision FROM snapshots WHERE id = :id", id=id)
        return int(rows[0].revision) if rows else 0

    def page(self, project: str, before: int | None, limit: int) -> list[Snapshot]:
        """Return snapshots, newest first."""
        rows = self._rows(
            f"SELECT {_COLUMNS} FROM snapshots WHERE project = :project "
            "AND (CAST(:before AS bigint) IS NULL OR serial < :before) ORDER BY serial DESC LIMIT :limit",
            project=project,
            before=before,
            limit=limit,
        )
        return [_snapshot(row) for row in rows]

    def due(self, limit: int) -> list[str]:
        """Return snapshots that wait for an attempt, the oldest first."""
        rows = self._rows(
            f"SELECT id FROM snapshots WHERE state IN ('PENDING', 'RUNNING') AND {_DUE} "
            "AND next_time <= clock_timestamp() ORDER BY serial LIMIT :limit",
            limit=limit,
        )
        return [str(row.id) for row in rows]

    def begin(self, id: str, lease_s: float) -> Errand | None:
        """Give the snapshot to a new attempt, with a lease; None: it ended, or another attempt has it."""
        rows = self._rows(
            "UPDATE snapshots SET state = 'RUNNING', attempt = attempt + 1, revision = revision + 1, "
            f"lease_until = clock_timestamp() + make_interval(secs => :lease_s) WHERE id = :id AND {_DUE} "
            "RETURNING id, attempt, dataset, branch, message, min_confidence, creator, traceparent, base, "
            "upload, moves, failures",
            id=id,
            lease_s=lease_s,
        )
        return _errand(rows[0]) if rows else None

    def chosen(self, id: str) -> list[ChosenLabel]:
        """Return the labels that a snapshot takes, by key, with the annotations behind them."""
        rows = self._rows(
            "SELECT l.task, l.key, l.blob, l.labels, coalesce(array_agg(a.annotation ORDER BY a.annotation) "
            "FILTER (WHERE a.annotation IS NOT NULL), '{}') AS annotations FROM snapshot_labels l "
            "LEFT JOIN snapshot_annotations a ON a.snapshot = l.snapshot AND a.task = l.task "
            'WHERE l.snapshot = :id GROUP BY l.task, l.key, l.blob, l.labels ORDER BY l.key COLLATE "C"',
            id=id,
        )
        return [ChosenLabel(r.task, r.key, r.blob, tuple(r.labels), tuple(r.annotations)) for r in rows]

    def note(self, errand: Errand, lease_s: float, *, base: str, upload: str, moves: int) -> None:
        """Write down how far the attempt is, and prolong its lease.

        Raises:
            FencedError: Another attempt has the snapshot, or it has ended.
        """
        self._fenced(
            "base = :base, upload = :upload, moves = :moves, "
            "lease_until = clock_timestamp() + make_interval(secs => :lease_s)",
            errand,
            base=base,
            upload=upload,
            moves=moves,
            lease_s=lease_s,
        )

    def succeed(self, errand: Errand, commit: str, gone: Sequence[int]) -> None:
        """End the snapshot with its commit; tasks that the head had no bytes for are left out of it.

        Raises:
            FencedError: Another attempt has the snapshot, or it has ended.
        """
        self._fenced("state = 'SUCCEEDED', commit = :commit, error = '', " + _ENDING, errand, commit=commit)
        if not gone:
            return
        for table in ("snapshot_annotations", "snapshot_labels"):
            self._rows(
                f"DELETE FROM {table} WHERE snapshot = :id AND task = ANY(:gone)",
                id=errand.id,
                gone=list(gone),
            )
        self._rows(
            "UPDATE snapshots SET label_count = label_count - :n, left_out_count = left_out_count + :n, "
            "annotation_count = (SELECT count(*) FROM snapshot_annotations WHERE snapshot = :id) "
            "WHERE id = :id",
            id=errand.id,
            n=len(gone),
        )

    def fail(self, errand: Errand, error: str) -> None:
        """End the snapshot without a commit; its annotations are free again.

        Raises:
            FencedError: Another attempt has the snapshot, or it has ended.
        """
        self._fenced("state = 'FAILED', error = :error, " + _ENDING, errand, error=error)
        for table in ("snapshot_annotations", "snapshot_labels"):
            self._rows(f"DELETE FROM {table} WHERE snapshot = :id", id=errand.id)

    def put_off(self, errand: Errand, error: str, wait_s: float) -> None:
        """Let the snapshot wait for another attempt, and say why.

        Raises:
            FencedError: Another attempt has the snapshot, or it has ended.
        """
        self._fenced(
            "state = 'PENDING', error = :error, failures = failures + 1, lease_until = NULL, "
            "next_time = clock_timestamp() + make_interval(secs => :wait_s)",
            errand,
            error=error,
            wait_s=wait_s,
        )

    def _fenced(self, changes: str, errand: Errand, **values: Any) -> None:
        rows = self._rows(
            f"UPDATE snapshots SET revision = revision + 1, {changes} "
            "WHERE id = :id AND attempt = :attempt AND state = 'RUNNING' RETURNING id",
            id=errand.id,
            attempt=errand.attempt,
            **values,
        )
        if not rows:
            raise FencedError(f"attempt {errand.attempt} no longer has snapshot {errand.id}")


_ENDING = "lease_until = NULL, end_time = clock_timestamp()"


def _spec(row: Row[Any]) -> SnapshotSpec:
    return SnapshotSpec(branch=row.branch, message=row.message, min_confidence=row.min_confidence)


def _snapshot(row: Row[Any]) -> Snapshot:
    plain = {name: value for name, value in row._mapping.items() if name not in _IN_SPEC}
    return Snapshot(**{**plain, "spec": _spec(row), "state": SnapshotState(row.state)})


def _errand(row: Row[Any]) -> Errand:
    plain = {name: value for name, value in row._mapping.items() if name not in _IN_SPEC}
    return Errand(**plain, spec=_spec(row))


_IN_SPEC = frozenset({"branch", "message", "min_confidence"})
