"""Tasks, assignments and annotations in bulk: out by pages, in by COPY."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import psycopg.errors
from psycopg.copy import Copy, QueuedLibpqWriter
from slipway_runtime.errors import DeadlineExceeded, Unavailable

from slipway_labeling.domain.projects import Labels
from slipway_labeling.engine.files.records import AnnotationRecord, AssignmentRecord, TaskRecord
from slipway_labeling.store.rows import Rows, labels_of

PAGE = 5000
_UTC = """to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
_READ_TASKS = (
    "SELECT serial, review_annotation, key, dataset_commit, blob, media_type, state, priority, overlap, "
    "gold, consensus, consensus_confidence, reviewed, reviewer, review_comment, prelabel, prelabel_version, "
    f"{_UTC.format('create_time')} FROM tasks WHERE project = %s AND serial > %s AND state <> 'ERASED' "
    "ORDER BY serial"
)
_SPAN = "WHERE project = %s AND task BETWEEN %s AND %s"
_READ_ASSIGNMENTS = (
    "SELECT task, number, 'annotators/' || annotator, state, comment, prelabel, prelabel_shown, "
    f"schema_version, {_UTC.format('claim_time')} FROM assignments {_SPAN} ORDER BY task, number"
)
_READ_ANNOTATIONS = (
    "SELECT task, number, revision, labels, lead_ms, lease_ms, schema_version, "
    f"{_UTC.format('create_time')}, 'annotations/' || id, "
    "CASE number WHEN 0 THEN 'annotators/' || annotator ELSE '' END "
    f"FROM annotations {_SPAN} ORDER BY task, number, revision"
)
_TASKS = (
    "serial, project, key, dataset_commit, blob, media_type, state, priority, overlap, taken, given, "
    "answer_count, flag_count, gold, prelabel, prelabel_version, consensus, consensus_confidence, reviewed, "
    "review_annotation, reviewer, review_comment, create_time"
)
_ASSIGNMENTS = (
    "task, number, project, annotator, state, lease_time, claim_time, schema_version, prelabel, "
    "prelabel_shown, comment, annotation"
)
_ANNOTATIONS = (
    "id, project, task, number, annotator, labels, revision, withdrawn, lease_ms, lead_ms, prelabel_shown, "
    "schema_version, create_time"
)


class CollisionError(Exception):
    """Somebody made the same tasks or assignments meanwhile: read again, then write."""


@dataclass
class Existing:
    """A task that is there already, and what each person did with it: revision → answer."""

    serial: int
    overlap: int
    gold: bool
    state: str
    answers: int
    taken: int
    given: int
    flags: int
    by: dict[str, dict[int, Labels | None]] = field(default_factory=dict)


@dataclass
class Batch:
    """Rows to write, in the order of their columns."""

    tasks: list[Sequence[Any]] = field(default_factory=list)
    assignments: list[Sequence[Any]] = field(default_factory=list)
    annotations: list[Sequence[Any]] = field(default_factory=list)
    annotators: set[str] = field(default_factory=set)


class FileStore(Rows):
    """The three tables of tasks and what people did with them."""

    def read(self, project: str) -> Iterator[TaskRecord]:
        """Yield all tasks in the order in which they were made, as they were at one moment."""
        self._rows("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        after = 0
        while True:
            tasks = self._read(f"{_READ_TASKS} LIMIT {PAGE}", (project, after))
            if not tasks:
                return
            first, after = tasks[0][0], tasks[-1][0]
            people = _People(
                self._read(_READ_ASSIGNMENTS, (project, first, after)),
                self._read(_READ_ANNOTATIONS, (project, first, after)),
            )
            for task in tasks:
                yield _task(project, task, people)

    def _read(self, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Return bare rows: in bulk, what SQLAlchemy puts around them costs as much as the rows."""
        cursor = self._connection.connection.cursor()
        with _driver_errors(), closing(cursor):
            cursor.execute(statement, values)
            return list(cursor.fetchall())

    def existing(self, project: str, keys: Sequence[str]) -> dict[str, Existing]:
        """Return the tasks of these keys that are there, locked, in the order in which they were made."""
        rows = self._rows(
            "SELECT serial, key, overlap, gold IS NOT NULL AS gold, state, answer_count, taken, given, "
            "flag_count FROM tasks WHERE project = :project AND key = ANY(string_to_array(:keys, chr(10))) "
            "ORDER BY serial FOR UPDATE",
            project=project,
            keys="\n".join(keys),  # no key has control characters; one text costs less than a list
        )
        if not rows:
            return {}
        found = {
            row.serial: (
                row.key,
                Existing(
                    row.serial,
                    row.overlap,
                    row.gold,
                    row.state,
                    row.answer_count,
                    row.taken,
                    row.given,
                    row.flag_count,
                ),
            )
            for row in rows
        }
        done = self._rows(
            "SELECT s.task, s.annotator, n.revision, n.labels FROM assignments s "
            "LEFT JOIN annotations n ON n.task = s.task AND n.number = s.number WHERE s.task = ANY(:tasks)",
            tasks=list(found),
        )
        for row in done:
            answers = found[row.task][1].by.setdefault(row.annotator, {})
            if row.revision is not None:
                answers[row.revision] = labels_of(row.labels)
        return dict(found.values())

    def numbers(self, sequence: str, count: int) -> list[int]:
        """Take numbers from a sequence, ascending."""
        if not count:
            return []
        rows = self._rows(
            "SELECT array_agg(nextval(CAST(:sequence AS regclass))) AS numbers "
            "FROM generate_series(1, :count)",
            sequence=sequence,
            count=count,
        )
        return sorted(rows[0].numbers)

    def write(self, project: str, batches: Iterable[Batch], changed: Iterable[Existing]) -> None:
        """Write the rows, and the counts of tasks that were there already.

        PostgreSQL takes the tasks of a batch while the next one is made.

        Raises:
            CollisionError: Somebody made the same rows meanwhile.
        """
        annotators: set[str] = set()
        assignments, annotations = [], []
        with self._copying(f"tasks ({_TASKS})") as copy:
            for batch in batches:
                copy.write("".join(map(_task_line, batch.tasks)))
                assignments.append("".join(map(_assignment_line, batch.assignments)))
                annotations.append("".join(map(_annotation_line, batch.annotations)))
                annotators |= batch.annotators
        self._copy(f"assignments ({_ASSIGNMENTS})", assignments)
        self._copy(f"annotations ({_ANNOTATIONS})", annotations)
        self._rows(
            "INSERT INTO annotators (project, id) SELECT :project, unnest(CAST(:ids AS text[])) "
            "ON CONFLICT DO NOTHING",
            project=project,
            ids=sorted(annotators),
        )
        columns = list(
            zip(
                *((t.serial, t.overlap, t.state, t.answers, t.taken, t.given, t.flags) for t in changed),
                strict=True,
            )
        )
        if columns:
            names = ("serials", "overlaps", "states", "answers", "taken", "given", "flags")
            self._rows(
                "UPDATE tasks t SET overlap = n.overlap, state = n.state, answer_count = n.answers, "
                "taken = n.taken, given = n.given, flag_count = n.flags FROM unnest("
                "CAST(:serials AS bigint[]), CAST(:overlaps AS int[]), CAST(:states AS text[]), "
                "CAST(:answers AS int[]), CAST(:taken AS int[]), CAST(:given AS int[]), "
                "CAST(:flags AS int[])) AS n(serial, overlap, state, answers, taken, given, flags) "
                "WHERE t.serial = n.serial",
                **{name: list(column) for name, column in zip(names, columns, strict=True)},
            )

    def _copy(self, target: str, texts: Iterable[str]) -> None:
        with self._copying(target) as copy:
            for text in texts:
                copy.write(text)

    @contextmanager
    def _copying(self, target: str) -> Iterator[Copy]:
        """Yield a COPY that sends on a thread of its own."""
        cursor: Any = self._connection.connection.cursor()
        writer = QueuedLibpqWriter(cursor)
        with _driver_errors(), cursor.copy(f"COPY {target} FROM STDIN", writer=writer) as copy:
            yield copy


class _People:
    """What people did with the tasks of a page."""

    def __init__(
        self, assignments: Iterable[tuple[Any, ...]], annotations: Iterable[tuple[Any, ...]]
    ) -> None:
        answers: dict[tuple[int, int], list[AnnotationRecord]] = defaultdict(list)
        self.corrections: dict[int, list[AnnotationRecord]] = defaultdict(list)
        for task, number, revision, labels, lead_ms, lease_ms, version, made, name, by in annotations:
            answer = None if labels is None else tuple(labels)
            one = AnnotationRecord(revision, answer, lead_ms, lease_ms, version, made, name, by)
            (answers[task, number] if number else self.corrections[task]).append(one)
        self.by_task: dict[int, list[AssignmentRecord]] = defaultdict(list)
        for task, number, annotator, state, comment, prelabel, shown, version, claimed in assignments:
            done = tuple(answers.get((task, number), ()))
            guess = labels_of(prelabel)
            self.by_task[task].append(
                AssignmentRecord(number, annotator, state, comment, guess, shown, version, claimed, done)
            )


def _task(project: str, row: tuple[Any, ...], people: _People) -> TaskRecord:
    serial, counting, key, commit, blob, media_type, state, priority, overlap, gold, *rest = row
    consensus, confidence, reviewed, reviewer, comment, prelabel, version, made = rest
    corrections = tuple(people.corrections.get(serial, ()))
    correction = 0
    if counting is not None:
        counts = (one.revision for one in corrections if one.name == f"annotations/{counting}")
        correction = next(counts, 0)
    return TaskRecord(
        key,
        "",
        commit,
        blob,
        media_type,
        state,
        priority,
        overlap,
        labels_of(gold),
        labels_of(consensus),
        confidence,
        labels_of(reviewed),
        reviewer,
        comment,
        corrections,
        correction,
        labels_of(prelabel),
        version,
        made,
        tuple(people.by_task.get(serial, ())),
        f"labelingProjects/{project}/tasks/{serial}",
    )


# How a row is written in the text format of COPY.
def _task_line(row: Sequence[Any]) -> str:
    serial, project, key, commit, blob, media_type, state, priority, overlap, taken, given, *rest = row
    answers, flags, gold, prelabel, version, consensus, confidence, reviewed, *rest = rest
    counting, reviewer, comment, made = rest
    return (
        f"{serial}\t{_text(project)}\t{_text(key)}\t{_text(commit)}\t{_text(blob)}\t{_text(media_type)}\t"
        f"{_text(state)}\t{priority}\t{overlap}\t{taken}\t{given}\t{answers}\t{flags}\t{_array(gold)}\t"
        f"{_array(prelabel)}\t{_text(version)}\t{_array(consensus)}\t{confidence}\t{_array(reviewed)}\t"
        f"{_or_null(counting)}\t{_text(reviewer)}\t{_text(comment)}\t{_text(made)}\n"
    )


def _assignment_line(row: Sequence[Any]) -> str:
    task, number, project, annotator, state, leased, claimed, version, prelabel, shown, comment, counting = (
        row
    )
    return (
        f"{task}\t{number}\t{_text(project)}\t{_text(annotator)}\t{_text(state)}\t{_text(leased)}\t"
        f"{_text(claimed)}\t{version}\t{_array(prelabel)}\t{shown}\t{_text(comment)}\t"
        f"{_or_null(counting)}\n"
    )


def _annotation_line(row: Sequence[Any]) -> str:
    id, project, task, number, annotator, labels, revision, withdrawn, lease_ms, lead_ms, *rest = row
    shown, version, made = rest
    return (
        f"{id}\t{_text(project)}\t{task}\t{number}\t{_text(annotator)}\t{_array(labels)}\t{revision}\t"
        f"{withdrawn}\t{lease_ms}\t{lead_ms}\t{shown}\t{version}\t{_text(made)}\n"
    )


def _text(value: str) -> str:
    return value if value.isprintable() and "\\" not in value else value.translate(_ESCAPES)


def _or_null(value: int | None) -> str:
    return "\\N" if value is None else str(value)


@lru_cache(maxsize=4096)
def _array(labels: Labels | None) -> str:
    if labels is None:
        return "\\N"
    quoted = (label.replace("\\", "\\\\").replace('"', '\\"') for label in labels)
    return ("{" + ",".join(f'"{label}"' for label in quoted) + "}").translate(_ESCAPES)


_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


@contextmanager
def _driver_errors() -> Iterator[None]:
    """Turn what the driver raises outside of SQLAlchemy into our errors."""
    try:
        yield
    except psycopg.errors.UniqueViolation as error:
        raise CollisionError(str(error)) from error
    except psycopg.errors.QueryCanceled as error:
        message = "the database did not answer within the deadline"
        raise DeadlineExceeded("DEADLINE_EXCEEDED", message) from error
    except psycopg.OperationalError as error:
        message = "the database cannot be reached; try again"
        raise Unavailable("DATABASE_UNAVAILABLE", message, retry_after_s=1) from error
