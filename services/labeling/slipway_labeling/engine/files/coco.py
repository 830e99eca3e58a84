"""COCO (cocodataset.org/#format-data): images, categories, annotations of a whole image.

`images[].file_name` is the example's key; `categories` are the schema's labels in their order, ids from 1. An
annotation is one label of what the task is labelled with: the reviewed answer, else the consensus, else the
only answer of a task that asks for one. Ids of images and annotations are digests of key and label (48 bits),
so the same example has the same id in every file.

What COCO cannot hold: who answered, when, and what the others said; gold, reviews, comments, priorities,
pre-labels, the commit and the blob; and the difference between "no label fits" and "not labelled yet". Width
and height, which are the data set's knowledge, are left out. On import each labelled image becomes one answer
of the importer. Boxes and outlines are refused: they are no labels of a whole image.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any

from slipway_labeling.engine.files import fields
from slipway_labeling.engine.files.fields import FieldError
from slipway_labeling.engine.files.records import (
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


def stable_id(*parts: str) -> int:
    """Return the id of a thing that these texts name: 48 bits, so that any JSON reader holds it exactly."""
    digest = hashlib.blake2b("\0".join(parts).encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big")


def encode(tasks: Iterable[TaskRecord], schema: Schema) -> Iterator[bytes]:
    """Yield the file in pieces: images as they come, what they are labelled with last."""
    categories = [
        {"id": index, "name": label, "supercategory": ""}
        for index, label in enumerate(schema.labels, start=1)
    ]
    number = {label: index for index, label in enumerate(schema.labels, start=1)}
    labelled: list[bytes] = []
    yield b'{"info":{"description":"slipway","version":"1"},"licenses":[],"categories":'
    yield _dumps(categories).encode() + b',"images":['
    for index, task in enumerate(tasks):
        image = stable_id(task.key)
        yield (b",\n" if index else b"\n") + _dumps({"id": image, "file_name": task.key}).encode()
        labelled += [_annotation(task.key, image, label, number[label]) for label in task.label or ()]
    yield b'\n],"annotations":['
    for index, annotation in enumerate(labelled):
        yield (b",\n" if index else b"\n") + annotation
    yield b"\n]}\n"


def _annotation(key: str, image: int, label: str, category: int) -> bytes:
    made = {"id": stable_id(key, label), "image_id": image, "category_id": category, "iscrowd": 0}
    return _dumps(made).encode()


def decode(data: bytes) -> list[TaskRecord]:
    """Return a task per image, with one answer where it has annotations; its annotator is left open.

    Raises:
        InvalidArgument: FILE_REFUSED; the violations name the index.
    """
    try:
        document = fields.record(parsed(data, "file"), "the file")
        images, categories, annotations = (
            fields.items(document, name, needed=True) for name in ("images", "categories", "annotations")
        )
    except FieldError as error:
        raise refused("file", str(error)) from error
    refusals = Refusals()
    names = _names(categories, "categories", "name", refusals)
    keys = _names(images, "images", "file_name", refusals)
    answers = _answers(annotations, names, keys, refusals)
    refusals.raise_any()
    return [
        TaskRecord(key=key, where=f"images[{index}]", overlap=1, assignments=_assignments(answers.get(image)))
        for index, (image, key) in enumerate(keys.items())
    ]


def _names(things: list[Any], field: str, name: str, refusals: Refusals) -> dict[int, str]:
    found: dict[int, str] = {}
    for index, thing in enumerate(things):
        where = f"{field}[{index}]"
        try:
            id = fields.integer(fields.record(thing, where), "id", -1)
            named = fields.text(thing, name)
        except FieldError as error:
            refusals.add(where, str(error))
            continue
        if id < 0 or id in found:
            refusals.add(f"{where}.id", f"is {'missing' if id < 0 else f'{id} again'}; give each its own")
        elif not named:
            refusals.add(f"{where}.{name}", "is missing; name it")
        found[id] = named
    return found


def _answers(
    annotations: list[Any], names: dict[int, str], keys: dict[int, str], refusals: Refusals
) -> dict[int, Labels]:
    """Return the labels of each image, in the order of the categories."""
    chosen: dict[int, set[int]] = {}
    for index, annotation in enumerate(annotations):
        where = f"annotations[{index}]"
        try:
            image, category = _link(fields.record(annotation, where), names, keys)
        except FieldError as error:
            refusals.add(where, str(error))
            continue
        chosen.setdefault(image, set()).add(category)
    return {
        image: tuple(label for category, label in names.items() if category in found)
        for image, found in chosen.items()
    }


def _link(annotation: fields.Json, names: dict[int, str], keys: dict[int, str]) -> tuple[int, int]:
    image, category = (fields.integer(annotation, name, -1) for name in ("image_id", "category_id"))
    if image not in keys:
        raise FieldError(f"image_id is {image}; no image of the file has that id")
    if category not in names:
        raise FieldError(f"category_id is {category}; no category of the file has that id")
    if annotation.get("bbox") or annotation.get("segmentation") or annotation.get("keypoints"):
        raise FieldError("has a box or an outline; a project takes labels of the whole image: leave it out")
    return image, category


def _assignments(labels: Labels | None) -> tuple[AssignmentRecord, ...]:
    if labels is None:
        return ()
    return (AssignmentRecord(1, "", "SUBMITTED", annotations=(AnnotationRecord(1, labels),)),)
