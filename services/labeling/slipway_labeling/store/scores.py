"""Scores in and out, and the order of the pool."""

from collections.abc import Iterable, Sequence

import psycopg

from slipway_labeling.domain.scores import PackedScore, ScoreVersion
from slipway_labeling.store.rows import Rows

# A pool task with its score: serial, probabilities, embedding; the last two None where it has no score.
PoolRow = tuple[int, bytes | None, bytes | None]
# The label that a task has: decided by a reviewer, gold, by consensus, or its only answer.
_LABEL = (
    "coalesce(CASE WHEN t.state = 'REVIEWED' THEN t.reviewed END, t.gold, t.consensus, CASE WHEN "
    "t.overlap = 1 AND t.state = 'ANSWERED' THEN (SELECT min(n.labels) FROM assignments a "
    "JOIN annotations n ON n.id = a.annotation WHERE a.task = t.serial HAVING count(*) = 1) END)"
)


class ScoreStore(Rows):
    """The tables `scores` and `score_versions`, and what an order changes in `tasks`."""

    def version(self, project: str, version: str) -> ScoreVersion | None:
        """Return whose scores they are, or None."""
        rows = self._rows(
            "SELECT version, classes, embedding_width FROM score_versions "
            "WHERE project = :project AND version = :version",
            project=project,
            version=version,
        )
        if not rows:
            return None
        return ScoreVersion(rows[0].version, tuple(rows[0].classes), rows[0].embedding_width)

    def versions(self, project: str) -> list[str]:
        """Return the versions that near matches are sought among."""
        rows = self._rows(
            "SELECT version FROM score_versions WHERE project = :project ORDER BY version LIMIT 1000",
            project=project,
        )
        return [row.version for row in rows]

    def begin(self) -> None:
        """Make the table that scores come into first; it ends with the transaction."""
        self._rows(
            "CREATE TEMPORARY TABLE coming (place bigint, key text, probabilities bytea, embedding bytea, "
            "in_training boolean) ON COMMIT DROP"
        )

    def copy(self, first: int, scores: Iterable[PackedScore]) -> None:
        """Take scores, the first of them at this place of the stream."""
        driver = self._connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        with driver.cursor() as cursor, cursor.copy("COPY coming FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["int8", "text", "bytea", "bytea", "bool"])
            for place, one in enumerate(scores, first):
                copy.write_row((place, one.key, one.probabilities, one.embedding, one.in_training))

    def add_version(self, project: str, new: ScoreVersion) -> ScoreVersion:
        """Return the version as it is kept, locked until the end of the transaction: the first import's."""
        self._rows(
            "INSERT INTO score_versions (project, version, classes, embedding_width) "
            "VALUES (:project, :version, :classes, :width) ON CONFLICT DO NOTHING",
            project=project,
            version=new.version,
            classes=list(new.classes),
            width=new.embedding_width,
        )
        self._rows(
            "SELECT FROM score_versions WHERE project = :project AND version = :version FOR UPDATE",
            project=project,
            version=new.version,
        )
        kept = self.version(project, new.version)
        assert kept is not None
        return kept

    def keep(self, project: str, version: str) -> tuple[int, int]:
        """Keep what came, the last of each key; return how many scores, and how many of them have a task."""
        rows = self._rows(
            "WITH kept AS (INSERT INTO scores (project, version, key, probabilities, embedding, in_training) "
            "SELECT DISTINCT ON (key) :project, :version, key, probabilities, embedding, in_training "
            "FROM coming ORDER BY key, place DESC ON CONFLICT (project, version, key) DO UPDATE SET "
            "probabilities = excluded.probabilities, embedding = excluded.embedding, "
            "in_training = excluded.in_training RETURNING key) "
            "SELECT count(*) AS stored, count(t.serial) AS tasks FROM kept k "
            "LEFT JOIN tasks t ON t.project = :project AND t.key = k.key",
            project=project,
            version=version,
        )
        return int(rows[0].stored), int(rows[0].tasks)

    def pool(self, project: str, version: str) -> list[PoolRow]:
        """Return the held tasks in the order in which they were made, but for gold ones; locked."""
        rows = self._rows(
            "SELECT t.serial, s.probabilities, s.embedding FROM tasks t LEFT JOIN scores s "
            "ON s.project = t.project AND s.version = :version AND s.key = t.key "
            "WHERE t.project = :project AND t.state = 'HELD' AND t.gold IS NULL "
            "ORDER BY t.serial FOR UPDATE OF t",
            project=project,
            version=version,
        )
        return [tuple(row) for row in rows]

    def centres(self, project: str, version: str) -> list[bytes]:
        """Return the embeddings of the tasks that were opened already."""
        rows = self._rows(
            "SELECT s.embedding FROM tasks t JOIN scores s ON s.project = t.project "
            "AND s.version = :version AND s.key = t.key "
            "WHERE t.project = :project AND t.state <> 'HELD' ORDER BY t.serial",
            project=project,
            version=version,
        )
        return [row.embedding for row in rows]

    def order(self, tasks: Sequence[int], prelabels: Sequence[str | None], version: str, opened: int) -> None:
        """Give held tasks the priorities of this order, the first the highest; open the first ones.

        Each gets its pre-label of this version, or none.
        """
        self._rows(
            "UPDATE tasks t SET priority = o.priority, "
            "prelabel = CASE WHEN o.prelabel IS NOT NULL THEN ARRAY[o.prelabel] END, "
            "prelabel_version = CASE WHEN o.prelabel IS NULL THEN '' ELSE :version END, "
            "state = CASE WHEN o.opened THEN 'OPEN' ELSE t.state END "
            "FROM (SELECT serial, prelabel, cardinality(CAST(:tasks AS bigint[])) + 1 - place AS priority, "
            "place <= :opened AS opened FROM unnest(CAST(:tasks AS bigint[]), CAST(:prelabels AS text[])) "
            "WITH ORDINALITY AS u(serial, prelabel, place)) AS o WHERE t.serial = o.serial",
            tasks=list(tasks),
            prelabels=list(prelabels),
            version=version,
            opened=opened,
        )

    def open_gold(self, project: str) -> None:
        """Open the held gold tasks."""
        self._rows(
            "UPDATE tasks SET state = 'OPEN' WHERE project = :project AND state = 'HELD' "
            "AND gold IS NOT NULL",
            project=project,
        )

    def judgeable(self, project: str, version: str) -> list[tuple[int, str, str, bytes]]:
        """Return (task, key, label, probabilities) of out-of-sample scores of tasks with one label."""
        rows = self._rows(
            "SELECT l.serial, l.key, l.labels[1], s.probabilities FROM (SELECT t.serial, t.key, "
            f"{_LABEL} AS labels FROM tasks t WHERE t.project = :project) AS l "
            "JOIN scores s ON s.project = :project AND s.version = :version AND s.key = l.key "
            "WHERE NOT s.in_training AND cardinality(l.labels) = 1 ORDER BY l.serial",
            project=project,
            version=version,
        )
        return [tuple(row) for row in rows]
