"""Codecs: what goes out comes in again, and no damaged file gets past its refusal."""

import json
import random

import pytest
from slipway_labeling.engine.files import coco, jsonl, label_studio
from slipway_labeling.engine.files.records import (
    AnnotationRecord,
    AssignmentRecord,
    Schema,
    TaskRecord,
    check,
    in_order,
)
from slipway_runtime.errors import InvalidArgument

SCHEMA = Schema(("daisy", "rose", "tulip é ☃", 'a "quoted" \\ one'), multiple=True)
DATASET = "datasets/flowers"
CODECS = (jsonl, coco, label_studio)


def made(draw: random.Random) -> str | None:
    micros = draw.randrange(1_000_000)
    return draw.choice((None, f"2026-01-{draw.randrange(1, 28):02d}T12:00:00.{micros:06d}Z"))


def answer(draw: random.Random) -> tuple[str, ...]:
    return tuple(label for label in SCHEMA.labels if draw.random() < 0.4)


def assignment(draw: random.Random, number: int) -> AssignmentRecord:
    annotations = []
    for revision in range(1, draw.randrange(0, 4) + 1):
        labels = None if revision % 2 == 0 else answer(draw)
        annotations.append(
            AnnotationRecord(revision, labels, draw.randrange(10**6), draw.randrange(10**6), 2, made(draw))
        )
    standing = bool(annotations) and annotations[-1].labels is not None
    state = "SUBMITTED" if standing else draw.choice(("SKIPPED", "FLAGGED", "EXPIRED"))
    return AssignmentRecord(
        number,
        f"annotators/p{number}",
        state,
        draw.choice(("", "tab\there\n")),
        draw.choice((None, answer(draw))),
        draw.random() < 0.5,
        3,
        made(draw),
        tuple(annotations),
    )


def task(draw: random.Random, key: str) -> TaskRecord:
    reviewed = draw.choice((None, answer(draw)))
    return TaskRecord(
        key=key,
        dataset_commit=f"{DATASET}/commits/{'a' * 64}",
        blob="b" * 64,
        media_type=draw.choice(("image/png", "text/plain")),
        state=draw.choice(("HELD", "OPEN", "ANSWERED")) if reviewed is None else "REVIEWED",
        priority=draw.uniform(-1e9, 1e9),
        overlap=draw.randrange(1, 4),
        gold=draw.choice((None, answer(draw))),
        consensus=draw.choice((None, answer(draw))),
        consensus_confidence=draw.random(),
        reviewed=reviewed,
        reviewer="" if reviewed is None else "users/rea",
        review_comment=draw.choice(("", "“so”\n")),
        corrections=tuple(
            AnnotationRecord(n + 1, answer(draw), annotator="annotators/rea")
            for n in range(draw.randrange(3))
        ),
        prelabel=draw.choice((None, answer(draw))),
        prelabel_version="models/flowers/versions/3",
        create_time=made(draw),
        assignments=tuple(assignment(draw, number + 1) for number in range(draw.randrange(4))),
    )


def tasks(seed: int) -> list[TaskRecord]:
    draw = random.Random(seed)
    return [task(draw, f"image/{number} é.png") for number in range(20)]


def placeless(found: list[TaskRecord]) -> list[TaskRecord]:
    return [one._replace(where="") for one in found]


@pytest.mark.parametrize("seed", range(20))
def test_jsonl_loses_nothing(seed: int) -> None:
    wanted = tasks(seed)

    found = jsonl.decode(b"".join(jsonl.encode(wanted, SCHEMA)))

    assert placeless(found) == wanted
    check(found, SCHEMA, DATASET)


@pytest.mark.parametrize("seed", range(10))
def test_label_studio_keeps_what_its_docstring_does_not_take_away(seed: int) -> None:
    wanted = tasks(seed)

    data = b"".join(label_studio.encode(wanted, SCHEMA))
    found = label_studio.decode(data)

    assert b"".join(label_studio.encode(found, SCHEMA)).replace(b'"text"', b'"image"') == data.replace(
        b'"text"', b'"image"'
    )
    for one, other in zip(wanted, found, strict=True):
        assert (one.key, one.gold, one.prelabel, one.overlap) == (
            other.key,
            other.gold,
            other.prelabel,
            other.overlap,
        )
        assert one.answers == other.answers
    check(found, SCHEMA, DATASET)


@pytest.mark.parametrize("seed", range(10))
def test_coco_keeps_the_labels_and_its_ids(seed: int) -> None:
    wanted = tasks(seed)

    data = b"".join(coco.encode(wanted, SCHEMA))
    found = coco.decode(data)

    assert [(one.key, one.answers) for one in found] == [
        (one.key, [one.label] if one.label else []) for one in wanted
    ]
    assert b"".join(coco.encode(found, SCHEMA)) == data
    document = json.loads(data)
    ids = [image["id"] for image in document["images"]]
    assert len(set(ids)) == len(ids)
    assert [category["name"] for category in document["categories"]] == list(SCHEMA.labels)


def test_an_image_keeps_its_id_beside_other_images() -> None:
    few, many = tasks(1)[3:5], tasks(1)

    ids = {
        image["file_name"]: image["id"] for image in json.loads(b"".join(coco.encode(few, SCHEMA)))["images"]
    }

    all_ids = json.loads(b"".join(coco.encode(many, SCHEMA)))["images"]
    assert ids.items() <= {image["file_name"]: image["id"] for image in all_ids}.items()


def test_answers_are_put_into_schema_order() -> None:
    task = TaskRecord(key="k", gold=("rose", "daisy"))

    assert in_order(task, SCHEMA).gold == ("daisy", "rose")


@pytest.mark.parametrize("codec", CODECS)
def test_a_damaged_file_is_refused_or_read_and_nothing_else(codec: object) -> None:
    draw = random.Random(7)
    whole = b"".join(codec.encode(tasks(3)[:4], SCHEMA))  # type: ignore[attr-defined]
    pieces = (b'"', b"{", b"]", b"null", b"-1", b"1e400", b"\xff", b"\\ud800", b"[[", b"true", b"0.5", b'"x"')
    refusals = []
    for _ in range(600):
        damaged = bytearray(whole)
        for _ in range(draw.randrange(1, 4)):
            at, size = draw.randrange(len(damaged)), draw.randrange(0, 12)
            damaged[at : at + size] = draw.choice(pieces)
        try:
            check(codec.decode(bytes(damaged)), SCHEMA, DATASET)  # type: ignore[attr-defined]
        except InvalidArgument as error:
            refusals.append(error)
            str(error).encode()
    assert len(refusals) > 300
    assert all(error.reason == "FILE_REFUSED" and error.violations for error in refusals)


@pytest.mark.parametrize("codec", CODECS)
def test_every_value_of_another_type_is_refused_or_read_and_nothing_else(codec: object) -> None:
    lines = b"".join(codec.encode(tasks(5)[:3], SCHEMA))  # type: ignore[attr-defined]
    parts = [json.loads(line) for line in lines.splitlines()] if codec is jsonl else [json.loads(lines)]

    refusals = []

    def spoil(value: object, wrong: object) -> None:
        """Put a wrong value in every place, one at a time, and read the file."""
        places = (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        )
        for place, one in list(places):
            value[place] = wrong  # type: ignore[index]
            try:
                data = "\n".join(json.dumps(part) for part in parts).encode()
                check(codec.decode(data), SCHEMA, DATASET)  # type: ignore[attr-defined]
            except InvalidArgument as error:
                refusals.append(error)
            value[place] = one  # type: ignore[index]
            spoil(one, wrong)

    for wrong in (None, True, -1, 1.5, "x", [], {}, [1], {"a": 1}, 2**70, "2026-02-30T00:00:00Z"):
        for part in parts:
            spoil(part, wrong)

    assert len(refusals) > 100
    assert {error.reason for error in refusals} == {"FILE_REFUSED"}


def test_violations_are_all_named_up_to_a_hundred() -> None:
    data = b"\n".join(b'{"key": %d}' % number for number in range(300))

    with pytest.raises(InvalidArgument) as caught:
        jsonl.decode(data)

    assert len(caught.value.violations) == 100
    assert caught.value.violations[99].field == "line 100"


def test_two_addresses_do_not_become_one_person() -> None:
    people = [{"completed_by": {"email": f"ann@{host}"}, "result": []} for host in ("a.org", "b.org")]
    data = json.dumps([{"data": {"key": "k"}, "annotations": people}]).encode()

    with pytest.raises(InvalidArgument, match=r"ann@b\.org"):
        label_studio.decode(data)
