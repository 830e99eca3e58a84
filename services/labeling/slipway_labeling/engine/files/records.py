"""What a file of annotations says, whatever its format; and what is refused."""

import json
import re
from collections.abc import Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, NamedTuple

from slipway_runtime.errors import InvalidArgument, Violation

MAX_FILE_BYTES = 64 << 20
MAX_VIOLATIONS = 100
MAX_KEY_BYTES = 512
MAX_TEXT = 4_000
MAX_OVERLAP = 20
MAX_MS = 2**53
MAX_VERSION = 1_000_000
TASK_STATES = ("HELD", "OPEN", "ANSWERED", "REVIEWED")
ENDED_STATES = ("SUBMITTED", "SKIPPED", "FLAGGED", "EXPIRED")
ANNOTATOR = re.compile(r"annotators/[a-z]([a-z0-9.-]{0,61}[a-z0-9])?")
COMMIT = re.compile(r"datasets/[a-z0-9-]{1,63}/commits/[0-9a-f]{64}")
BLOB = re.compile(r"[0-9a-f]{64}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

Labels = tuple[str, ...]
Stamp = str  # RFC 3339 in UTC to the microsecond: 2026-01-31T12:00:00.000000Z


class AnnotationRecord(NamedTuple):
    """One revision; `labels` is None where it withdraws the one before. `name` is told, never taken.

    `annotator` is set where it is a reviewer's correction, which has no assignment.
    """

    revision: int
    labels: Labels | None
    lead_ms: int = 0
    lease_ms: int = 0
    schema_version: int = 0
    create_time: Stamp | None = None
    name: str = ""
    annotator: str = ""


class AssignmentRecord(NamedTuple):
    """What one person did with a task; `annotator` is empty where the file names nobody."""

    number: int
    annotator: str
    state: str
    comment: str = ""
    prelabel: Labels | None = None
    prelabel_shown: bool = False
    schema_version: int = 0
    claim_time: Stamp | None = None
    annotations: tuple[AnnotationRecord, ...] = ()

    @property
    def standing(self) -> AnnotationRecord | None:
        """The annotation that counts: the newest, unless it withdraws."""
        newest = self.annotations[-1] if self.annotations else None
        return newest if newest is not None and newest.labels is not None else None


class TaskRecord(NamedTuple):
    """One task with all that is known of it; what a file leaves out is None or empty.

    `where` says where in the file it stands: `line 3`, `[2]`, `images[2]`. `correction` is the revision of
    the correction that counts, 0 where none does.
    """

    key: str
    where: str = ""
    dataset_commit: str = ""
    blob: str = ""
    media_type: str = ""
    state: str = ""
    priority: float = 0.0
    overlap: int = 0
    gold: Labels | None = None
    consensus: Labels | None = None
    consensus_confidence: float = 0.0
    reviewed: Labels | None = None
    reviewer: str = ""
    review_comment: str = ""
    corrections: tuple[AnnotationRecord, ...] = ()
    correction: int = 0
    prelabel: Labels | None = None
    prelabel_version: str = ""
    create_time: Stamp | None = None
    assignments: tuple[AssignmentRecord, ...] = ()
    name: str = ""

    @property
    def answers(self) -> list[Labels]:
        """The answers that stand."""
        standing = (assignment.standing for assignment in self.assignments)
        return [one.labels for one in standing if one is not None and one.labels is not None]

    @property
    def label(self) -> Labels | None:
        """The label: the reviewed answer, else the consensus, else the only answer where one is due."""
        if self.reviewed is not None:
            return self.reviewed
        if self.consensus is not None:
            return self.consensus
        answers = self.answers
        return answers[0] if len(answers) == 1 and self.overlap == 1 else None


class Schema(NamedTuple):
    """What a file may answer."""

    labels: Labels
    multiple: bool


class Refusals:
    """Collects what is wrong with a file, and refuses it as a whole."""

    def __init__(self) -> None:
        self._violations: list[Violation] = []

    def add(self, where: str, description: str) -> None:
        """Note one thing that is wrong; after 100 the rest is not looked at.

        Raises:
            InvalidArgument: There are too many (FILE_REFUSED).
        """
        self._violations.append(Violation(where, description))
        if len(self._violations) >= MAX_VIOLATIONS:
            self.raise_any()

    def raise_any(self) -> None:
        """Refuse the file if anything was noted.

        Raises:
            InvalidArgument: FILE_REFUSED with each violation by line or index.
        """
        if not self._violations:
            return
        first = self._violations[0]
        more = len(self._violations) - 1
        others = f" (and {more} more)" if more else ""
        message = f"nothing was imported: {first.field}: {first.description}{others}"
        raise InvalidArgument("FILE_REFUSED", message, violations=self._violations)


def refused(where: str, description: str) -> InvalidArgument:
    """Return the refusal of a file for one thing."""
    refusals = Refusals()
    try:
        refusals.add(where, description)
        refusals.raise_any()
    except InvalidArgument as error:
        return error
    raise AssertionError("a noted violation refuses")


def parsed(data: bytes, where: str) -> Any:
    """Return the JSON value in `data`.

    Raises:
        InvalidArgument: It is none, or nests too deep (FILE_REFUSED).
    """
    try:
        text = data.decode().removeprefix("\ufeff").strip(" \t\r\n")
        value, end = _DECODER.raw_decode(text)
        return value if end == len(text) else _DECODER.decode(text)  # which tells what is too much
    except RecursionError as error:
        raise refused(where, "nests too deep; write it flat") from error
    except ValueError as error:
        raise refused(where, f"is no JSON ({error}); write it anew") from error


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def label_trouble(labels: Sequence[str] | None, schema: Schema) -> str:
    """Return what is wrong with an answer under the schema, or nothing."""
    if labels is None:
        return ""
    unknown = next((label for label in labels if label not in schema.labels), None)
    if unknown is not None:
        near = get_close_matches(unknown, schema.labels, n=3, cutoff=0.6) or schema.labels[:10]
        known = ", ".join(repr(label) for label in near)
        return (
            f"label {unknown[:100]!r} is not in the schema; add it there, or write one of it, such as {known}"
        )
    if len(set(labels)) != len(labels):
        return "names a label twice; write each once"
    if not schema.multiple and len(labels) != 1:
        return f"has {len(labels)} labels; the schema wants exactly one"
    return ""


def key_trouble(key: str) -> str:
    """Return what is wrong with an example's key, or nothing."""
    if not key:
        return "has no key; name the example"
    if len(key) <= MAX_KEY_BYTES // 4 and key.isprintable():
        return ""
    if len(key.encode(errors="surrogatepass")) > MAX_KEY_BYTES:
        return f"has a key of more than {MAX_KEY_BYTES} bytes; no example has one"
    return "has control characters in its key; no example has" if _CONTROL.search(key) else ""


def check(tasks: Sequence[TaskRecord], schema: Schema, dataset: str) -> None:
    """Refuse what no project may hold: labels outside the schema, keys twice, impossible states and numbers.

    Raises:
        InvalidArgument: FILE_REFUSED with each violation by line or index.
    """
    refusals = Refusals()
    seen: dict[str, str] = {}
    known: dict[Labels, str] = {}
    for task in tasks:
        trouble = key_trouble(task.key) or _task_trouble(task, dataset)
        if not trouble and task.key in seen:
            trouble = f"has the key {task.key!r}, as {seen[task.key]}; write each key once"
        for labels in _answers(task):
            if labels not in known:
                known[labels] = label_trouble(labels, schema)
            trouble = trouble or known[labels]
        if trouble:
            refusals.add(task.where, trouble)
        seen.setdefault(task.key, task.where)
    refusals.raise_any()


def in_order(task: TaskRecord, schema: Schema) -> TaskRecord:
    """Return the task with every answer in schema order."""
    place = {label: index for index, label in enumerate(schema.labels)}

    def ordered(labels: Labels | None) -> Labels | None:
        return labels if labels is None else tuple(sorted(labels, key=place.__getitem__))

    def revisions(found: tuple[AnnotationRecord, ...]) -> tuple[AnnotationRecord, ...]:
        return tuple(one._replace(labels=ordered(one.labels)) for one in found)

    return task._replace(
        gold=ordered(task.gold),
        consensus=ordered(task.consensus),
        reviewed=ordered(task.reviewed),
        prelabel=ordered(task.prelabel),
        corrections=revisions(task.corrections),
        assignments=tuple(
            one._replace(prelabel=ordered(one.prelabel), annotations=revisions(one.annotations))
            for one in task.assignments
        ),
    )


@lru_cache(maxsize=4096)
def _is_annotator(name: str) -> bool:
    return ANNOTATOR.fullmatch(name) is not None


@lru_cache(maxsize=4096)
def _is_commit(name: str) -> bool:
    return COMMIT.fullmatch(name) is not None


def _answers(task: TaskRecord) -> list[Labels]:
    found = [task.gold, task.consensus, task.reviewed, task.prelabel]
    found += [correction.labels for correction in task.corrections]
    for assignment in task.assignments:
        found.append(assignment.prelabel)
        found += [annotation.labels for annotation in assignment.annotations]
    return [labels for labels in found if labels is not None]


def _task_trouble(task: TaskRecord, dataset: str) -> str:
    if task.state and task.state not in TASK_STATES:
        return f"state is {task.state[:40]!r}; write one of {', '.join(TASK_STATES)}"
    if not 0 <= task.overlap <= MAX_OVERLAP:
        return f"overlap is {task.overlap}; write 0 (the project's) to {MAX_OVERLAP}"
    if task.dataset_commit and not _is_commit(task.dataset_commit):
        return f"commit is {task.dataset_commit[:80]!r}; write {dataset}/commits/{{digest}}"
    if task.dataset_commit and not task.dataset_commit.startswith(f"{dataset}/"):
        return f"commit {task.dataset_commit[:80]!r} is not of {dataset}; leave commit and blob out"
    if task.blob and not BLOB.fullmatch(task.blob):
        return f"blob is {task.blob[:80]!r}; write a BLAKE3 digest, or leave it out"
    if not 0 <= task.consensus_confidence <= 1:
        return f"consensus_confidence is {task.consensus_confidence}; write 0 to 1"
    if (task.state == "REVIEWED") != (task.reviewed is not None) and task.state:
        return "state REVIEWED and a reviewed answer go together; write both or neither"
    texts = task.review_comment + task.reviewer + task.prelabel_version + task.media_type
    if len(texts) > MAX_TEXT or "\0" in texts:
        return f"has texts with NUL or of more than {MAX_TEXT} characters; shorten them"
    return _people_trouble(task)


def _people_trouble(task: TaskRecord) -> str:
    if not 0 <= task.correction <= len(task.corrections):
        return f"correction is {task.correction}; write a revision of the corrections, or 0"
    for index, correction in enumerate(task.corrections):
        if correction.revision != index + 1 or correction.labels is None:
            return "corrections are not 1, 2, … with labels each; write all, from 1"
        if not ANNOTATOR.fullmatch(correction.annotator):
            return (
                f"correction {index + 1}: annotator is {correction.annotator[:80]!r}; write annotators/{{id}}"
            )
    if len(task.assignments) > 1:
        people = [assignment.annotator for assignment in task.assignments if assignment.annotator]
        if len(set(people)) != len(people):
            twice = next(person for person in people if people.count(person) > 1)
            return f"{twice} has two assignments; a person gets a task once"
        numbers = [assignment.number for assignment in task.assignments]
        if len(set(numbers)) != len(numbers):
            return "two assignments have one number; write 1, 2, …"
    for assignment in task.assignments:
        trouble = _assignment_trouble(assignment)
        if trouble:
            return f"assignment {assignment.number}: {trouble}"
    return ""


def _assignment_trouble(assignment: AssignmentRecord) -> str:
    if assignment.annotator and not _is_annotator(assignment.annotator):
        return f"annotator is {assignment.annotator[:80]!r}; write annotators/{{a-z, 0-9, . and -}}"
    if assignment.number < 1 or assignment.number > 1_000_000:
        return f"number is {assignment.number}; write 1, 2, …"
    if assignment.state not in ENDED_STATES:
        return f"state is {assignment.state[:40]!r}; write one of {', '.join(ENDED_STATES)}"
    if (assignment.standing is not None) != (assignment.state == "SUBMITTED"):
        return "SUBMITTED and an answer that stands go together; write both or neither"
    if not 0 <= assignment.schema_version <= MAX_VERSION:
        return f"schema_version is {assignment.schema_version}; leave it out"
    if len(assignment.comment) > MAX_TEXT or "\0" in assignment.comment:
        return f"comment has NUL or more than {MAX_TEXT} characters; shorten it"
    for index, annotation in enumerate(assignment.annotations):
        if annotation.revision != index + 1:
            return f"revision {annotation.revision} stands where {index + 1} is due; write all, from 1"
        withdrawn = annotation.labels is None
        if withdrawn and (index == 0 or assignment.annotations[index - 1].labels is None):
            return f"revision {annotation.revision} withdraws nothing; leave it out"
        if not (0 <= annotation.lead_ms < MAX_MS and 0 <= annotation.lease_ms < MAX_MS):
            return f"revision {annotation.revision} has a time below 0 or too large; write milliseconds"
        if not 0 <= annotation.schema_version <= MAX_VERSION:
            return (
                f"revision {annotation.revision} has schema_version {annotation.schema_version}; leave it out"
            )
    return ""
