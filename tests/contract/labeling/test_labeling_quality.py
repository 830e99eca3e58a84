"""What engineers and reviewers may rely on of quality, against the running service."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from slipway.labeling.v1 import labeling_pb2 as pb
from slipway_labeling.engine import agreement
from slipway_labeling.engine.answers import Answers
from slipway_runtime.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied

Refused = Callable[[Callable[[], Any]], Any]
LABELS = ("rose", "tulip", "lily")
PEOPLE = ("careful", "careless", "fair")


def truth(key: str) -> int:
    return int(key[1:]) % len(LABELS)


def answer(who: str, key: str) -> int:
    """Return what an annotator says: one never errs, one once in twenty, one in every third."""
    number = int(key[1:])
    wrong = {"careful": False, "fair": number % 20 == 3, "careless": number % 3 == 0}[who]
    return (truth(key) + wrong) % len(LABELS)


def work_on(house: Any, project: str, who: str, say: Callable[[str], int], at_most: int = 1000) -> list[str]:
    """Let an annotator answer what it gets; return the keys."""
    stub, keys = house.as_(who), []
    while len(keys) < at_most:
        given = stub.ClaimTasks(pb.ClaimTasksRequest(parent=project, count=20)).assignments
        if not given:
            break
        for one in given:
            house.submit(stub, one.name, LABELS[say(one.key)])
            keys.append(one.key)
    return keys


@pytest.fixture
def answered(house: Any) -> str:
    """Return a project whose forty tasks three people answered; nobody is paused by itself."""
    name = house.project(overlap=3, pause_rule=pb.PauseRule(report_only=True))
    for who in PEOPLE:
        assert len(work_on(house, name, who, lambda key, who=who: answer(who, key))) == 40
    return str(name)


def test_the_consensus_is_nearly_the_truth_and_the_careless_one_is_seen(house: Any, answered: str) -> None:
    reviewer, engineer = house.as_("rita", "reviewer"), house.as_("eva", "engineer")

    found = reviewer.ComputeConsensus(pb.ComputeConsensusRequest(parent=answered))

    tasks = engineer.ListTasks(pb.ListTasksRequest(parent=answered)).tasks
    right = [list(task.consensus.choice.labels) == [LABELS[truth(task.key)]] for task in tasks]
    assert (found.method, found.answer_count) == (pb.DAWID_SKENE, 120)
    assert found.task_count + found.tie_count == 40
    assert sum(right) >= 38
    assert all(0 < task.consensus_confidence <= 1 for task in tasks if task.HasField("consensus"))
    by_name = {one.name.rpartition("/")[2]: one for one in found.annotators}
    assert {name: one.careless for name, one in by_name.items()} == {
        "careful": False,
        "careless": True,
        "fair": False,
    }
    careless = by_name["careless"]
    assert careless.error_rate_low < 14 / 40 < careless.error_rate_high
    assert (careless.paused, list(found.paused)) == (False, [])
    assert np.array(careless.confusion_matrix).sum() == pytest.approx(40)
    assert list(careless.labels) == list(LABELS)


def test_a_careless_annotator_is_paused_while_people_work(house: Any, refused: Refused) -> None:
    name = house.project(overlap=3)
    engineer, careless = house.as_("eva", "engineer"), house.as_("careless")
    for who in ("careful", "careless"):
        work_on(house, name, who, lambda key, who=who: answer(who, key), at_most=30)
    work_on(house, name, "fair", lambda key: answer("fair", key), at_most=20)

    annotator = pb.GetAnnotatorRequest(name=f"{name}/annotators/careless")
    stop_at = time.monotonic() + 300  # a project rests ten times as long as its judgement took
    while not engineer.GetAnnotator(annotator).paused and time.monotonic() < stop_at:
        time.sleep(0.1)

    error = refused(lambda: careless.ClaimTasks(pb.ClaimTasksRequest(parent=name)))
    assert isinstance(error, FailedPrecondition)
    assert error.reason == "ANNOTATOR_PAUSED"
    assert "judged answers" in error.metadata["reason"]
    assert len(work_on(house, name, "fair", lambda key: answer("fair", key))) == 20
    people = engineer.ListAnnotators(pb.ListAnnotatorsRequest(parent=name)).annotators
    assert {one.name.rpartition("/")[2] for one in people if one.paused} == {"careless"}


def test_agreement_is_the_engines_on_the_same_answers(house: Any, answered: str) -> None:
    keys = [f"t{number:02d}" for number in range(40)]
    task, person = np.repeat(np.arange(40), 3), np.tile(np.arange(3), 40)
    label = np.array([answer(who, key) for key in keys for who in PEOPLE])
    engine = Answers(task, person, label, 40, 3, 3)

    report = house.as_("rita", "reviewer").GetQualityReport(pb.GetQualityReportRequest(parent=answered))

    for told, found in (
        (report.percent_agreement, agreement.percent(engine)),
        (report.fleiss_kappa, agreement.fleiss(engine)),
        (report.krippendorff_alpha, agreement.krippendorff(engine)),
    ):
        assert (told.value, told.low, told.high) == pytest.approx((found.value, found.lower, found.upper))
        assert told.count == 40
    kappas = agreement.cohen_pairs(engine)
    assert {(one.first, one.second): one.kappa.value for one in report.pairs} == {
        (f"annotators/{PEOPLE[a]}", f"annotators/{PEOPLE[b]}"): pytest.approx(found.value)
        for (a, b), found in kappas.items()
    }
    assert report.prelabel_bias.undefined_reason == "no task that was answered has a pre-label"
    assert np.isnan(report.prelabel_bias.value)


def test_an_annotator_who_follows_the_model_shows_in_the_bias(house: Any) -> None:
    name = house.project(overlap=2, prelabel_percent=50, tasks=False)
    engineer = house.as_("eva", "engineer")
    engineer.CreateTasks(pb.CreateTasksRequest(parent=name, hold=True))
    header = pb.ScoresHeader(parent=name, model_version="models/m/versions/1", classes=LABELS)
    # The model is wrong everywhere.
    said = [
        pb.Score(
            key=f"t{n:02d}", probabilities=[0.8 if c == (n + 1) % 3 else 0.1 for c in range(len(LABELS))]
        )
        for n in range(40)
    ]
    parts = [pb.ImportScoresRequest(header=header), pb.ImportScoresRequest(scores=pb.Scores(scores=said))]
    engineer.ImportScores(iter(parts))
    order = pb.OrderTasksRequest(
        parent=name,
        order=pb.OrderTasksRequest.MARGIN,
        model_version="models/m/versions/1",
        open_count=40,
        prelabel=True,
    )
    engineer.OrderTasks(order)

    shown = dict.fromkeys(("follower", "other"), 0)
    for who in shown:
        stub = house.as_(who)
        while given := stub.ClaimTasks(pb.ClaimTasksRequest(parent=name, count=20)).assignments:
            for one in given:
                own = [LABELS[truth(one.key)]]
                shown[who] += one.HasField("prelabel")
                follows = who == "follower" and one.HasField("prelabel")
                house.submit(stub, one.name, *(one.prelabel.choice.labels if follows else own))

    bias = engineer.GetQualityReport(pb.GetQualityReportRequest(parent=name)).prelabel_bias
    assert bias.count == 80
    assert bias.value == pytest.approx(shown["follower"] / sum(shown.values()))
    assert 0 < bias.low < bias.value < bias.high < 1


def test_foreign_roles_and_unknown_methods_are_refused(house: Any, refused: Refused) -> None:
    name = house.project(tasks=False)
    annotator, engineer = house.as_("ann"), house.as_("eva", "engineer")

    computed = refused(lambda: annotator.ComputeConsensus(pb.ComputeConsensusRequest(parent=name)))
    reported = refused(lambda: annotator.GetQualityReport(pb.GetQualityReportRequest(parent=name)))
    method = refused(lambda: engineer.ComputeConsensus(pb.ComputeConsensusRequest(parent=name, method=9)))
    missing = refused(lambda: engineer.GetQualityReport(pb.GetQualityReportRequest(parent=f"{name}x")))

    assert {type(computed), type(reported)} == {PermissionDenied}
    assert isinstance(method, InvalidArgument)
    assert method.violations[0].field == "method"
    assert isinstance(missing, NotFound)
    assert name.partition("/")[2] in missing.metadata["near"]
