"""Annotators of a project with their figures."""

from typing import Any

from sqlalchemy import Row

from slipway_labeling.domain.tasks import Annotator
from slipway_labeling.store.rows import Rows

# Counted where the assignments are, so that no figure can differ from what it counts.
ANNOTATORS = (
    "SELECT p.project, p.id, p.error_rate, p.error_rate_low, p.error_rate_high, p.careless, p.paused, "
    "p.pause_reason, p.labels, p.confusion, c.* FROM annotators p CROSS JOIN LATERAL ("
    "SELECT count(*) FILTER (WHERE a.annotation IS NOT NULL) AS answer_count, "
    "count(*) FILTER (WHERE a.state = 'SKIPPED') AS skip_count, "
    "count(*) FILTER (WHERE a.state = 'FLAGGED') AS flag_count, "
    "count(n.id) FILTER (WHERE t.gold IS NOT NULL) AS gold_count, "
    "count(n.id) FILTER (WHERE t.gold = n.labels) AS gold_correct_count, "
    "coalesce(percentile_disc(0.5) WITHIN GROUP (ORDER BY n.lead_ms), 0) AS median_lead_ms "
    "FROM assignments a JOIN tasks t ON t.serial = a.task LEFT JOIN annotations n ON n.id = a.annotation "
    "WHERE a.annotator = p.id AND a.project = p.project) AS c"
)


class AnnotatorStore(Rows):
    """The table `annotators`."""

    def get(self, project: str, id: str) -> Annotator | None:
        """Return one annotator, or None."""
        rows = self._rows(f"{ANNOTATORS} WHERE p.project = :project AND p.id = :id", project=project, id=id)
        return annotator_of_row(rows[0]) if rows else None

    def page(self, project: str, after: str, limit: int) -> list[Annotator]:
        """Return annotators by id."""
        rows = self._rows(
            f"{ANNOTATORS} WHERE p.project = :project AND p.id > :after ORDER BY p.id LIMIT :limit",
            project=project,
            after=after,
            limit=limit,
        )
        return [annotator_of_row(row) for row in rows]

    def ids(self, project: str) -> list[str]:
        """Return the ids that near matches are sought among."""
        rows = self._rows(
            "SELECT id FROM annotators WHERE project = :project ORDER BY id LIMIT 1000", project=project
        )
        return [row.id for row in rows]

    def set_paused(self, project: str, id: str, paused: bool, reason: str) -> bool:
        """Pause or resume an annotator, after claims of his in hand; False when nobody is of that id.

        Whom somebody lets go on, the pause rule leaves alone until there are enough answers since.
        """
        rows = self._rows(
            "UPDATE annotators SET paused = :paused, pause_reason = :reason, "
            "resume_annotation = CASE WHEN :paused OR NOT paused THEN resume_annotation ELSE "
            "(SELECT coalesce(max(n.id), 0) FROM annotations n WHERE n.project = :project) END "
            "WHERE project = :project AND id = :id RETURNING id",
            project=project,
            id=id,
            paused=paused,
            reason=reason,
        )
        return bool(rows)


def annotator_of_row(row: Row[Any]) -> Annotator:
    """Return the annotator in a row of ANNOTATORS."""
    return Annotator(**{**row._mapping, "labels": tuple(row.labels), "confusion": tuple(row.confusion)})
