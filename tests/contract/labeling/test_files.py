"""What callers may rely on of files: out and in again without loss, all of it or nothing."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from desk import Desk, State, by_key, refused
from slipway.labeling.v1 import labeling_pb2 as pb

FORMATS = (pb.JSONL, pb.COCO, pb.LABEL_STUDIO)
NAMES = ("task", "annotation")


def export(desk: Desk, project: str, format: int) -> bytes:
    pieces = [
        one.chunk
        for one in desk.stub().ExportAnnotations(
            pb.ExportAnnotationsRequest(parent=project, format=format), timeout=120
        )
    ]
    assert all(len(piece) <= 1 << 20 for piece in pieces)
    return b"".join(pieces)


def parts(project: str, format: int, data: bytes, request_id: str = "") -> Iterator[Any]:
    header = pb.ImportHeader(parent=project, format=format, request_id=request_id)
    yield pb.ImportAnnotationsRequest(header=header)
    for start in range(0, len(data), 1 << 20):
        yield pb.ImportAnnotationsRequest(chunk=data[start : start + (1 << 20)])


def import_(
    desk: Desk, project: str, format: int, data: bytes, request_id: str = "", user: str = "eva"
) -> Any:
    return desk.stub(user).ImportAnnotations(parts(project, format, data, request_id), timeout=120)


def counts(made: pb.ImportAnnotationsResponse) -> tuple[int, int, int, int]:
    return (
        made.task_count,
        made.existing_task_count,
        made.annotation_count,
        made.existing_annotation_count,
    )


def content(data: bytes) -> list[Any]:
    """Return the lines of a JSONL file without resource names."""

    def without(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: without(one) for name, one in value.items() if name not in NAMES}
        return [without(one) for one in value] if isinstance(value, list) else value

    return [without(json.loads(line)) for line in data.splitlines()]


@pytest.fixture(scope="module")
def full(desk: Desk) -> tuple[str, str]:
    """Return a data set and a project in which everything has happened that can be written to a file."""
    dataset = desk.dataset(8)
    project = desk.project(dataset, overlap=2)
    keys = [f"k{number:03d}.txt" for number in range(8)]
    desk.tasks(project, keys=keys[6:7], hold=True, priority=-1.5)
    rose = pb.Answer(choice=pb.Choice(labels=["rose"]))
    desk.tasks(project, keys=keys[5:6], gold={keys[5]: rose})
    desk.tasks(project, keys=keys[:4], priority=2.25)
    ann = desk.stub("ann", "annotator")
    for verb, request in (
        (ann.SkipAssignment, pb.SkipAssignmentRequest(comment="too dark")),
        (ann.FlagAssignment, pb.FlagAssignmentRequest(comment="two flowers, “both” fine\n")),
    ):
        (given,) = ann.ClaimTasks(pb.ClaimTasksRequest(parent=project, count=1)).assignments
        request.name = given.name
        verb(request)
    made = desk.answer(project, "ann", by_key({keys[2]: "tulip"}))
    ann.UndoAnnotation(pb.UndoAnnotationRequest(name=made[0].name))
    desk.answer(project, "ann", by_key({}))
    made = desk.answer(project, "ben", by_key({}))
    ben = desk.stub("ben", "annotator")
    ben.UndoAnnotation(pb.UndoAnnotationRequest(name=made[-1].name))  # and leaves it leased
    task = desk.task_names(project)[keys[0]]
    for label in ("tulip", "rose"):
        desk.stub("rea", "reviewer").ReviewTask(
            pb.ReviewTaskRequest(
                name=task,
                verdict=pb.ReviewTaskRequest.CORRECT,
                answer=pb.Answer(choice=pb.Choice(labels=[label])),
                comment="look again",
            )
        )
    more = content(export(desk, project, pb.JSONL))[0] | {
        "key": keys[7],
        "state": "OPEN",
        "prelabel": ["tulip"],
        "prelabel_version": "models/flowers/versions/3",
        "consensus": ["daisy"],
        "consensus_confidence": 0.1 + 0.2,
        "reviewed": None,
        "corrections": [],
        "correction": 0,
        "blob": "",
    }
    import_(desk, project, pb.JSONL, json.dumps(more).encode())
    return dataset, project


def test_jsonl_goes_out_and_in_without_loss(desk: Desk, full: tuple[str, str]) -> None:
    dataset, project = full
    first = export(desk, project, pb.JSONL)
    copy = desk.project(dataset, overlap=2)

    made = import_(desk, copy, pb.JSONL, first)

    tasks = content(first)
    again = content(export(desk, copy, pb.JSONL))
    assert again == tasks
    annotations = sum(len(one["annotations"]) for task in tasks for one in task["assignments"])
    corrections = sum(len(task["corrections"]) for task in tasks)
    assert counts(made) == (len(tasks), 0, annotations + corrections, 0)
    assert {task["state"] for task in tasks} >= {"HELD", "OPEN", "REVIEWED"}
    states = {one["state"] for task in tasks for one in task["assignments"]}
    assert states == {"SUBMITTED", "SKIPPED", "FLAGGED", "EXPIRED"}
    assert any(len(one["annotations"]) == 3 for task in tasks for one in task["assignments"])
    assert any(task["gold"] for task in tasks)
    assert any(task["corrections"] and task["correction"] == 2 for task in tasks)
    assert any(task["prelabel"] for task in tasks)


@pytest.mark.parametrize("format", [pb.COCO, pb.LABEL_STUDIO])
def test_other_formats_go_out_and_in_without_loss_of_what_they_hold(
    desk: Desk, full: tuple[str, str], format: int
) -> None:
    dataset, project = full
    first = export(desk, project, format)
    copy = desk.project(dataset, overlap=2)

    import_(desk, copy, format, first)

    assert export(desk, copy, format) == first
    assert len(first) > 500


def test_several_labels_and_none_go_out_and_in(desk: Desk) -> None:
    dataset = desk.dataset(3)
    project = desk.project(dataset, multiple=True)
    desk.tasks(project)
    chosen = {"k000.txt": ["tulip", "daisy"], "k001.txt": [], "k002.txt": ["rose"]}
    desk.answer(project, "ann", chosen.__getitem__)

    for format in FORMATS:
        first = export(desk, project, format)
        copy = desk.project(dataset, multiple=True)
        import_(desk, copy, format, first)
        again = export(desk, copy, format)
        assert (content(again) == content(first)) if format == pb.JSONL else (again == first)


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_file_twice_makes_nothing_twice(desk: Desk, full: tuple[str, str], format: int) -> None:
    dataset, project = full
    data = export(desk, project, format)
    copy = desk.project(dataset, overlap=2)
    first = import_(desk, copy, format, data)
    before = export(desk, copy, pb.JSONL)

    again = import_(desk, copy, format, data)

    assert (again.task_count, again.annotation_count) == (0, 0)
    assert again.existing_task_count == first.task_count
    assert export(desk, copy, pb.JSONL) == before


def test_a_project_takes_its_own_export_without_change(desk: Desk, full: tuple[str, str]) -> None:
    _, project = full
    before = export(desk, project, pb.JSONL)

    made = import_(desk, project, pb.JSONL, before)

    assert (made.task_count, made.annotation_count) == (0, 0)
    assert export(desk, project, pb.JSONL) == before


def test_a_repeat_by_request_id_returns_the_first_answer(desk: Desk, full: tuple[str, str]) -> None:
    dataset, project = full
    data = export(desk, project, pb.JSONL)
    copy = desk.project(dataset, overlap=2)

    first, again = (import_(desk, copy, pb.JSONL, data, f"twice-{copy}") for _ in range(2))
    other = refused(lambda: import_(desk, copy, pb.JSONL, data.splitlines()[0], f"twice-{copy}"))

    assert counts(again) == counts(first)
    assert first.task_count > 0
    assert other.reason == "REQUEST_ID_REUSED"


def test_one_bad_line_keeps_the_whole_file_out(desk: Desk, full: tuple[str, str]) -> None:
    dataset, project = full
    lines = export(desk, project, pb.JSONL).splitlines()
    bad = json.loads(lines[2])
    bad["gold"] = ["rosé"]
    copy = desk.project(dataset, overlap=2)

    error = refused(
        lambda: import_(desk, copy, pb.JSONL, b"\n".join([*lines[:2], json.dumps(bad).encode(), *lines[3:]]))
    )

    assert error.reason == "FILE_REFUSED"
    assert [one.field for one in error.violations] == ["line 3"]
    assert "'rosé' is not in the schema" in error.violations[0].description
    assert "'rose'" in error.violations[0].description
    assert export(desk, copy, pb.JSONL) == b""


def test_a_label_studio_file_finds_its_examples_by_the_last_part_of_a_link(desk: Desk) -> None:
    project = desk.project(desk.dataset(2))
    document = [
        {
            "id": 1,
            "created_at": "2021-03-09T21:52:49.513742Z",
            "data": {"image": "https://example.com/../../etc/k000.txt?x=1"},
            "annotations": [
                {
                    "id": "1001",
                    "result": [
                        {
                            "from_name": "tag",
                            "to_name": "img",
                            "type": "choices",
                            "value": {"choices": ["tulip"]},
                        }
                    ],
                    "was_cancelled": False,
                    "ground_truth": False,
                    "created_at": "2021-03-09T22:16:08.728353Z",
                    "lead_time": 4.288,
                    "completed_by": 10,
                },
                {"result": [], "was_cancelled": True, "completed_by": {"email": "Ben.B@example.com"}},
            ],
            "predictions": [
                {
                    "model_version": "model 1",
                    "result": [
                        {
                            "from_name": "tag",
                            "to_name": "img",
                            "type": "choices",
                            "value": {"choices": ["rose"]},
                        }
                    ],
                }
            ],
        },
        {"data": {"text": "k001.txt"}},
    ]

    made = import_(desk, project, pb.LABEL_STUDIO, json.dumps(document).encode())

    assert counts(made) == (2, 0, 1, 0)
    first, second = content(export(desk, project, pb.JSONL))
    assert (first["key"], first["state"], first["prelabel"]) == ("k000.txt", "ANSWERED", ["rose"])
    assert [(one["annotator"], one["state"]) for one in first["assignments"]] == [
        ("annotators/user-10", "SUBMITTED"),
        ("annotators/ben.b", "SKIPPED"),
    ]
    assert first["assignments"][0]["annotations"][0]["lead_ms"] == 4288
    assert (second["key"], second["state"], second["assignments"]) == ("k001.txt", "OPEN", [])
    assert first["commit"].startswith("datasets/")


def test_imported_answers_count_in_snapshots_and_for_their_people(desk: Desk) -> None:
    dataset = desk.dataset(2)
    project = desk.project(dataset, overlap=3)
    coco = {
        "images": [{"id": 5, "file_name": "k001.txt"}, {"id": 9, "file_name": "k000.txt"}],
        "categories": [{"id": 0, "name": "rose"}],
        "annotations": [{"id": 1, "image_id": 9, "category_id": 0}],
    }

    import_(desk, project, pb.COCO, json.dumps(coco).encode())
    snapshot = desk.ended(desk.snapshot(project))

    assert snapshot.state == State.SUCCEEDED
    row = desk.rows(snapshot.commit)["k000.txt"]
    assert row.label == "rose"
    assert desk.children(row.label_source) == [snapshot.commit]
    assert row.label_source in desk.children("annotators/eva")


def test_answers_are_added_to_tasks_that_are_there(desk: Desk) -> None:
    dataset = desk.dataset(2)
    project = desk.project(dataset, overlap=2)
    desk.tasks(project)
    desk.answer(project, "ann", by_key({}))
    theirs = [
        {
            "key": "k000.txt",
            "assignments": [{"annotator": "annotators/ben", "annotations": [{"labels": ["rose"]}]}],
        }
    ]
    otherwise = [
        {
            "key": "k000.txt",
            "assignments": [{"annotator": "annotators/ann", "annotations": [{"labels": ["rose"]}]}],
        }
    ]

    made = import_(desk, project, pb.JSONL, json.dumps(theirs[0]).encode())
    error = refused(lambda: import_(desk, project, pb.JSONL, json.dumps(otherwise[0]).encode()))

    assert counts(made) == (0, 1, 1, 0)
    task = desk.stub().GetTask(pb.GetTaskRequest(name=desk.task_names(project)["k000.txt"]))
    assert (task.state, task.answer_count, task.overlap) == (pb.Task.ANSWERED, 2, 2)
    assert error.reason == "FILE_REFUSED"
    assert "annotators/ann" in error.violations[0].description


def test_two_imports_of_one_file_at_once_make_each_task_once(desk: Desk) -> None:
    dataset = desk.dataset(60)
    source = desk.project(dataset)
    desk.tasks(source)
    desk.answer(source, "ann", by_key({}))
    data = export(desk, source, pb.JSONL)
    project = desk.project(dataset)
    made: list[Any] = []

    threads = [
        threading.Thread(target=lambda: made.append(import_(desk, project, pb.JSONL, data))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(made) == 4
    assert sum(one.task_count for one in made) == sum(one.annotation_count for one in made) == 60
    assert content(export(desk, project, pb.JSONL)) == content(data)


@pytest.mark.parametrize(
    ("format", "data", "where", "what"),
    [
        (pb.JSONL, b'{"key": "k000.txt"}\n{"key": 1}', "line 2", "key is 1"),
        (pb.JSONL, b'{"key": "k000.txt"}\nnothing', "line 2", "no JSON"),
        (pb.JSONL, b'{"key": "none.txt"}', "line 1", "no example 'none.txt'"),
        (pb.JSONL, b'{"key": "../../etc/passwd"}', "line 1", "no example"),
        (pb.JSONL, b'{"key": "k000.txt"}\n\n{"key": "k000.txt"}', "line 3", "as line 1"),
        (pb.JSONL, b'{"key": "k000.txt", "priority": NaN}', "line 1", "no JSON"),
        (pb.JSONL, b'{"key": "k000.txt", "priority": 1e999}', "line 1", "finite"),
        (pb.JSONL, b'{"key": "k000.txt", "state": "DONE"}', "line 1", "state is 'DONE'"),
        (pb.JSONL, b'{"key": "k\\u0000", "state": "OPEN"}', "line 1", "control"),
        (pb.JSONL, b'{"key": "\\ud800"}', "line 1", "surrogate"),
        (pb.JSONL, b'{"key": "k000.txt", "gold": ["rose", "tulip"]}', "line 1", "exactly one"),
        (pb.COCO, b"[]", "file", "JSON object"),
        (pb.COCO, b'{"images": [], "categories": []}', "file", "annotations"),
        (
            pb.COCO,
            b'{"images": [{"id": 1, "file_name": "k000.txt"}], "categories": [{"id": 1, "name": "rose"}],'
            b' "annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}]}',
            "annotations[0]",
            "box",
        ),
        (
            pb.COCO,
            b'{"images": [{"id": 1, "file_name": "k000.txt"}], "categories": [],'
            b' "annotations": [{"image_id": 1, "category_id": 7}]}',
            "annotations[0]",
            "category_id is 7",
        ),
        (pb.LABEL_STUDIO, b"{}", "file", "list of tasks"),
        (pb.LABEL_STUDIO, b'[{"data": {"n": 1}}]', "[0]", "data.key"),
        (
            pb.LABEL_STUDIO,
            b'[{"data": {"key": "k000.txt"}, "annotations": [{"result": [{"type": "rectanglelabels"}]}]}]',
            "[0]",
            "rectanglelabels",
        ),
        (pb.LABEL_STUDIO, b"[" * 100_000, "file", "nests too deep"),
    ],
)
def test_bad_files_are_refused_by_line_or_index(
    desk: Desk, full: tuple[str, str], format: int, data: bytes, where: str, what: str
) -> None:
    dataset, _ = full
    project = desk.project(dataset)

    error = refused(lambda: import_(desk, project, format, data))

    assert error.reason == "FILE_REFUSED"
    assert error.violations[0].field == where
    assert what in error.violations[0].description
    assert export(desk, project, pb.JSONL) == b""


def test_a_file_over_the_limit_is_refused(desk: Desk) -> None:
    project = desk.project(desk.dataset(1))
    data = b" " * (65 << 20)

    error = refused(lambda: import_(desk, project, pb.JSONL, data))

    assert error.reason == "FILE_REFUSED"
    assert "64 MiB" in error.message


def test_a_file_of_another_data_set_is_refused(desk: Desk, full: tuple[str, str]) -> None:
    _, project = full
    data = export(desk, project, pb.JSONL)
    foreign = desk.project(desk.dataset(1))

    error = refused(lambda: import_(desk, foreign, pb.JSONL, data))

    assert error.reason == "FILE_REFUSED"
    assert "is not of datasets/" in error.violations[0].description


def test_header_format_and_role_are_checked(desk: Desk, full: tuple[str, str]) -> None:
    _, project = full

    headless = refused(
        lambda: desk.stub().ImportAnnotations(iter([pb.ImportAnnotationsRequest(chunk=b"{}")]))
    )
    formless = refused(lambda: export(desk, project, pb.FILE_FORMAT_UNSPECIFIED))
    foreign = refused(lambda: import_(desk, "labelingProjects/none", pb.JSONL, b""))
    stub = desk.stub("ann", "annotator")
    annotator = refused(
        lambda: list(stub.ExportAnnotations(pb.ExportAnnotationsRequest(parent=project, format=pb.JSONL)))
    )

    assert headless.violations[0].field == "header"
    assert formless.violations[0].field == "format"
    assert foreign.reason == "PROJECT_NOT_FOUND"
    assert annotator.reason == "ROLE_MISSING"
