"""What active learning may rely on, against the running service."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from slipway.labeling.v1 import labeling_pb2 as pb
from slipway_labeling.engine import acquisition
from slipway_runtime.errors import InvalidArgument, NotFound, PermissionDenied

Refused = Callable[[Callable[[], Any]], Any]
LABELS = ("rose", "tulip", "lily")
VERSION = "models/flowers/versions/3"
KEYS = [f"t{number:02d}" for number in range(40)]


def table() -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities (40, 3) and embeddings (40, 8)."""
    rng = np.random.default_rng(11)
    return rng.dirichlet([1, 1, 1], 40).astype(np.float32), rng.normal(size=(40, 8)).astype(np.float32)


def messages(project: str, *parts: list[Any], **changes: Any) -> list[Any]:
    header = {"parent": project, "model_version": VERSION, "classes": LABELS, **changes}
    return [
        pb.ImportScoresRequest(header=pb.ScoresHeader(**header)),
        *(pb.ImportScoresRequest(scores=pb.Scores(scores=part)) for part in parts),
    ]


def all_scores() -> list[Any]:
    probabilities, embeddings = table()
    return [
        pb.Score(key=key, probabilities=row, embedding=vector)
        for key, row, vector in zip(KEYS, probabilities.tolist(), embeddings.tolist(), strict=True)
    ]


@pytest.fixture
def pool(house: Any) -> str:
    """Return a project with forty held and scored tasks."""
    name = house.project(tasks=False)
    engineer = house.as_("eva", "engineer")
    engineer.CreateTasks(pb.CreateTasksRequest(parent=name, hold=True))
    scores = all_scores()
    stored = engineer.ImportScores(iter(messages(name, scores[:25], scores[25:])))
    assert (stored.stored_count, stored.task_count) == (40, 40)
    return str(name)


def order(project: str, kind: int, count: int, **fields: Any) -> Any:
    fields = {"model_version": VERSION, **fields}
    return pb.OrderTasksRequest(parent=project, order=kind, open_count=count, **fields)


def keys_of(stub: Any, names: Any) -> list[str]:
    return [stub.GetTask(pb.GetTaskRequest(name=name)).key for name in names]


@pytest.mark.parametrize("kind", ["MARGIN", "ENTROPY", "DIVERSITY", "HYBRID", "RANDOM"])
def test_an_order_opens_what_the_engine_says(house: Any, pool: str, kind: str) -> None:
    probabilities, embeddings = table()
    exact = probabilities.astype(np.float64)
    engine = {
        "MARGIN": lambda: acquisition.margin(exact, 5),
        "ENTROPY": lambda: acquisition.entropy(exact, 5),
        "DIVERSITY": lambda: acquisition.k_center(embeddings, 5),
        "HYBRID": lambda: acquisition.hybrid(exact, embeddings, 5),
        "RANDOM": lambda: acquisition.random(40, 5, seed=7),
    }[kind]()
    engineer = house.as_("eva", "engineer")

    opened = engineer.OrderTasks(order(pool, pb.OrderTasksRequest.Order.Value(kind), 5, seed=7))

    assert (opened.ordered_count, opened.unscored_count) == (40, 0)
    assert keys_of(engineer, opened.opened) == [KEYS[place] for place in engine.example]
    state = engineer.GetProject(pb.GetProjectRequest(name=pool)).task_counts
    assert dict(state) == {"HELD": 35, "OPEN": 5}


def test_only_what_was_opened_goes_out_in_its_order_and_a_repeat_opens_nothing(house: Any, pool: str) -> None:
    engineer, ann = house.as_("eva", "engineer"), house.as_("ann")
    claim = pb.ClaimTasksRequest(parent=pool, count=20)
    request = order(pool, pb.OrderTasksRequest.MARGIN, 3, request_id="first-three")

    before = ann.ClaimTasks(claim)
    first = engineer.OrderTasks(request)
    again = engineer.OrderTasks(request)
    after = ann.ClaimTasks(claim)

    assert (len(before.assignments), before.waiting_count) == (0, 0)
    assert again == first
    assert [one.name.partition("/assignments/")[0] for one in after.assignments] == list(first.opened)


def test_a_pre_label_is_shown_with_its_assignment(house: Any) -> None:
    name = house.project(prelabel_percent=100, tasks=False)
    engineer, ann = house.as_("eva", "engineer"), house.as_("ann")
    engineer.CreateTasks(pb.CreateTasksRequest(parent=name, hold=True))
    engineer.ImportScores(iter(messages(name, all_scores())))

    engineer.OrderTasks(order(name, pb.OrderTasksRequest.ENTROPY, 4, prelabel=True))

    best = dict(zip(KEYS, table()[0].argmax(axis=1), strict=True))
    given = ann.ClaimTasks(pb.ClaimTasksRequest(parent=name, count=4)).assignments
    assert len(given) == 4
    for one in given:
        assert list(one.prelabel.choice.labels) == [LABELS[best[one.key]]]
    task = engineer.GetTask(pb.GetTaskRequest(name=given[0].name.partition("/assignments/")[0]))
    assert task.prelabel_version == VERSION


def test_suspect_labels_come_by_rank_and_page(house: Any) -> None:
    name = house.project()
    engineer, ann = house.as_("eva", "engineer"), house.as_("ann")
    while given := ann.ClaimTasks(pb.ClaimTasksRequest(parent=name, count=20)).assignments:
        for one in given:
            house.submit(ann, one.name, LABELS[int(one.key[1:]) % 2])
    scores = []
    for number, key in enumerate(KEYS):
        likely = 1 - number % 2 if key in ("t04", "t11") else number % 2
        sure = 0.98 if key == "t11" else 0.9
        rest = (1 - sure) / 2
        row = [sure if place == likely else rest for place in range(len(LABELS))]
        scores.append(pb.Score(key=key, probabilities=row, in_training=key == "t20"))
    engineer.ImportScores(iter(messages(name, scores)))

    found, token = [], ""
    while True:
        page = engineer.FindLabelErrors(
            pb.FindLabelErrorsRequest(parent=name, model_version=VERSION, page_size=1, page_token=token)
        )
        found += page.label_errors
        token = page.next_page_token
        if not token:
            break

    assert page.judged_count == 39
    assert [(one.key, one.label, one.suggested) for one in found] == [
        ("t11", "tulip", "rose"),
        ("t04", "rose", "tulip"),
    ]
    assert keys_of(engineer, [one.task for one in found]) == ["t11", "t04"]


def test_a_bad_score_is_named_and_nothing_of_the_stream_is_kept(
    house: Any, pool: str, refused: Refused
) -> None:
    engineer = house.as_("eva", "engineer")
    other = "models/flowers/versions/4"
    bad = pb.Score(key="t39", probabilities=[0.5, 0.5, 0.5], embedding=[0.0] * 8)

    error = refused(
        lambda: engineer.ImportScores(iter(messages(pool, all_scores()[:39], [bad], model_version=other)))
    )
    missing = refused(
        lambda: engineer.OrderTasks(order(pool, pb.OrderTasksRequest.MARGIN, 1, model_version=other))
    )

    assert isinstance(error, InvalidArgument)
    assert error.violations[0].field == "scores[39].probabilities"
    assert isinstance(missing, NotFound)
    assert (missing.reason, missing.metadata["near"]) == ("SCORES_NOT_FOUND", VERSION)


@pytest.mark.parametrize("parts", [0, 2], ids=["no header", "two headers"])
def test_a_stream_has_one_header(house: Any, pool: str, refused: Refused, parts: int) -> None:
    engineer, (header, scores) = house.as_("eva", "engineer"), messages(pool, all_scores())

    error = refused(lambda: engineer.ImportScores(iter([header] * parts + [scores])))

    assert isinstance(error, InvalidArgument)
    assert error.violations[0].field == "header"


def test_foreign_roles_are_refused(house: Any, pool: str, refused: Refused) -> None:
    curve = pb.EstimateLearningCurveRequest(label_count=9)
    for role in ("annotator", "reviewer"):
        stub = house.as_("ann", role)
        for call in (
            lambda stub=stub: stub.ImportScores(iter(messages(pool, all_scores()))),
            lambda stub=stub: stub.OrderTasks(order(pool, pb.OrderTasksRequest.MARGIN, 1)),
            lambda stub=stub: stub.EstimateLearningCurve(curve),
        ):
            assert isinstance(refused(call), PermissionDenied)
    suspects = pb.FindLabelErrorsRequest(parent=pool, model_version=VERSION)
    assert isinstance(refused(lambda: house.as_("ann").FindLabelErrors(suspects)), PermissionDenied)
    assert house.as_("rita", "reviewer").FindLabelErrors(suspects).judged_count == 0


def test_a_curve_says_whether_more_labels_are_worth_it(house: Any, refused: Refused) -> None:
    engineer = house.as_("eva", "engineer")
    points = [
        pb.LearningPoint(label_count=n, accuracy=0.95 - 2 * n**-0.5, example_count=20_000)
        for n in (200, 400, 800, 1600)
    ]

    curve = engineer.EstimateLearningCurve(pb.EstimateLearningCurveRequest(points=points, label_count=6400))
    error = refused(
        lambda: engineer.EstimateLearningCurve(
            pb.EstimateLearningCurveRequest(points=points[:2], label_count=6400)
        )
    )

    assert curve.verdict == pb.LearningCurve.WORTH_IT
    assert curve.accuracy.low < curve.accuracy.value < curve.accuracy.high
    assert curve.gain.value == pytest.approx(0.025, abs=0.01)
    assert error.reason == "TOO_FEW_ANSWERS"
