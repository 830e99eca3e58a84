"""What was made of what: annotators, tasks, annotations, commits."""

from typing import Any

from slipway_labeling.domain.snapshots import Contributor
from slipway_labeling.store.rows import Rows


class LineageStore(Rows):
    """Reads the edges between the tables; each page goes on after the number that the last one ended with."""

    def annotations_by(self, annotator: str, after: int, limit: int) -> list[tuple[int, str]]:
        """Return what a person answered, in all projects, withdrawn too."""
        return self._edges(
            "SELECT id, 'annotations/' || id FROM annotations WHERE annotator = :of AND id > :after "
            "ORDER BY id LIMIT :limit",
            annotator,
            after,
            limit,
        )

    def annotations_of_task(self, task: int, after: int, limit: int) -> list[tuple[int, str]]:
        """Return the annotations of a task."""
        return self._edges(
            "SELECT id, 'annotations/' || id FROM annotations WHERE task = :of AND id > :after "
            "ORDER BY id LIMIT :limit",
            task,
            after,
            limit,
        )

    def tasks(self, project: str, after: int, limit: int) -> list[tuple[int, str]]:
        """Return the tasks of a project in the order in which they were made."""
        return self._edges(
            "SELECT serial, 'labelingProjects/' || project || '/tasks/' || serial FROM tasks "
            "WHERE project = :of AND serial > :after ORDER BY serial LIMIT :limit",
            project,
            after,
            limit,
        )

    def commits(self, annotation: int, after: int, limit: int) -> list[tuple[int, str]]:
        """Return the commits that an annotation went into."""
        return self._edges(
            "SELECT s.serial, s.commit FROM snapshot_annotations u JOIN snapshots s ON s.id = u.snapshot "
            "WHERE u.annotation = :of AND s.state = 'SUCCEEDED' AND s.serial > :after "
            "ORDER BY s.serial LIMIT :limit",
            annotation,
            after,
            limit,
        )

    def annotations_in(self, commit: str, after: int, limit: int) -> list[tuple[int, str]]:
        """Return the annotations that went into a commit."""
        return self._edges(
            "SELECT u.annotation, 'annotations/' || u.annotation FROM snapshots s "
            "JOIN snapshot_annotations u ON u.snapshot = s.id WHERE s.commit = :of "
            "AND s.state = 'SUCCEEDED' AND u.annotation > :after ORDER BY u.annotation LIMIT :limit",
            commit,
            after,
            limit,
        )

    def contributors(self, commit: str, after: str, limit: int) -> list[Contributor]:
        """Return who gave annotations to a commit, by name, with the first three of each."""
        rows = self._rows(
            "SELECT a.annotator, count(DISTINCT a.id) AS annotations, count(DISTINCT u.task) AS tasks, "
            "(array_agg(DISTINCT a.id))[1:3] AS first FROM snapshots s "
            "JOIN snapshot_annotations u ON u.snapshot = s.id JOIN annotations a ON a.id = u.annotation "
            "WHERE s.commit = :commit AND s.state = 'SUCCEEDED' AND a.annotator > :after "
            "GROUP BY a.annotator ORDER BY a.annotator LIMIT :limit",
            commit=commit,
            after=after,
            limit=limit,
        )
        return [Contributor(row.annotator, row.annotations, row.tasks, tuple(row.first)) for row in rows]

    def annotators_like(self, annotator: str) -> tuple[bool, list[str]]:
        """Say whether anybody of that name has worked or was imported, and who else near matches may be."""
        rows = self._rows(
            "SELECT FROM annotators WHERE id = :id "
            "UNION ALL SELECT FROM annotations WHERE annotator = :id LIMIT 1",
            id=annotator,
        )
        if rows:
            return True, []
        return False, [row.id for row in self._rows("SELECT DISTINCT id FROM annotators LIMIT 1000")]

    def _edges(self, statement: str, of: Any, after: int, limit: int) -> list[tuple[int, str]]:
        rows = self._rows(statement, of=of, after=after, limit=limit)
        pairs = (tuple(row) for row in rows)
        return [(int(number), str(name)) for number, name in pairs]
