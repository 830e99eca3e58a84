"""What an import of a file writes: tasks that are new, and answers that are new in tasks that are there."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection

from slipway_labeling.domain.projects import Project
from slipway_labeling.engine.files.records import (
    MAX_OVERLAP,
    AnnotationRecord,
    AssignmentRecord,
    Refusals,
    Stamp,
    TaskRecord,
    refused,
)
from slipway_labeling.store.files import Batch, Existing, FileStore

BATCH = 2000  # tasks that go to the database in one piece


@dataclass(frozen=True)
class Imported:
    """What went in, and what was there already."""

    task_count: int = 0
    existing_task_count: int = 0
    annotation_count: int = 0
    existing_annotation_count: int = 0


class Import:
    """One import into one project, within one transaction."""

    def __init__(self, connection: Connection, project: Project) -> None:
        self._store = FileStore(connection)
        self._project = project
        self._now: Stamp = datetime.now(UTC).isoformat()
        self._batch = Batch()
        self._changed: dict[int, Existing] = {}
        self._known = 0
        self._written = 0

    def take(self, tasks: Sequence[TaskRecord]) -> Imported:
        """Write what is not there yet; return what was done."""
        there = self._store.existing(self._project.id, [task.key for task in tasks])
        missing = _missing(tasks, there)
        new = [task for task in tasks if task.key not in there]
        serials = self._store.numbers("tasks_serial_seq", len(new))
        ids = self._store.numbers("annotations_id_seq", sum(map(_annotations, new)) + missing)
        self._ids = iter(ids)
        self._merge(tasks, there)
        self._store.write(self._project.id, self._batches(serials, new), self._changed.values())
        return Imported(len(new), len(tasks) - len(new), self._written, self._known)

    def _batches(self, serials: Sequence[int], new: Sequence[TaskRecord]) -> Iterator[Batch]:
        """Yield what was merged, then the new tasks, in pieces."""
        for start in range(0, len(new) + 1, BATCH):
            for serial, task in zip(serials[start : start + BATCH], new[start : start + BATCH], strict=True):
                self._add(serial, task)
            self._written += len(self._batch.annotations)
            yield self._batch
            self._batch = Batch()

    def _merge(self, tasks: Sequence[TaskRecord], there: dict[str, Existing]) -> None:
        """Add to tasks that are there what their people have not answered yet."""
        refusals = Refusals()
        for task in tasks:
            existing = there.get(task.key)
            if existing is None:
                continue
            for assignment in task.assignments:
                trouble = self._merge_one(existing, assignment)
                if trouble:
                    refusals.add(task.where, trouble)
        refusals.raise_any()

    def _merge_one(self, task: Existing, assignment: AssignmentRecord) -> str:
        done = task.by.get(assignment.annotator.removeprefix("annotators/"))
        if done is not None:
            if any(done.get(one.revision, ()) != one.labels for one in assignment.annotations):
                return f"{assignment.annotator} has this task with another answer; leave the assignment out"
            self._known += len(assignment.annotations)
            return ""
        standing = assignment.standing is not None
        task.given += 1
        task.taken += standing
        task.answers += standing
        task.flags += assignment.state == "FLAGGED"
        if not task.gold:
            task.overlap = max(task.overlap, task.taken)
        if task.overlap > MAX_OVERLAP and not task.gold:
            return f"has more than {MAX_OVERLAP} answers; a task takes at most that many"
        if task.state in {"OPEN", "HELD"} and task.answers >= task.overlap:
            task.state = "ANSWERED"
        self._changed[task.serial] = task
        self._add_assignment(task.serial, assignment._replace(number=task.given))
        return ""

    def _add(self, serial: int, task: TaskRecord) -> None:
        states = [one.state for one in task.assignments]
        answers = states.count("SUBMITTED")  # an answer that stands, as the file's check has seen
        overlap = task.overlap or self._project.spec.overlap
        overlap = overlap if task.gold is not None else max(overlap, answers)
        if overlap > MAX_OVERLAP:
            raise refused(task.where, f"has {overlap} answers; a task takes at most {MAX_OVERLAP}")
        made = task.create_time or self._now
        counting = self._add_corrections(serial, task, made)
        self._batch.tasks.append(
            (
                serial,
                self._project.id,
                task.key,
                task.dataset_commit,
                task.blob,
                task.media_type,
                task.state or ("ANSWERED" if answers >= overlap else "OPEN"),
                task.priority,
                overlap,
                answers,
                max([one.number for one in task.assignments], default=0),
                answers,
                states.count("FLAGGED"),
                task.gold,
                task.prelabel,
                task.prelabel_version,
                task.consensus,
                task.consensus_confidence,
                task.reviewed,
                counting,
                task.reviewer,
                task.review_comment,
                made,
            )
        )
        for assignment in task.assignments:
            self._add_assignment(serial, assignment)

    def _add_corrections(self, serial: int, task: TaskRecord, made: Stamp) -> int | None:
        """Add what reviewers answered; return the id of the one that counts."""
        counting = None
        for one in task.corrections:
            id = self._add_annotation(serial, 0, one.annotator, one, shown=False, made=made)
            counting = id if one.revision == task.correction else counting
        return counting

    def _add_assignment(self, serial: int, assignment: AssignmentRecord) -> None:
        annotator = assignment.annotator.removeprefix("annotators/")
        self._batch.annotators.add(annotator)
        claimed = assignment.claim_time
        for one in assignment.annotations:
            claimed = claimed or one.create_time
        claimed = claimed or self._now
        standing = None
        for one in assignment.annotations:
            shown = assignment.prelabel_shown
            id = self._add_annotation(
                serial, assignment.number, assignment.annotator, one, shown=shown, made=claimed
            )
            standing = None if one.labels is None else id
        self._batch.assignments.append(
            (
                serial,
                assignment.number,
                self._project.id,
                annotator,
                assignment.state,
                claimed,
                claimed,
                assignment.schema_version or self._project.spec.schema.version,
                assignment.prelabel,
                assignment.prelabel_shown,
                assignment.comment,
                standing,
            )
        )

    def _add_annotation(
        self, serial: int, number: int, annotator: str, one: AnnotationRecord, *, shown: bool, made: Stamp
    ) -> int:
        id = next(self._ids)
        self._batch.annotations.append(
            (
                id,
                self._project.id,
                serial,
                number,
                annotator.removeprefix("annotators/"),
                one.labels,
                one.revision,
                one.labels is None,
                one.lease_ms,
                one.lead_ms,
                shown,
                one.schema_version or self._project.spec.schema.version,
                one.create_time or made,
            )
        )
        return id


def _missing(tasks: Sequence[TaskRecord], there: dict[str, Existing]) -> int:
    """Count the annotations that are new in tasks that are there."""
    count = 0
    for task in tasks:
        existing = there.get(task.key)
        if existing is not None:
            count += sum(
                len(one.annotations)
                for one in task.assignments
                if one.annotator.removeprefix("annotators/") not in existing.by
            )
    return count


def _annotations(task: TaskRecord) -> int:
    return len(task.corrections) + sum(len(one.annotations) for one in task.assignments)
