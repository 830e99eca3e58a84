"""Tasks in and out."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row

from slipway_labeling.domain.projects import Labels
from slipway_labeling.domain.tasks import Example, Task, TaskState
from slipway_labeling.store.rows import Rows, labels_of

COLUMNS = (
    "t.serial, t.project, t.key, t.dataset_commit, t.blob, t.media_type, t.state, t.priority, t.overlap, "
    "t.answer_count, t.flag_count, t.gold, t.consensus, t.consensus_confidence, t.reviewed, t.reviewer, "
    "t.review_comment, t.prelabel, t.prelabel_version, t.create_time"
)


class TaskStore(Rows):
    """The table `tasks`."""

    def add(
        self,
        project: str,
        commit: str,
        examples: Sequence[Example],
        *,
        state: TaskState,
        overlap: int,
        priority: float,
    ) -> list[str]:
        """Make tasks of the examples that have none; return the keys of the new ones.

        One statement over arrays; a key that has a task keeps it as it is.
        """
        rows = self._rows(
            "INSERT INTO tasks (project, key, dataset_commit, blob, media_type, state, priority, overlap) "
            "SELECT :project, key, :commit, blob, media_type, :state, :priority, :overlap FROM unnest("
            "CAST(:keys AS text[]), CAST(:blobs AS text[]), CAST(:media_types AS text[])) "
            "AS e(key, blob, media_type) ON CONFLICT (project, key) DO NOTHING RETURNING key",
            project=project,
            commit=commit,
            state=str(state),
            priority=priority,
            overlap=overlap,
            keys=[example.key for example in examples],
            blobs=[example.blob for example in examples],
            media_types=[example.media_type for example in examples],
        )
        return [row.key for row in rows]

    def set_gold(self, project: str, answers: Mapping[str, Labels]) -> None:
        """Note the known answers of tasks, by key."""
        for key, labels in answers.items():
            self._rows(
                "UPDATE tasks SET gold = :labels WHERE project = :project AND key = :key",
                project=project,
                key=key,
                labels=list(labels),
            )

    def get(self, project: str, serial: int, *, lock: bool = False) -> Task | None:
        """Return one task, locked until the end of the transaction when asked."""
        rows = self._rows(
            f"SELECT {COLUMNS} FROM tasks t WHERE t.project = :project AND t.serial = :serial"
            f"{' FOR UPDATE' if lock else ''}",
            project=project,
            serial=serial,
        )
        return task_of_row(rows[0]) if rows else None

    def page(self, project: str, state: str, flagged_only: bool, after: int | None, limit: int) -> list[Task]:
        """Return tasks in the order in which they are given out; an empty state matches all."""
        rows = self._rows(
            f"SELECT {COLUMNS} FROM tasks t WHERE t.project = :project AND (:state = '' OR t.state = :state) "
            "AND (NOT :flagged OR t.flag_count > 0) AND (CAST(:after AS bigint) IS NULL "
            "OR (-t.priority, t.serial) > "
            "(SELECT -l.priority, l.serial FROM tasks l WHERE l.serial = :after)) "
            "ORDER BY t.priority DESC, t.serial LIMIT :limit",
            project=project,
            state=state,
            flagged=flagged_only,
            after=after,
            limit=limit,
        )
        return [task_of_row(row) for row in rows]

    def decide(
        self, task: Task, reviewed: Labels, annotation: int | None, reviewer: str, comment: str
    ) -> Task:
        """Note what a reviewer decided; the task goes out no more."""
        return self._changed(
            "state = 'REVIEWED', reviewed = :reviewed, review_annotation = :annotation, "
            "reviewer = :reviewer, review_comment = :comment",
            task,
            reviewed=list(reviewed),
            annotation=annotation,
            reviewer=reviewer,
            comment=comment,
        )

    def reopen(self, task: Task, reviewer: str, comment: str) -> Task:
        """Open a task for one more annotator than have or hold it; what was decided of it falls."""
        return self._changed(
            "state = 'OPEN', overlap = t.taken + 1, reviewed = NULL, review_annotation = NULL, "
            "reviewer = :reviewer, review_comment = :comment",
            task,
            reviewer=reviewer,
            comment=comment,
        )

    def _changed(self, changes: str, task: Task, **values: Any) -> Task:
        statement = f"UPDATE tasks t SET {changes} WHERE t.serial = :serial RETURNING {COLUMNS}"
        return task_of_row(self._rows(statement, serial=task.serial, **values)[0])


def task_of_row(row: Row[Any]) -> Task:
    """Return the task in a row of COLUMNS."""
    answers = {name: labels_of(getattr(row, name)) for name in ("gold", "consensus", "reviewed", "prelabel")}
    return Task(**{**row._mapping, **answers, "state": TaskState(row.state)})
