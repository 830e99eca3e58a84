"""Consensus, figures, pauses and reports over a real database."""

import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from slipway_labeling.domain.projects import ConsensusMethod, PauseRule, Schema
from slipway_labeling.domain.quality import Shown
from slipway_labeling.domain.tasks import TaskState, Verdict
from slipway_labeling.engine import agreement, consensus
from slipway_labeling.engine.annotators import judge
from slipway_labeling.engine.answers import Answers
from slipway_labeling.usecases.annotators import Annotators
from slipway_labeling.usecases.quality import Quality, common_pairs, prelabel_bias
from slipway_labeling.usecases.reviews import Reviews
from slipway_labeling.usecases.tasks import Tasks, Wanted
from slipway_labeling.usecases.work import Work
from slipway_runtime.db import Database, Repeat
from slipway_runtime.errors import FailedPrecondition, NotFound, PermissionDenied
from sqlalchemy import text

ONCE = Repeat("Test", "", b"")
NAME = "labelingProjects/flowers"
LABELS = ("rose", "tulip", "lily")
PEOPLE = ("ann", "bob", "cem")
Act = Callable[..., Any]
Fill = Callable[..., tuple[np.ndarray, np.ndarray]]


@pytest.fixture
def quality(database: Database) -> Quality:
    return Quality(database=database)


def keep(database: Database, answers: Sequence[tuple[int, str, list[str]]], **columns: Any) -> None:
    """Write answers (task, annotator, labels) as the work of people leaves them; tasks come as needed."""
    tasks = sorted({task for task, _, _ in answers})
    with database.transaction() as connection:
        connection.execute(
            text(
                "INSERT INTO tasks (serial, project, key, dataset_commit, blob, media_type, state, overlap, "
                "taken, given, answer_count) OVERRIDING SYSTEM VALUE SELECT n, 'flowers', 'k' || n, 'c', "
                "'b', 'image/png', 'ANSWERED', 20, 20, 20, 20 FROM unnest(CAST(:tasks AS bigint[])) AS n "
                "ON CONFLICT DO NOTHING"
            ),
            {"tasks": tasks},
        )
        connection.execute(text("SELECT setval(pg_get_serial_sequence('tasks', 'serial'), 10000)"))
        connection.execute(
            text(
                "WITH given AS (SELECT *, row_number() OVER (PARTITION BY task ORDER BY who) AS number, "
                "nextval('annotations_id_seq') AS id FROM unnest(CAST(:tasks AS bigint[]), "
                "CAST(:people AS text[]), CAST(:labels AS text[])) AS g(task, who, labels)), "
                "made AS (INSERT INTO annotations (id, project, task, number, annotator, labels, revision, "
                "withdrawn, lease_ms, lead_ms, prelabel_shown, schema_version) OVERRIDING SYSTEM VALUE "
                "SELECT id, 'flowers', task, number, who, string_to_array(labels, '|'), 1, false, 1, 1, "
                "false, 1 FROM given), people AS (INSERT INTO annotators (project, id) "
                "SELECT DISTINCT 'flowers', who FROM given ON CONFLICT DO NOTHING) "
                "INSERT INTO assignments (task, number, project, annotator, state, lease_time, claim_time, "
                "schema_version, prelabel_shown, annotation) SELECT task, number, 'flowers', who, "
                "'SUBMITTED', now(), now(), 1, false, id FROM given"
            ),
            {
                "tasks": [task for task, _, _ in answers],
                "people": [who for _, who, _ in answers],
                "labels": ["|".join(labels) for _, _, labels in answers],
            },
        )


@pytest.fixture
def fill(database: Database, new_project: Callable[..., str]) -> Fill:
    """Return a function that fills the project with answers of people who err at given rates.

    It returns the truth (T,) and the answers (T, A), as indices into LABELS.
    """

    def make(rates: Sequence[float], tasks: int, **fields: Any) -> tuple[np.ndarray, np.ndarray]:
        new_project(**fields)
        rng = np.random.default_rng(7)
        truth = rng.integers(len(LABELS), size=tasks)
        wrong = rng.random((tasks, len(rates))) < np.array(rates)
        shift = rng.integers(1, len(LABELS), size=wrong.shape)
        answers = np.where(wrong, (truth[:, None] + shift) % len(LABELS), truth[:, None])
        keep(
            database,
            [
                (task + 1, PEOPLE[who], [LABELS[answers[task, who]]])
                for task in range(tasks)
                for who in range(len(rates))
            ],
        )
        return truth, answers

    return make


def engine_answers(answers: np.ndarray) -> Answers:
    tasks, people = answers.shape
    task, who = np.repeat(np.arange(tasks), people), np.tile(np.arange(people), tasks)
    return Answers(task, who, answers.ravel(), tasks, people, len(LABELS))


def stored(database: Database) -> dict[int, tuple[list[str] | None, float]]:
    with database.transaction() as connection:
        rows = connection.execute(text("SELECT serial, consensus, consensus_confidence FROM tasks"))
        return {row[0]: (row[1], row[2]) for row in rows}


@pytest.mark.parametrize("method", list(ConsensusMethod))
def test_the_consensus_kept_is_the_engines(
    fill: Fill, quality: Quality, database: Database, method: ConsensusMethod
) -> None:
    _, answers = fill([0.02, 0.05, 0.3], 60, pause_rule=PauseRule(report_only=True))
    engine = {
        ConsensusMethod.MAJORITY: consensus.majority,
        ConsensusMethod.WEIGHTED: consensus.weighted,
        ConsensusMethod.DAWID_SKENE: consensus.dawid_skene,
    }[method](engine_answers(answers))

    found = quality.compute(NAME, method, False)

    kept = stored(database)
    tied = engine.tied.tolist()
    assert (found.method, found.answer_count) == (method, 180)
    assert (found.task_count, found.tie_count) == (60 - sum(tied), sum(tied))
    for task in range(60):
        labels, confidence = kept[task + 1]
        if tied[task]:
            assert (labels, confidence) == (None, 0.0)
        else:
            assert labels == [LABELS[engine.label[task]]]
            assert confidence == pytest.approx(engine.posterior[task].max())


def test_the_figures_kept_are_the_engines(fill: Fill, quality: Quality, annotators: Annotators) -> None:
    _, answers = fill([0.02, 0.05, 0.3], 60)
    engine = judge(engine_answers(answers))

    quality.compute(NAME, None, False)

    for place, id in enumerate(PEOPLE):
        found = annotators.get(f"{NAME}/annotators/{id}")
        assert found.error_rate == pytest.approx(engine.error_rate[place])
        assert (found.error_rate_low, found.error_rate_high) == (engine.lower[place], engine.upper[place])
        assert found.labels == LABELS
        assert np.array(found.confusion).reshape(3, 3) == pytest.approx(engine.confusion[place])


def test_a_careless_annotator_is_paused_and_the_careful_go_on(
    fill: Fill, quality: Quality, work: Work, tasks: Tasks, annotators: Annotators, act: Act
) -> None:
    fill([0.02, 0.05, 0.3], 100, overlap=3)
    tasks.create(NAME, Wanted(), ONCE)
    with act("cem"):
        held = work.claim(NAME, 2).assignments

    found = quality.compute(NAME, None, False)

    cem = annotators.get(f"{NAME}/annotators/cem")
    assert found.paused == (f"{NAME}/annotators/cem",)
    assert (cem.careless, cem.paused) == (True, True)
    assert "100 judged answers" in cem.pause_reason
    assert "10.0%" in cem.pause_reason
    with act("cem"):
        with pytest.raises(FailedPrecondition) as claimed:
            work.claim(NAME, 1)
        with pytest.raises(FailedPrecondition) as submitted:
            work.submit(held[0].name, ["rose"], 1, ONCE)
    assert {claimed.value.reason, submitted.value.reason} == {"ANNOTATOR_PAUSED"}
    with act("ann"):
        assert len(work.claim(NAME, 2).assignments) == 2


def test_the_sweep_pauses_without_being_asked_and_looks_only_at_new_answers(
    fill: Fill, quality: Quality, database: Database, annotators: Annotators
) -> None:
    fill([0.02, 0.05, 0.3], 100)

    quality.sweep()

    assert [one.paused for one in annotators.list(NAME, 0, "")[0]] == [False, False, True]
    again = Quality(database=database)
    again.sweep()
    assert again._resting == {}
    keep(database, [(200, "ann", ["rose"])])
    again.sweep()
    assert list(again._resting) == ["flowers"]


def test_a_rule_that_only_reports_pauses_nobody(fill: Fill, quality: Quality, annotators: Annotators) -> None:
    fill([0.02, 0.05, 0.3], 100, pause_rule=PauseRule(report_only=True))

    found = quality.compute(NAME, None, False)

    cem = annotators.get(f"{NAME}/annotators/cem")
    assert (found.paused, cem.careless, cem.paused) == ((), True, False)


def test_whom_a_person_lets_go_on_is_paused_only_after_as_many_answers_more(
    fill: Fill, quality: Quality, database: Database, annotators: Annotators
) -> None:
    fill([0.02, 0.05, 0.3], 100)
    quality.sweep()
    annotators.resume(f"{NAME}/annotators/cem", ONCE)

    at_once = quality.compute(NAME, None, False).paused
    more = [(300 + n, who, ["rose" if who != "cem" else "lily"]) for n in range(20) for who in PEOPLE]
    keep(database, more[:-3])
    after_19 = quality.compute(NAME, None, False).paused
    keep(database, more[-3:])
    after_20 = quality.compute(NAME, None, False).paused

    assert (at_once, after_19, after_20) == ((), (), (f"{NAME}/annotators/cem",))


def test_answers_of_the_paused_may_be_left_out(fill: Fill, quality: Quality, database: Database) -> None:
    _, answers = fill([0.02, 0.05, 0.3], 100)
    engine = consensus.majority(engine_answers(answers[:, :2]))

    found = quality.compute(NAME, ConsensusMethod.MAJORITY, True)

    kept = stored(database)
    assert (found.answer_count, found.tie_count) == (200, int(engine.tied.sum()))
    assert engine.tied.any()
    assert [kept[task + 1][0] is None for task in range(100)] == engine.tied.tolist()


def test_gold_and_reviews_are_known_and_reviewed_tasks_stay(
    new_project: Callable[..., str], quality: Quality, database: Database, annotators: Annotators
) -> None:
    new_project()
    keep(database, [(n, who, ["rose"]) for n in range(1, 31) for who in ("ann", "bob")])
    with database.transaction() as connection:
        connection.execute(text("UPDATE tasks SET gold = '{lily}' WHERE serial <= 10"))
        connection.execute(
            text(
                "UPDATE tasks SET state = 'REVIEWED', reviewed = '{tulip}', consensus = '{lily}', "
                "consensus_confidence = 0.5 WHERE serial > 20"
            )
        )

    quality.compute(NAME, ConsensusMethod.MAJORITY, False)

    kept = stored(database)
    assert kept[1] == (["lily"], 1.0)
    assert kept[11] == (["rose"], 1.0)
    assert kept[30] == (["lily"], 0.5)
    # Ten gold and ten reviewed tasks against both of them.
    assert annotators.get(f"{NAME}/annotators/ann").error_rate > 0.5


def test_a_tie_takes_away_an_older_consensus(
    new_project: Callable[..., str], quality: Quality, database: Database
) -> None:
    new_project()
    keep(database, [(1, "ann", ["rose"])])
    quality.compute(NAME, ConsensusMethod.MAJORITY, False)
    before = stored(database)
    with database.transaction() as connection:
        connection.execute(text("DELETE FROM assignments"))
    keep(database, [(2, "ann", ["rose"]), (2, "bob", ["lily"])])

    found = quality.compute(NAME, ConsensusMethod.MAJORITY, False)

    assert before == {1: (["rose"], 1.0)}
    assert stored(database) == {1: (None, 0.0), 2: (None, 0.0)}
    assert (found.task_count, found.tie_count) == (0, 1)


def test_several_labels_are_decided_one_by_one(
    new_project: Callable[..., str], quality: Quality, database: Database
) -> None:
    new_project(schema=Schema(LABELS, multiple=True))
    keep(
        database,
        [
            (1, "ann", ["rose", "tulip"]),
            (1, "bob", ["rose"]),
            (1, "cem", ["rose", "tulip", "lily"]),
            (2, "ann", []),
            (2, "bob", []),
            (2, "cem", ["lily"]),
            (3, "ann", ["rose"]),
            (3, "bob", ["tulip"]),
        ],
    )

    found = quality.compute(NAME, ConsensusMethod.MAJORITY, False)

    kept = stored(database)
    assert kept[1] == (["rose", "tulip"], pytest.approx(4 / 9))
    assert kept[2] == ([], pytest.approx(2 / 3))
    assert kept[3] == (None, 0.0)
    assert (found.task_count, found.tie_count) == (2, 1)


def test_a_project_without_answers_has_a_consensus_of_nothing(
    new_project: Callable[..., str], quality: Quality
) -> None:
    new_project()

    found, report = quality.compute(NAME, None, False), quality.report(NAME)

    assert (found.task_count, found.tie_count, found.mean_confidence) == (0, 0, 0.0)
    assert math.isnan(report.fleiss_kappa.value)
    assert report.fleiss_kappa.undefined_reason == agreement.NO_PAIR
    assert report.prelabel_bias.undefined_reason == "no task that was answered has a pre-label"


def test_a_report_tells_the_engines_agreement(fill: Fill, quality: Quality) -> None:
    _, answers = fill([0.02, 0.05, 0.3], 60)
    engine = engine_answers(answers)

    report = quality.report(NAME)

    for told, found in (
        (report.percent_agreement, agreement.percent(engine)),
        (report.fleiss_kappa, agreement.fleiss(engine)),
        (report.krippendorff_alpha, agreement.krippendorff(engine)),
    ):
        assert (told.value, told.low, told.high) == (found.value, found.lower, found.upper)
        assert (told.count, told.undefined_reason) == (60, "")
    kappas = agreement.cohen_pairs(engine)
    assert [(one.first, one.second) for one in report.pairs] == [
        (f"annotators/{PEOPLE[a]}", f"annotators/{PEOPLE[b]}") for a, b in kappas
    ]
    assert [one.kappa.value for one in report.pairs] == [one.value for one in kappas.values()]


def test_the_pairs_with_the_most_tasks_in_common_are_told() -> None:
    task = np.array([0, 0, 0, 1, 1, 2, 3])
    annotator = np.array([0, 1, 2, 1, 2, 3, 3])
    answers = Answers(task, annotator, np.zeros(7, np.int64), 4, 4, 2)

    assert common_pairs(answers, 10) == [(0, 1), (0, 2), (1, 2)]
    assert common_pairs(answers, 1) == [(1, 2)]


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        (Shown(0, 0, 0, 0), "no task"),
        (Shown(5, 5, 0, 0), "lower prelabel_percent"),
        (Shown(0, 0, 5, 1), "raise prelabel_percent"),
    ],
)
def test_without_a_comparison_there_is_no_bias(counts: Shown, reason: str) -> None:
    found = prelabel_bias(counts)

    assert math.isnan(found.value)
    assert reason in found.undefined_reason
    assert found.count == counts.shown + counts.hidden


def test_computations_at_once_and_reviews_meanwhile_lose_nothing(
    fill: Fill, quality: Quality, reviews: Reviews, database: Database, act: Act
) -> None:
    _, answers = fill([0.02, 0.05, 0.3], 60)
    engine = consensus.majority(engine_answers(answers))
    quality.compute(NAME, ConsensusMethod.MAJORITY, False)
    failures: list[BaseException] = []

    def run(verb: Callable[[], object]) -> threading.Thread:
        def caught() -> None:
            try:
                with act("rita", "reviewer"):
                    verb()
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=caught)
        thread.start()
        return thread

    threads = [run(lambda: quality.compute(NAME, ConsensusMethod.MAJORITY, False)) for _ in range(3)]
    threads += [run(lambda: quality.compute(NAME, ConsensusMethod.WEIGHTED, False)) for _ in range(2)]
    for task in range(1, 21):
        threads.append(
            run(lambda task=task: reviews.review(f"{NAME}/tasks/{task}", Verdict.CORRECT, ["lily"], "", ONCE))
        )
    for thread in threads:
        thread.join(300)

    quality.compute(NAME, ConsensusMethod.MAJORITY, False)
    with database.transaction() as connection:
        rows = connection.execute(text("SELECT serial, state, reviewed, consensus FROM tasks")).all()
    assert failures == []
    for serial, state, reviewed, label in rows:
        if serial <= 20:
            assert (state, reviewed) == (TaskState.REVIEWED, ["lily"])
        else:
            assert label == (None if engine.tied[serial - 1] else [LABELS[engine.label[serial - 1]]])


def test_people_work_on_while_the_project_is_judged(
    fill: Fill, quality: Quality, tasks: Tasks, work: Work, act: Act
) -> None:
    fill([0.02, 0.05, 0.3], 60, overlap=3, pause_rule=PauseRule(report_only=True))
    tasks.create(NAME, Wanted(), ONCE)
    made: list[str] = []
    failures: list[BaseException] = []

    def label(id: str) -> None:
        try:
            with act(id):
                while given := work.claim(NAME, 2).assignments:
                    made.extend(work.submit(one.name, ["rose"], 1, ONCE).name for one in given)
        except BaseException as error:
            failures.append(error)

    def compute() -> None:
        try:
            with act("eva", "engineer"):
                for _ in range(4):
                    quality.compute(NAME, None, False)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=label, args=(f"new{n}",)) for n in range(6)]
    threads += [threading.Thread(target=compute) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)

    found = quality.compute(NAME, None, False)
    assert failures == []
    assert len(set(made)) == len(made) == 36
    assert found.answer_count == 180 + 36


def test_who_only_annotates_computes_nothing(
    new_project: Callable[..., str], quality: Quality, act: Act
) -> None:
    name = new_project()

    with act("ann"):
        with pytest.raises(PermissionDenied):
            quality.compute(name, None, False)
        with pytest.raises(PermissionDenied):
            quality.report(name)


def test_an_unknown_project_is_not_found(new_project: Callable[..., str], quality: Quality) -> None:
    new_project()

    with pytest.raises(NotFound, match="flowers"):
        quality.compute("labelingProjects/flowres", None, False)
