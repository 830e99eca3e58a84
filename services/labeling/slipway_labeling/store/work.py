"""Assignments: leases given, prolonged, answered, given back, taken away.

`tasks.taken` counts live leases and standing answers. Each statement here that gives or ends a lease changes
it together with the assignment, so that neither can be seen without the other.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from slipway_labeling.domain.tasks import Annotation, Assignment, AssignmentState
from slipway_labeling.store.rows import Rows, labels_of

COLUMNS = (
    "a.project, a.task, a.number, a.annotator, a.state, a.lease_time, a.claim_time, "
    "CASE WHEN a.prelabel_shown THEN a.prelabel END AS prelabel, a.schema_version, t.key, t.media_type, "
    "a.comment"
)
LIVE = (
    "a.task = :task AND a.number = :number AND a.project = :project AND a.annotator = :annotator "
    "AND a.state = 'LEASED' AND a.lease_time > clock_timestamp()"
)
NEXT_REVISION = (
    "1 + (SELECT coalesce(max(x.revision), 0) FROM annotations x "
    "WHERE x.task = mine.task AND x.number = mine.number)"
)
# The lock makes two claims of one person follow each other, and a pause come before or after a claim.
DESK = (
    "SELECT a.project, a.id AS annotator, p.lease_s, a.paused, a.pause_reason FROM annotators a "
    "JOIN projects p ON p.id = a.project WHERE a.project = :project AND a.id = :annotator "
    "FOR NO KEY UPDATE OF a"
)


@dataclass(frozen=True)
class Desk:
    """One annotator at work in one project: how long its leases are, and whether he may go on."""

    project: str
    annotator: str
    lease_s: int
    paused: bool
    pause_reason: str


class WorkStore(Rows):
    """The table `assignments`, with what its changes mean for `tasks`."""

    def desk(self, project: str, annotator: str) -> Desk | None:
        """Return the annotator's desk, locked until the end of the transaction; None: no such project."""
        rows = self._rows(DESK, project=project, annotator=annotator)
        if not rows:
            self._rows(
                "INSERT INTO annotators (project, id) SELECT id, :annotator FROM projects "
                "WHERE id = :project ON CONFLICT DO NOTHING",
                project=project,
                annotator=annotator,
            )
            rows = self._rows(DESK, project=project, annotator=annotator)
        return Desk(**rows[0]._mapping) if rows else None

    def take_back(self, project: str = "", limit: int = 1000) -> int:
        """End leases that ran out, of one project or of all; return how many.

        Leases that another transaction has in hand are passed by: the next sweep finds them.
        """
        rows = self._rows(
            "WITH gone AS (SELECT task, number FROM assignments WHERE state = 'LEASED' "
            "AND lease_time <= clock_timestamp() AND (:project = '' OR project = :project) "
            f"ORDER BY lease_time LIMIT :limit FOR UPDATE SKIP LOCKED), {_ENDED}",
            project=project,
            limit=limit,
        )
        return int(rows[0].n)

    def end_leases(self, project: str, *annotators: str) -> int:
        """End every lease of these annotators; return how many."""
        rows = self._rows(
            "WITH gone AS (SELECT task, number FROM assignments WHERE project = :project "
            f"AND annotator = ANY(:annotators) AND state = 'LEASED' FOR UPDATE), {_ENDED}",
            project=project,
            annotators=list(annotators),
        )
        return int(rows[0].n)

    def get(self, project: str, task: int, number: int) -> Assignment | None:
        """Return one assignment, or None."""
        rows = self._rows(
            f"SELECT {COLUMNS} FROM assignments a JOIN tasks t ON t.serial = a.task "
            "WHERE a.task = :task AND a.number = :number AND a.project = :project",
            project=project,
            task=task,
            number=number,
        )
        return assignment_of_row(rows[0]) if rows else None

    def renew(self, project: str, task: int, number: int, annotator: str) -> Assignment | None:
        """Prolong a lease that has not run out, by the project's time; None: there is none."""
        return self._changed(
            "lease_time = clock_timestamp() + make_interval(secs => "
            "(SELECT lease_s FROM projects p WHERE p.id = a.project))",
            "",
            project=project,
            task=task,
            number=number,
            annotator=annotator,
        )

    def give_back(
        self, project: str, task: int, number: int, annotator: str, state: AssignmentState, comment: str
    ) -> Assignment | None:
        """End a live lease as SKIPPED or FLAGGED; None: there is none."""
        flagged = " flag_count = flag_count + 1," if state is AssignmentState.FLAGGED else ""
        return self._changed(
            "state = :state, comment = :comment",
            f"{flagged} taken = taken - 1",
            project=project,
            task=task,
            number=number,
            annotator=annotator,
            state=str(state),
            comment=comment,
        )

    def _changed(self, changes: str, counts: str, **values: Any) -> Assignment | None:
        counted = f"UPDATE tasks t SET{counts} FROM mine WHERE t.serial = mine.task RETURNING t.*"
        same = "SELECT t.* FROM tasks t JOIN mine ON t.serial = mine.task"
        rows = self._rows(
            f"WITH mine AS (UPDATE assignments a SET {changes} WHERE {LIVE} RETURNING a.*), "
            f"task AS ({counted if counts else same}) SELECT {COLUMNS} FROM mine a JOIN task t ON true",
            **values,
        )
        return assignment_of_row(rows[0]) if rows else None

    def withdraw(self, annotation: Annotation, lease_s: int) -> Assignment | None:
        """Take a standing annotation back: a revision that withdraws it, and its assignment leased again.

        None when the annotation does not stand. The task must be locked.
        """
        rows = self._rows(
            "WITH mine AS (UPDATE assignments a SET state = 'LEASED', annotation = NULL, "
            "lease_time = clock_timestamp() + make_interval(secs => :lease_s), "
            "claim_time = clock_timestamp() WHERE a.task = :task AND a.number = :number "
            "AND a.annotation = :id RETURNING a.*), "
            "made AS (INSERT INTO annotations (project, task, number, annotator, revision, withdrawn, "
            "lease_ms, lead_ms, prelabel_shown, schema_version) SELECT project, task, number, annotator, "
            f"{NEXT_REVISION}, true, 0, 0, prelabel_shown, schema_version FROM mine), "
            "counted AS (UPDATE tasks t SET answer_count = t.answer_count - 1, state = CASE WHEN "
            "t.state = 'ANSWERED' AND t.answer_count - 1 < t.overlap THEN 'OPEN' ELSE t.state END "
            "FROM mine WHERE t.serial = mine.task RETURNING t.*) "
            f"SELECT {COLUMNS} FROM mine a JOIN counted t ON true",
            id=annotation.id,
            task=annotation.task,
            number=annotation.number,
            lease_s=lease_s,
        )
        return assignment_of_row(rows[0]) if rows else None

    def holds(self, task: int, annotator: str) -> bool:
        """Say whether an annotator has a live lease on a task."""
        return self._any("state = 'LEASED' AND lease_time > clock_timestamp()", task, annotator)

    def has_answered(self, task: int, annotator: str) -> bool:
        """Say whether an annotation of this annotator stands on a task."""
        return self._any("annotation IS NOT NULL", task, annotator)

    def _any(self, condition: str, task: int, annotator: str) -> bool:
        statement = f"SELECT FROM assignments WHERE task = :task AND annotator = :annotator AND {condition}"
        return bool(self._rows(statement, task=task, annotator=annotator))


# Tasks are locked in order, so that two endings of many leases cannot wait for each other in a ring.
_ENDED = (
    "ended AS (UPDATE assignments a SET state = 'EXPIRED' FROM gone "
    "WHERE a.task = gone.task AND a.number = gone.number RETURNING a.task), "
    "counted AS (SELECT task, count(*) AS n FROM ended GROUP BY task), "
    "locked AS (SELECT t.serial FROM tasks t WHERE t.serial IN (SELECT task FROM counted) "
    "ORDER BY t.serial FOR UPDATE), "
    "freed AS (UPDATE tasks t SET taken = t.taken - counted.n FROM counted, locked "
    "WHERE t.serial = counted.task AND locked.serial = counted.task) "
    "SELECT count(*) AS n FROM ended"
)


def assignment_of_row(row: Row[Any] | Any) -> Assignment:
    """Return the assignment in a row of these columns."""
    return Assignment(
        project=row.project,
        task=row.task,
        number=row.number,
        annotator=row.annotator,
        state=AssignmentState(row.state),
        lease_time=row.lease_time,
        claim_time=row.claim_time,
        prelabel=labels_of(row.prelabel),
        schema_version=row.schema_version,
        key=row.key,
        media_type=row.media_type,
        comment=row.comment,
    )
