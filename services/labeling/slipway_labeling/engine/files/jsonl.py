"""JSONL: one object per line and task, with everything that is known.

Lossless but for three things. Resource names are written for people and programs that follow them, and
given anew on import. A lease that is in flight is written as EXPIRED, for it is nobody's in another place.
How often a task was flagged follows from its assignments.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from json.encoder import encode_basestring as _text
from math import isfinite
from typing import Any

from slipway_labeling.engine.files import fields
from slipway_labeling.engine.files.fields import FieldError
from slipway_labeling.engine.files.records import (
    ENDED_STATES,
    AnnotationRecord,
    AssignmentRecord,
    Labels,
    Refusals,
    Schema,
    Stamp,
    TaskRecord,
    parsed,
)


def encode(tasks: Iterable[TaskRecord], schema: Schema) -> Iterator[bytes]:
    """Yield the file, one line at a time."""
    for task in tasks:
        yield _task(task).encode()


# Lines are written from templates: to make dictionaries for an encoder costs twice as much as the lines.
def _task(task: TaskRecord) -> str:
    corrections = [f'{{"annotator":{_text(one.annotator)},{_annotation(one)}' for one in task.corrections]
    return (
        f'{{"task":{_text(task.name)},"key":{_text(task.key)},"commit":{_text(task.dataset_commit)},'
        f'"blob":{_text(task.blob)},"media_type":{_text(task.media_type)},"state":{_text(task.state)},'
        f'"priority":{_number(task.priority)},"overlap":{task.overlap},"gold":{_labels(task.gold)},'
        f'"consensus":{_labels(task.consensus)},"consensus_confidence":{_number(task.consensus_confidence)},'
        f'"reviewed":{_labels(task.reviewed)},"reviewer":{_text(task.reviewer)},'
        f'"review_comment":{_text(task.review_comment)},"corrections":[{",".join(corrections)}],'
        f'"correction":{task.correction},"prelabel":{_labels(task.prelabel)},'
        f'"prelabel_version":{_text(task.prelabel_version)},"create_time":{_stamp(task.create_time)},'
        f'"assignments":[{",".join(map(_assignment, task.assignments))}]}}\n'
    )


def _assignment(assignment: AssignmentRecord) -> str:
    number, annotator, state, comment, prelabel, shown, version, claimed, done = assignment
    annotations = ",{".join(map(_annotation, done))
    return (
        f'{{"number":{number},"annotator":{_text(annotator)},'
        f'"state":"{state if state in ENDED_STATES else "EXPIRED"}","comment":{_text(comment)},'
        f'"prelabel":{_labels(prelabel)},"prelabel_shown":{"true" if shown else "false"},'
        f'"schema_version":{version},"claim_time":{_stamp(claimed)},'
        f'"annotations":[{"{" if done else ""}{annotations}]}}'
    )


def _annotation(annotation: AnnotationRecord) -> str:
    """Return an annotation without its first brace."""
    revision, labels, lead_ms, lease_ms, version, made, name, _ = annotation
    return (
        f'"annotation":{_text(name)},"revision":{revision},"labels":{_labels(labels)},"lead_ms":{lead_ms},'
        f'"lease_ms":{lease_ms},"schema_version":{version},"create_time":{_stamp(made)}}}'
    )


@lru_cache(maxsize=4096)
def _labels(labels: Labels | None) -> str:
    return "null" if labels is None else f"[{','.join(map(_text, labels))}]"


def _stamp(value: Stamp | None) -> str:
    return "null" if value is None else f'"{value}"'


def _number(value: float) -> str:
    if not isfinite(value):
        raise ValueError(f"{value} is no JSON number")
    return repr(value)


def decode(data: bytes) -> list[TaskRecord]:
    """Return the tasks of a file; empty lines are passed over.

    Raises:
        InvalidArgument: FILE_REFUSED; the violations name the lines.
    """
    refusals = Refusals()
    found = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        where = f"line {number}"
        try:
            found.append(_read_task(fields.record(parsed(line, where), "the line"), where))
        except FieldError as error:
            refusals.add(where, str(error))
    refusals.raise_any()
    return found


# The values stand in the order of the records' fields: by name, reading costs a quarter more.
def _read_task(source: fields.Json, where: str) -> TaskRecord:
    text = fields.text
    return TaskRecord(
        text(source, "key"),
        where,
        text(source, "commit"),
        text(source, "blob"),
        text(source, "media_type"),
        text(source, "state"),
        fields.number(source, "priority"),
        fields.integer(source, "overlap"),
        fields.labels(source, "gold"),
        fields.labels(source, "consensus"),
        fields.number(source, "consensus_confidence"),
        fields.labels(source, "reviewed"),
        text(source, "reviewer"),
        text(source, "review_comment"),
        _read_annotations(source, "corrections"),
        fields.integer(source, "correction"),
        fields.labels(source, "prelabel"),
        text(source, "prelabel_version"),
        fields.moment(source, "create_time"),
        tuple(
            [_read_assignment(one, index) for index, one in enumerate(fields.items(source, "assignments"))]
        ),
        text(source, "task"),
    )


def _read_assignment(value: Any, index: int) -> AssignmentRecord:
    source = value if type(value) is dict else fields.record(value, f"assignments[{index}]")
    annotator = fields.text(source, "annotator")
    if not annotator:
        raise FieldError(f"assignment {index + 1} names no annotator; write annotators/{{annotator}}")
    return AssignmentRecord(
        fields.integer(source, "number", index + 1),
        annotator,
        fields.text(source, "state") or "SUBMITTED",
        fields.text(source, "comment"),
        fields.labels(source, "prelabel"),
        fields.flag(source, "prelabel_shown"),
        fields.integer(source, "schema_version"),
        fields.moment(source, "claim_time"),
        _read_annotations(source, "annotations"),
    )


def _read_annotations(source: fields.Json, name: str) -> tuple[AnnotationRecord, ...]:
    found = fields.items(source, name)
    return tuple([_read_annotation(one, name, index) for index, one in enumerate(found)]) if found else ()


def _read_annotation(value: Any, place: str, index: int) -> AnnotationRecord:
    source = value if type(value) is dict else fields.record(value, f"{place}[{index}]")
    return AnnotationRecord(
        fields.integer(source, "revision", index + 1),
        fields.labels(source, "labels"),
        fields.integer(source, "lead_ms"),
        fields.integer(source, "lease_ms"),
        fields.integer(source, "schema_version"),
        fields.moment(source, "create_time"),
        fields.text(source, "annotation"),
        fields.text(source, "annotator"),
    )
