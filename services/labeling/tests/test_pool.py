"""Scores, orders of the pool, suspect labels and learning curves over a real database."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from slipway_labeling.domain.projects import Schema
from slipway_labeling.domain.scores import (
    CurveVerdict,
    LearningPoint,
    Ordered,
    OrderKind,
    OrderSpec,
    Score,
    ScoresHeader,
)
from slipway_labeling.domain.tasks import TaskState, Verdict
from slipway_labeling.engine import acquisition
from slipway_labeling.usecases.quality import Quality
from slipway_labeling.usecases.reviews import Reviews
from slipway_labeling.usecases.scores import Scores
from slipway_labeling.usecases.tasks import Tasks, Wanted
from slipway_labeling.usecases.work import Work
from slipway_runtime.db import Database, Repeat
from slipway_runtime.errors import InvalidArgument, NotFound, PermissionDenied
from sqlalchemy import text

ONCE = Repeat("Test", "", b"")
NAME = "labelingProjects/flowers"
V1 = "models/flowers/versions/1"
LABELS = ("rose", "tulip", "lily")
KEYS = [f"p{number:02d}" for number in range(12)]
Act = Callable[..., Any]


def table(seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities (12, 3) and embeddings (12, 4) of the twelve examples."""
    rng = np.random.default_rng(seed)
    return rng.dirichlet([1, 1, 1], 12).astype(np.float32), rng.normal(size=(12, 4)).astype(np.float32)


def scores_of(
    probabilities: np.ndarray, embeddings: np.ndarray, keys: Iterable[str] = KEYS, in_training: bool = False
) -> list[Score]:
    return [
        Score(key, row.tolist(), vector.tolist(), in_training)
        for key, row, vector in zip(keys, probabilities, embeddings, strict=True)
    ]


def header(**changes: Any) -> ScoresHeader:
    return ScoresHeader(**{"parent": NAME, "version": V1, "classes": LABELS, **changes})


def spec(kind: OrderKind, **changes: Any) -> OrderSpec:
    return OrderSpec(
        **{"kind": kind, "version": V1, "open_count": 0, "seed": 0, "prelabel": False, **changes}
    )


@pytest.fixture
def scores(database: Database) -> Scores:
    return Scores(database=database)


@pytest.fixture
def held(flowers: Callable[..., str], scores: Scores) -> str:
    """Return the project with twelve held tasks, ten of them scored."""
    name = flowers(Wanted(hold=True))
    probabilities, embeddings = table()
    scores.add(header(), [scores_of(probabilities[:10], embeddings[:10], KEYS[:10])])
    return name


def keys_in_order(tasks: Tasks, state: str = "") -> list[str]:
    return [task.key for task in tasks.list(NAME, state, False, 0, "")[0]]


def test_scores_are_kept_and_the_last_of_a_key_counts(
    flowers: Callable[..., str], scores: Scores, database: Database
) -> None:
    flowers()
    probabilities, embeddings = table()
    parts = [
        scores_of(probabilities, embeddings),
        [Score("p03", [1, 0, 0], [1, 2, 3, 4], True), Score("elsewhere", [0, 1, 0], [0, 0, 0, 0], False)],
        [Score("p05", [1, 0, 0], [9, 9, 9, 9], True)],
    ]

    first = scores.add(header(), parts)
    again = scores.add(header(), [[Score("p03", [0, 0, 1], [4, 3, 2, 1], False)]])

    assert (first.stored_count, first.task_count) == (13, 12)
    assert (again.stored_count, again.task_count) == (1, 1)
    with database.transaction() as connection:
        rows = connection.execute(text("SELECT key, probabilities, embedding, in_training FROM scores")).all()
    kept = {row.key: row for row in rows}
    assert len(kept) == 13
    assert np.frombuffer(kept["p03"].probabilities, "<f4").tolist() == [0, 0, 1]
    assert np.frombuffer(kept["p03"].embedding, "<f4").tolist() == [4, 3, 2, 1]
    assert np.frombuffer(kept["p05"].embedding, "<f4").tolist() == [9, 9, 9, 9]
    assert [key for key in kept if kept[key].in_training] == ["p05"]
    assert np.frombuffer(kept["p04"].embedding, "<f4") == pytest.approx(embeddings[4])


@pytest.mark.parametrize(
    ("score", "field"),
    [
        (Score("p01", [0.5, 0.5], [1.0], False), "scores[2].probabilities"),
        (Score("p01", [0.5, 0.4, 0.0], [1.0], False), "scores[2].probabilities"),
        (Score("p01", [1.5, -0.5, 0.0], [1.0], False), "scores[2].probabilities"),
        (Score("p01", [float("nan"), 0.5, 0.5], [1.0], False), "scores[2].probabilities"),
        (Score("p01", [1.0, 0.0, 0.0], [], False), "scores[2].embedding"),
        (Score("p01", [1.0, 0.0, 0.0], [float("inf")], False), "scores[2].embedding"),
        (Score("", [1.0, 0.0, 0.0], [1.0], False), "scores[2].key"),
    ],
)
def test_a_bad_score_is_named_by_its_index_and_nothing_is_kept(
    flowers: Callable[..., str], scores: Scores, database: Database, score: Score, field: str
) -> None:
    flowers()
    good = Score("p00", [1.0, 0.0, 0.0], [1.0], False)

    with pytest.raises(InvalidArgument) as refused:
        scores.add(header(), [[good, good], [score]])

    assert refused.value.violations[0].field == field
    with database.transaction() as connection:
        assert connection.execute(text("SELECT count(*) FROM scores")).scalar_one() == 0
        assert connection.execute(text("SELECT count(*) FROM score_versions")).scalar_one() == 0


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"classes": ("rose",)}, "header.classes"),
        ({"classes": ("rose", "rose")}, "header.classes[1]"),
        ({"classes": ("rose", "tulips")}, "header.classes[1].choice.labels"),
        ({"version": "models/flowers"}, "header.model_version"),
    ],
)
def test_a_bad_header_is_refused(
    flowers: Callable[..., str], scores: Scores, changes: dict[str, Any], field: str
) -> None:
    flowers()

    with pytest.raises(InvalidArgument) as refused:
        scores.add(header(**changes), [[Score("p00", [1.0, 0.0, 0.0], [], False)]])

    assert refused.value.violations[0].field == field


def test_a_version_keeps_its_classes_and_the_width_of_its_embeddings(held: str, scores: Scores) -> None:
    with pytest.raises(InvalidArgument, match="rose, tulip, lily"):
        scores.add(header(classes=("lily", "rose", "tulip")), [[Score("p00", [1, 0, 0], [0] * 4, False)]])
    with pytest.raises(InvalidArgument, match="those that are there 4"):
        scores.add(header(), [[Score("p00", [1, 0, 0], [0] * 3, False)]])


@pytest.mark.parametrize("kind", [OrderKind.MARGIN, OrderKind.ENTROPY])
def test_the_pool_is_ordered_as_the_engine_says_and_the_unscored_come_last(
    held: str, scores: Scores, tasks: Tasks, kind: OrderKind
) -> None:
    engine = {OrderKind.MARGIN: acquisition.margin, OrderKind.ENTROPY: acquisition.entropy}[kind]
    wanted = [KEYS[place] for place in engine(table()[0][:10].astype(np.float64)).example]

    ordered = scores.order(held, spec(kind, open_count=4), ONCE)

    assert (ordered.ordered_count, ordered.unscored_count) == (12, 2)
    assert [tasks.get(name).key for name in ordered.opened] == wanted[:4]
    assert keys_in_order(tasks) == [*wanted, "p10", "p11"]
    assert keys_in_order(tasks, "OPEN") == wanted[:4]


def test_k_center_starts_from_what_was_opened_already(held: str, scores: Scores, tasks: Tasks) -> None:
    embeddings = table()[1][:10]
    first = scores.order(held, spec(OrderKind.MARGIN, open_count=3), ONCE)
    have = [KEYS.index(tasks.get(name).key) for name in first.opened]
    rest = [place for place in range(10) if place not in have]
    engine = acquisition.k_center(embeddings[rest], 4, embeddings[have])
    wanted = [KEYS[rest[place]] for place in engine.example]

    second = scores.order(held, spec(OrderKind.DIVERSITY, open_count=4), ONCE)

    assert [tasks.get(name).key for name in second.opened] == wanted


def test_hybrid_spreads_over_the_uncertain(held: str, scores: Scores, tasks: Tasks) -> None:
    probabilities, embeddings = (rows[:10] for rows in table())
    engine = acquisition.hybrid(probabilities.astype(np.float64), embeddings, 3)

    ordered = scores.order(held, spec(OrderKind.HYBRID, open_count=3), ONCE)

    assert [tasks.get(name).key for name in ordered.opened] == [KEYS[place] for place in engine.example]
    assert ordered.ordered_count == 12


def test_a_random_order_needs_no_scores_and_follows_its_seed(
    flowers: Callable[..., str], scores: Scores, tasks: Tasks
) -> None:
    name = flowers(Wanted(hold=True))

    scores.order(name, spec(OrderKind.RANDOM, version="", seed=3), ONCE)
    one = keys_in_order(tasks)
    scores.order(name, spec(OrderKind.RANDOM, version="", seed=4), ONCE)
    other = keys_in_order(tasks)
    scores.order(name, spec(OrderKind.RANDOM, version="", seed=3), ONCE)

    assert keys_in_order(tasks) == one != other
    assert sorted(one) == KEYS


def test_equal_scores_go_by_the_seed(flowers: Callable[..., str], scores: Scores, tasks: Tasks) -> None:
    name = flowers(Wanted(hold=True))
    scores.add(header(), [[Score(key, [0.5, 0.5, 0.0], [], False) for key in KEYS]])

    orders = []
    for seed in (1, 2, 1):
        scores.order(name, spec(OrderKind.MARGIN, seed=seed), ONCE)
        orders.append(keys_in_order(tasks))

    assert orders[0] == orders[2] != orders[1]


def test_a_held_task_is_claimed_only_once_it_is_open(held: str, scores: Scores, work: Work, act: Act) -> None:
    with act("ann"):
        before = work.claim(held, 20).assignments
    ordered = scores.order(held, spec(OrderKind.MARGIN, open_count=3), ONCE)
    with act("ann"):
        after = work.claim(held, 20).assignments

    assert before == ()
    assert [one.name.partition("/assignments/")[0] for one in after] == list(ordered.opened)


def test_pre_labels_are_the_likeliest_labels_and_go_with_an_order_without(
    held: str, scores: Scores, tasks: Tasks
) -> None:
    best = table()[0][:10].argmax(axis=1)

    scores.order(held, spec(OrderKind.MARGIN, prelabel=True), ONCE)
    shown = {task.key: task for task in tasks.list(held, "", False, 0, "")[0]}
    scores.order(held, spec(OrderKind.MARGIN), ONCE)
    hidden = tasks.list(held, "", False, 0, "")[0]

    for place, key in enumerate(KEYS[:10]):
        assert (shown[key].prelabel, shown[key].prelabel_version) == ((LABELS[best[place]],), V1)
    assert (shown["p11"].prelabel, shown["p11"].prelabel_version) == (None, "")
    assert {(task.prelabel, task.prelabel_version) for task in hidden} == {(None, "")}


def test_a_repeat_of_an_order_opens_nothing_more(held: str, scores: Scores, tasks: Tasks) -> None:
    repeat = Repeat("OrderTasks", "order-1", b"same")

    first = scores.order(held, spec(OrderKind.MARGIN, open_count=3), repeat)
    second = scores.order(held, spec(OrderKind.MARGIN, open_count=3), repeat)

    assert second == first
    assert len(keys_in_order(tasks, "OPEN")) == 3


def test_held_gold_is_opened_but_not_ordered(
    flowers: Callable[..., str], scores: Scores, tasks: Tasks
) -> None:
    name = flowers(Wanted(hold=True, gold={"p05": ("rose",)}))

    nothing = scores.order(name, spec(OrderKind.RANDOM, version=""), ONCE)
    before = keys_in_order(tasks, "OPEN")
    opened = scores.order(name, spec(OrderKind.RANDOM, version="", open_count=2), ONCE)

    gold = next(task for task in tasks.list(name, "", False, 0, "")[0] if task.key == "p05")
    assert (nothing.ordered_count, before) == (11, [])
    assert gold.state is TaskState.OPEN
    assert gold.name not in opened.opened
    assert len(keys_in_order(tasks, "OPEN")) == 3


def test_an_empty_pool_opens_nothing(flowers: Callable[..., str], scores: Scores) -> None:
    name = flowers()
    scores.add(header(), [scores_of(*table())])

    ordered = scores.order(name, spec(OrderKind.HYBRID, open_count=3), ONCE)

    assert ordered == Ordered(0, (), 0)


def test_an_unknown_version_is_not_found_and_near_ones_are_named(held: str, scores: Scores) -> None:
    with pytest.raises(NotFound) as ordered:
        scores.order(held, spec(OrderKind.MARGIN, version="models/flowers/versions/2"), ONCE)
    with pytest.raises(NotFound) as judged:
        scores.label_errors(held, "models/flowers/versions/2", 0, "")

    for refused in (ordered.value, judged.value):
        assert (refused.reason, refused.metadata["near"]) == ("SCORES_NOT_FOUND", V1)


def test_scores_of_nothing_in_the_pool_are_not_found(flowers: Callable[..., str], scores: Scores) -> None:
    name = flowers(Wanted(hold=True))
    scores.add(header(), [[Score("elsewhere", [1, 0, 0], [], False)]])

    with pytest.raises(NotFound, match="12 held tasks") as refused:
        scores.order(name, spec(OrderKind.MARGIN), ONCE)

    assert refused.value.reason == "SCORES_NOT_FOUND"


def test_what_spreads_needs_embeddings(flowers: Callable[..., str], scores: Scores) -> None:
    name = flowers(Wanted(hold=True))
    scores.add(header(), [[Score("p00", [1, 0, 0], [], False)]])

    with pytest.raises(InvalidArgument, match="embeddings") as refused:
        scores.order(name, spec(OrderKind.DIVERSITY), ONCE)

    assert refused.value.violations[0].field == "order"


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"open_count": -1}, "open_count"), ({"seed": -1}, "seed"), ({"version": ""}, "model_version")],
)
def test_a_bad_order_is_refused(held: str, scores: Scores, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        scores.order(held, spec(OrderKind.MARGIN, **changes), ONCE)

    assert refused.value.violations[0].field == field


@pytest.fixture
def labelled(flowers: Callable[..., str], work: Work, act: Act) -> str:
    """Return the project, each task answered by ann: p00 to p05 roses, the others tulips."""
    name = flowers()
    with act("ann"):
        while given := work.claim(name, 20).assignments:
            for one in given:
                work.submit(one.name, ["rose" if one.key < "p06" else "tulip"], 1, ONCE)
    return name


def sure(label: str, key: str, in_training: bool = False) -> Score:
    return Score(key, [0.9 if one == label else 0.05 for one in LABELS], [], in_training)


def test_labels_that_the_model_contradicts_are_found_by_rank(
    labelled: str, scores: Scores, tasks: Tasks
) -> None:
    said = [sure("rose" if key < "p06" else "tulip", key) for key in KEYS]
    said[0] = Score("p00", [0.02, 0.96, 0.02], [], False)
    said[7] = Score("p07", [0.8, 0.1, 0.1], [], False)
    said[3] = sure("tulip", "p03", in_training=True)
    scores.add(header(), [said])

    first, token, judged = scores.label_errors(labelled, V1, 1, "")
    rest, last, _ = scores.label_errors(labelled, V1, 1, token)

    assert judged == 11
    assert [(one.key, one.label, one.suggested) for one in (*first, *rest)] == [
        ("p00", "rose", "tulip"),
        ("p07", "tulip", "rose"),
    ]
    assert first[0].self_confidence == pytest.approx(0.02)
    assert tasks.get(first[0].task_name).key == "p00"
    assert last == ""


def test_what_a_reviewer_decided_is_the_label(
    labelled: str, scores: Scores, tasks: Tasks, reviews: Reviews, database: Database
) -> None:
    Quality(database=database).compute(labelled, None, False)
    scores.add(header(), [[sure("tulip", key) for key in KEYS]])
    before, _, _ = scores.label_errors(labelled, V1, 0, "")

    for task in tasks.list(labelled, "", False, 0, "")[0]:
        if task.key == "p00":
            reviews.review(task.name, Verdict.CORRECT, ["tulip"], "", ONCE)
    after, _, judged = scores.label_errors(labelled, V1, 0, "")

    assert [one.key for one in before] == KEYS[:6]
    assert [one.key for one in after] == KEYS[1:6]
    assert judged == 12


def test_answers_of_several_labels_are_not_judged(
    flowers: Callable[..., str], scores: Scores, work: Work, act: Act
) -> None:
    name = flowers(schema=Schema(LABELS, multiple=True))
    with act("ann"):
        for one, labels in zip(
            work.claim(name, 3).assignments, (["rose"], ["rose", "lily"], []), strict=True
        ):
            work.submit(one.name, labels, 1, ONCE)
    scores.add(header(), [scores_of(*table())])

    _, _, judged = scores.label_errors(name, V1, 0, "")

    assert judged == 1


def points(*counts: int) -> list[LearningPoint]:
    return [LearningPoint(count, 1 - 0.05 - 2 * count**-0.5, 20_000) for count in counts]


def test_a_curve_that_still_falls_is_worth_it_and_a_flat_one_is_not(scores: Scores) -> None:
    steep = scores.learning_curve(points(200, 400, 800, 1600), 6400, 0.0)
    flat = scores.learning_curve(
        [LearningPoint(count, 0.9, 20_000) for count in (200, 400, 800, 1600)], 3200, 0.05
    )

    assert steep.verdict is CurveVerdict.WORTH_IT
    assert steep.accuracy.value == pytest.approx(1 - 0.05 - 2 * 6400**-0.5, abs=0.02)
    assert steep.gain.low > 0.005
    assert flat.verdict is CurveVerdict.NOT_WORTH_IT


@pytest.mark.parametrize(
    ("said", "label_count", "field", "reason"),
    [
        (points(100, 200), 400, "points", "TOO_FEW_ANSWERS"),
        (points(100, 200, 400), 400, "label_count", "INVALID_FIELD"),
        ([*points(100, 200), LearningPoint(400, 1.2, 9)], 800, "points[2].accuracy", "INVALID_FIELD"),
        ([*points(100, 200), LearningPoint(400, 0.9, 0)], 800, "points[2].example_count", "INVALID_FIELD"),
    ],
)
def test_a_curve_that_cannot_be_fitted_is_refused(
    scores: Scores, said: list[LearningPoint], label_count: int, field: str, reason: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        scores.learning_curve(said, label_count, 0.0)

    assert (refused.value.violations[0].field, refused.value.reason) == (field, reason)


def test_who_only_annotates_or_reviews_orders_nothing(held: str, scores: Scores, act: Act) -> None:
    for role in ("annotator", "reviewer"):
        with act("ann", role):
            with pytest.raises(PermissionDenied):
                scores.order(held, spec(OrderKind.MARGIN), ONCE)
            with pytest.raises(PermissionDenied):
                scores.add(header(), [])
            with pytest.raises(PermissionDenied):
                scores.learning_curve(points(100, 200, 400), 800, 0.0)
    with act("ann"), pytest.raises(PermissionDenied):
        scores.label_errors(held, V1, 0, "")
