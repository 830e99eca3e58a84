"""What a judgement reads, and what it writes, within one transaction."""

from collections.abc import Sequence

from slipway_labeling.domain.projects import SEPARATOR
from slipway_labeling.domain.quality import Decided, Figures, Shown
from slipway_labeling.store.rows import Rows


class QualityStore(Rows):
    """Answers that stand, the consensus of tasks, the figures of annotators."""

    def lock(self, project: str) -> None:
        """Let computations over a project follow each other; people go on working meanwhile."""
        self._rows("SELECT FROM projects WHERE id = :project FOR NO KEY UPDATE", project=project)

    def stop_claims(self, project: str) -> None:
        """Make claims of the project wait for the end of the transaction, those of newcomers too.

        Whoever locks tasks of several people comes here first: claims and undos lock their annotator, then
        assignments, then tasks. In this order nobody waits in a ring.
        """
        self._rows("SELECT FROM projects WHERE id = :project FOR UPDATE", project=project)
        self._rows(
            "SELECT FROM annotators WHERE project = :project ORDER BY id FOR NO KEY UPDATE", project=project
        )

    def answers(self, project: str) -> list[tuple[int, str, str, str | None]]:
        """Return (task, annotator, labels joined, known labels joined or None) of each answer that stands.

        One statement, so that no answer is seen without the others of its moment. A label is known when a
        reviewer decided the task, or else when it is gold.
        """
        rows = self._rows(
            "SELECT t.serial, a.annotator, array_to_string(n.labels, :separator), "
            "array_to_string(coalesce(CASE WHEN t.state = 'REVIEWED' THEN t.reviewed END, t.gold), "
            ":separator) FROM tasks t JOIN assignments a ON a.task = t.serial "
            "JOIN annotations n ON n.id = a.annotation WHERE t.project = :project "
            "ORDER BY t.serial, a.annotator",
            project=project,
            separator=SEPARATOR,
        )
        return [tuple(row) for row in rows]

    def shown(self, project: str) -> Shown:
        """Return how often answers equal the model's, by whether it was shown."""
        row = self._rows(
            "SELECT count(*) FILTER (WHERE a.prelabel_shown) AS shown, "
            "count(*) FILTER (WHERE a.prelabel_shown AND n.labels = a.prelabel) AS shown_equal, "
            "count(*) FILTER (WHERE NOT a.prelabel_shown) AS hidden, "
            "count(*) FILTER (WHERE NOT a.prelabel_shown AND n.labels = a.prelabel) AS hidden_equal "
            "FROM tasks t JOIN assignments a ON a.task = t.serial JOIN annotations n ON n.id = a.annotation "
            "WHERE t.project = :project AND a.prelabel IS NOT NULL",
            project=project,
        )[0]
        return Shown(**row._mapping)

    def set_consensus(self, project: str, decided: Sequence[Decided]) -> None:
        """Keep the consensus of these tasks, and take away that of all others.

        Reviewed tasks stay as they are, also one that is reviewed meanwhile. Tasks are locked in order.
        """
        self._rows(
            "WITH decided AS (SELECT * FROM unnest(CAST(:tasks AS bigint[]), CAST(:labels AS text[]), "
            "CAST(:confidences AS double precision[])) AS d(task, label, confidence)), "
            "changed AS (SELECT t.serial, string_to_array(d.label, :separator) AS labels, "
            "coalesce(d.confidence, 0) AS confidence FROM tasks t LEFT JOIN decided d ON d.task = t.serial "
            "WHERE t.project = :project AND t.state <> 'REVIEWED' AND (t.consensus IS DISTINCT FROM "
            "string_to_array(d.label, :separator) OR t.consensus_confidence <> coalesce(d.confidence, 0)) "
            "ORDER BY t.serial FOR NO KEY UPDATE OF t) "
            "UPDATE tasks t SET consensus = c.labels, consensus_confidence = c.confidence FROM changed c "
            "WHERE t.serial = c.serial",
            project=project,
            separator=SEPARATOR,
            tasks=[one.task for one in decided],
            labels=[one.label for one in decided],
            confidences=[one.confidence for one in decided],
        )

    def set_figures(self, project: str, figures: Sequence[Figures]) -> None:
        """Keep what a judgement says of each annotator; who has no answer left has no figures."""
        for one in figures:
            self._rows(
                "INSERT INTO annotators (project, id, error_rate, error_rate_low, error_rate_high, careless, "
                "labels, confusion) VALUES (:project, :id, :error_rate, :low, :high, :careless, :labels, "
                ":confusion) ON CONFLICT (project, id) DO UPDATE SET error_rate = excluded.error_rate, "
                "error_rate_low = excluded.error_rate_low, error_rate_high = excluded.error_rate_high, "
                "careless = excluded.careless, labels = excluded.labels, confusion = excluded.confusion",
                project=project,
                id=one.id,
                error_rate=one.error_rate,
                low=one.error_rate_low,
                high=one.error_rate_high,
                careless=one.careless,
                labels=list(one.labels),
                confusion=list(one.confusion),
            )
        self._rows(
            "UPDATE annotators SET error_rate = -1, error_rate_low = -1, error_rate_high = -1, "
            "careless = false, labels = '{}', confusion = '{}' "
            "WHERE project = :project AND error_rate <> -1 AND id <> ALL(CAST(:ids AS text[]))",
            project=project,
            ids=[one.id for one in figures],
        )

    def paused(self, project: str) -> list[str]:
        """Return who is paused."""
        rows = self._rows("SELECT id FROM annotators WHERE project = :project AND paused", project=project)
        return [row.id for row in rows]

    def may_pause(self, project: str, ids: Sequence[str], least: int) -> list[str]:
        """Return who of these may be paused by the rule: whom nobody paused before.

        Whom a person let go on has given `least` answers since.
        """
        rows = self._rows(
            "SELECT p.id FROM annotators p WHERE p.project = :project AND p.id = ANY(CAST(:ids AS text[])) "
            "AND NOT p.paused AND (p.resume_annotation = 0 OR (SELECT count(*) FROM annotations n "
            "JOIN assignments a ON a.annotation = n.id WHERE n.annotator = p.id AND n.project = p.project "
            "AND n.id > p.resume_annotation) >= :least) ORDER BY p.id",
            project=project,
            ids=list(ids),
            least=least,
        )
        return [row.id for row in rows]

    def pause(self, project: str, reasons: Sequence[tuple[str, str]]) -> None:
        """Pause annotators, each for its reason."""
        self._rows(
            "UPDATE annotators a SET paused = true, pause_reason = r.reason FROM unnest("
            "CAST(:ids AS text[]), CAST(:reasons AS text[])) AS r(id, reason) "
            "WHERE a.project = :project AND a.id = r.id",
            project=project,
            ids=[id for id, _ in reasons],
            reasons=[reason for _, reason in reasons],
        )

    def newest(self, project: str) -> int:
        """Return the newest annotation of a project, 0 when there is none."""
        rows = self._rows(
            "SELECT coalesce(max(id), 0) AS id FROM annotations WHERE project = :project", project=project
        )
        return int(rows[0].id)

    def set_judged(self, project: str, annotation: int) -> None:
        """Note up to which annotation a project was judged."""
        self._rows(
            "UPDATE projects SET judged_annotation = greatest(judged_annotation, :annotation), "
            "judge_time = clock_timestamp() WHERE id = :project",
            project=project,
            annotation=annotation,
        )

    def unjudged(self, but: Sequence[str], limit: int) -> list[str]:
        """Return projects with annotations that were not judged yet, but for those named."""
        rows = self._rows(
            "SELECT p.id FROM projects p WHERE p.id <> ALL(CAST(:but AS text[])) AND EXISTS ("
            "SELECT FROM annotations n WHERE n.project = p.id AND n.id > p.judged_annotation) "
            "ORDER BY p.judge_time LIMIT :limit",
            but=list(but),
            limit=limit,
        )
        return [row.id for row in rows]
