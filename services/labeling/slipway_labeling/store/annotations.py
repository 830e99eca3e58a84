"""Annotations in and out; rows are never changed (a trigger refuses it)."""

from typing import Any

from sqlalchemy import Row

from slipway_labeling.domain.projects import Labels
from slipway_labeling.domain.tasks import Annotation, Task
from slipway_labeling.store.rows import Rows, labels_of

# One counts while its assignment, or for a reviewer's correction its task, points at it.
ANNOTATIONS = (
    "SELECT n.*, t.key, CASE WHEN n.number = 0 THEN t.review_annotation IS NOT DISTINCT FROM n.id "
    "ELSE a.annotation IS NOT DISTINCT FROM n.id END AS current FROM annotations n "
    "JOIN tasks t ON t.serial = n.task LEFT JOIN assignments a ON a.task = n.task AND a.number = n.number"
)


class AnnotationStore(Rows):
    """The table `annotations`."""

    def get(self, id: int) -> Annotation | None:
        """Return one annotation, or None."""
        rows = self._rows(f"{ANNOTATIONS} WHERE n.id = :id", id=id)
        return annotation_of_row(rows[0]) if rows else None

    def page(
        self, project: str, task: int | None, annotator: str, after: int, limit: int
    ) -> list[Annotation]:
        """Return annotations in the order in which they were made; None and empty match all."""
        rows = self._rows(
            f"{ANNOTATIONS} WHERE n.project = :project AND n.id > :after "
            "AND (CAST(:task AS bigint) IS NULL OR n.task = :task) "
            "AND (:annotator = '' OR n.annotator = :annotator) ORDER BY n.id LIMIT :limit",
            project=project,
            task=task,
            annotator=annotator,
            after=after,
            limit=limit,
        )
        return [annotation_of_row(row) for row in rows]

    def in_snapshot(self, id: int) -> bool:
        """Say whether a snapshot that did not fail rests on an annotation."""
        rows = self._rows(
            "SELECT FROM snapshot_annotations u JOIN snapshots s ON s.id = u.snapshot "
            "WHERE u.annotation = :id AND s.state <> 'FAILED' LIMIT 1",
            id=id,
        )
        return bool(rows)

    def add_correction(self, task: Task, reviewer: str, labels: Labels, schema_version: int) -> int:
        """Keep what a reviewer answered, as an annotation without assignment; return its id."""
        rows = self._rows(
            "INSERT INTO annotations (project, task, number, annotator, labels, revision, withdrawn, "
            "lease_ms, lead_ms, prelabel_shown, schema_version) SELECT :project, :task, 0, :annotator, "
            ":labels, 1 + coalesce(max(revision), 0), false, 0, 0, false, :schema_version FROM annotations "
            "WHERE task = :task AND number = 0 RETURNING id",
            project=task.project,
            task=task.serial,
            annotator=reviewer,
            labels=list(labels),
            schema_version=schema_version,
        )
        return int(rows[0].id)


def annotation_of_row(row: Row[Any]) -> Annotation:
    """Return the annotation in a row with its key and whether it counts."""
    return Annotation(
        id=row.id,
        project=row.project,
        task=row.task,
        number=row.number,
        annotator=row.annotator,
        labels=labels_of(row.labels),
        revision=row.revision,
        withdrawn=row.withdrawn,
        current=row.current,
        lease_ms=row.lease_ms,
        lead_ms=row.lead_ms,
        prelabel_shown=row.prelabel_shown,
        schema_version=row.schema_version,
        create_time=row.create_time,
        key=row.key,
    )
