"""Label Studio's JSON (labelstud.io/guide/task_format): tasks with `choices` results.

`data.key` is the example's key; without it, the key is the first text in `data` (`image` and `text` first),
of a link the last part of its path. Nothing that is named there is opened. An annotation is the standing
answer of one person: `completed_by`, `lead_time` in seconds, `created_at`; one that `was_cancelled` is a
skipped task. An annotation with `ground_truth` that nobody completed is the gold answer. `predictions` are
pre-labels.

What the format cannot hold: reviews, consensus, priorities, holds, comments, the commit and the blob,
revisions that no longer stand, whether a pre-label was shown, lease times, and that a task was flagged (it
comes back as skipped). Regions of any other type than `choices` are refused.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

from slipway_labeling.engine.files import fields
from slipway_labeling.engine.files.coco import stable_id
from slipway_labeling.engine.files.fields import FieldError
from slipway_labeling.engine.files.records import (
    ANNOTATOR,
    AnnotationRecord,
    AssignmentRecord,
    Labels,
    Refusals,
    Schema,
    TaskRecord,
    parsed,
    refused,
)

_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_FROM, _TO = "label", "example"


def encode(tasks: Iterable[TaskRecord], schema: Schema) -> Iterator[bytes]:
    """Yield the file, a task at a time."""
    yield b"["
    for index, task in enumerate(tasks):
        yield (b",\n" if index else b"\n") + _dumps(_task(task)).encode()
    yield b"\n]\n"


def _task(task: TaskRecord) -> dict[str, Any]:
    kind = "text" if task.media_type.startswith("text/") else "image"
    answered = [_annotation(task.key, one) for one in task.assignments if _ended(one)]
    gold = [] if task.gold is None else [_gold(task.key, task.gold)]
    return {
        "id": stable_id(task.key),
        "data": {"key": task.key, kind: task.key},
        "created_at": task.create_time,
        "overlap": task.overlap,
        "annotations": gold + answered,
        "predictions": [] if task.prelabel is None else [_prediction(task)],
    }


def _ended(assignment: AssignmentRecord) -> bool:
    return assignment.standing is not None or assignment.state in {"SKIPPED", "FLAGGED"}


def _annotation(key: str, assignment: AssignmentRecord) -> dict[str, Any]:
    standing = assignment.standing
    person = assignment.annotator.removeprefix("annotators/")
    return {
        "id": stable_id(key, person),
        "completed_by": {"id": stable_id(person), "email": person, "first_name": person, "last_name": ""},
        "result": [] if standing is None else _result(key, standing.labels),
        "was_cancelled": standing is None,
        "ground_truth": False,
        "created_at": assignment.claim_time if standing is None else standing.create_time,
        "lead_time": 0.0 if standing is None else standing.lead_ms / 1000,
    }


def _gold(key: str, labels: Labels) -> dict[str, Any]:
    return {
        "id": stable_id(key, "ground_truth"),
        "completed_by": None,
        "result": _result(key, labels),
        "was_cancelled": False,
        "ground_truth": True,
    }


def _prediction(task: TaskRecord) -> dict[str, Any]:
    return {"model_version": task.prelabel_version, "result": _result(task.key, task.prelabel)}


def _result(key: str, labels: Labels | None) -> list[dict[str, Any]]:
    if not labels:
        return []
    result = {
        "id": f"{stable_id(key):012x}",
        "from_name": _FROM,
        "to_name": _TO,
        "type": "choices",
        "value": {"choices": list(labels)},
    }
    return [result]


def decode(data: bytes) -> list[TaskRecord]:
    """Return the tasks of a file.

    Raises:
        InvalidArgument: FILE_REFUSED; the violations name the index.
    """
    document = parsed(data, "file")
    if not isinstance(document, list):
        raise refused("file", "is no list of tasks; export as JSON, not as another format")
    refusals = Refusals()
    people = _People()
    found = []
    for index, task in enumerate(document):
        where = f"[{index}]"
        try:
            found.append(_read_task(fields.record(task, "the task"), where, people))
        except FieldError as error:
            refusals.add(where, str(error))
    refusals.raise_any()
    return found


class _People:
    """Names people of the file; two addresses never become one person."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def named(self, completed_by: Any) -> str:
        """Return `annotators/{annotator}`, or nothing where nobody is named."""
        if completed_by is None:
            return ""
        if isinstance(completed_by, int) and not isinstance(completed_by, bool):
            return f"annotators/user-{completed_by}"
        who = fields.record(completed_by, "completed_by")
        address = fields.text(who, "email")
        if not address:
            return f"annotators/user-{fields.integer(who, 'id')}"
        person = f"annotators/{address.partition('@')[0].lower()}"
        if not ANNOTATOR.fullmatch(person):
            raise FieldError(f"completed_by.email is {address[:80]!r}; write a-z, 0-9, . and - before the @")
        if self._known.setdefault(person, address) != address:
            other = self._known[person]
            raise FieldError(f"completed_by.email {address!r} and {other!r} are both {person}; rename one")
        return person


def _read_task(source: fields.Json, where: str, people: _People) -> TaskRecord:
    gold: Labels | None = None
    assignments: list[AssignmentRecord] = []
    for index, one in enumerate(fields.items(source, "annotations") or fields.items(source, "completions")):
        annotation = fields.record(one, f"annotations[{index}]")
        annotator = people.named(annotation.get("completed_by"))
        if fields.flag(annotation, "ground_truth"):
            gold = _choices(annotation)
        if annotator or not fields.flag(annotation, "ground_truth"):
            assignments.append(_read_assignment(annotation, annotator, len(assignments) + 1))
    prelabel, version = _prelabel(source)
    return TaskRecord(
        key=_key(source),
        where=where,
        overlap=fields.integer(source, "overlap"),
        gold=gold,
        prelabel=prelabel,
        prelabel_version=version,
        create_time=fields.moment(source, "created_at"),
        assignments=tuple(assignments),
    )


def _key(source: fields.Json) -> str:
    data = fields.record(source.get("data"), "data")
    if data.get("key") is not None:
        return fields.text(data, "key")
    for name in sorted(data, key=lambda name: (name != "image", name != "text", name)):
        value = fields.text(data, name) if isinstance(data[name], str) else ""
        if value:
            linked = "://" in value or value.startswith("/")
            return unquote(urlsplit(value).path).rpartition("/")[2] if linked else value
    raise FieldError("data has no text that could be the key; write data.key")


def _read_assignment(annotation: fields.Json, annotator: str, number: int) -> AssignmentRecord:
    made = fields.moment(annotation, "created_at")
    if fields.flag(annotation, "was_cancelled"):
        return AssignmentRecord(number, annotator, "SKIPPED", claim_time=made)
    lead_ms = round(fields.number(annotation, "lead_time") * 1000)
    answer = AnnotationRecord(1, _choices(annotation), lead_ms=lead_ms, create_time=made)
    return AssignmentRecord(number, annotator, "SUBMITTED", annotations=(answer,))


def _prelabel(source: fields.Json) -> tuple[Labels | None, str]:
    predictions = fields.items(source, "predictions")
    if not predictions:
        return None, ""
    newest = fields.record(predictions[-1], f"predictions[{len(predictions) - 1}]")
    return _choices(newest), fields.text(newest, "model_version")


def _choices(answer: fields.Json) -> Labels:
    """Return the labels of all `choices` results."""
    found: list[str] = []
    for index, one in enumerate(fields.items(answer, "result")):
        result = fields.record(one, f"result[{index}]")
        kind = fields.text(result, "type")
        if kind != "choices":
            raise FieldError(
                f"result[{index}].type is {kind[:40]!r}; a project takes results of type 'choices'"
            )
        chosen = fields.labels(fields.record(result.get("value"), f"result[{index}].value"), "choices")
        found += chosen or ()
    return tuple(found)
