"""Agreement: published examples, scikit-learn's kappa, the definitions by hand, and the intervals."""

import math
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score
from slipway_labeling.engine.agreement import (
    NO_PAIR,
    ONE_CLASS,
    ONE_TASK,
    Resampling,
    cohen,
    cohen_pairs,
    fleiss,
    krippendorff,
    percent,
)
from slipway_labeling.engine.answers import Answers, BadAnswers

sys.path.insert(0, str(Path(__file__).parent))

from cpu_time import least_seconds
from simulated_annotators import evenly_wrong, simulated

# Fleiss, Psychol. Bull. 76 (1971), as told by Wikipedia: 10 subjects, 14 raters, 5 classes; kappa 0.210.
FOURTEEN_RATERS = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]
# Krippendorff 2011, example C: 4 observers, 12 units, 0 is missing; nominal alpha 0.743.
FOUR_OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
    [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
]


def from_table(rows, classes, missing=0):
    """Answers from one row per annotator; classes are counted from 1."""
    table = np.array(rows)
    annotator, task = np.nonzero(table != missing)
    return Answers(task, annotator, table[annotator, task] - 1, table.shape[1], table.shape[0], classes)


def from_counts(counts):
    """Answers from one row of class counts per task."""
    counts = np.array(counts)
    label = np.concatenate([np.repeat(np.arange(counts.shape[1]), row) for row in counts])
    raters = counts.sum(axis=1)
    task = np.repeat(np.arange(len(counts)), raters)
    annotator = np.concatenate([np.arange(n) for n in raters])
    return Answers(task, annotator, label, len(counts), int(raters.max()), counts.shape[1])


def crowd(seed, rates=(0.05, 0.1, 0.2, 0.3), tasks=300, overlap=3, classes=4):
    """Answers of annotators with these error rates."""
    confusions = [evenly_wrong(rate, classes) for rate in rates]
    return simulated(np.random.default_rng(seed), confusions, tasks=tasks, overlap=overlap)[0]


def test_fleiss_kappa_is_that_of_the_published_example():
    found = fleiss(from_counts(FOURTEEN_RATERS))

    assert found.value == pytest.approx(0.210, abs=5e-4)
    assert found.lower < found.value < found.upper


def test_krippendorffs_alpha_is_that_of_the_published_example():
    found = krippendorff(from_table(FOUR_OBSERVERS, 5))

    assert found.value == pytest.approx(0.743, abs=5e-4)
    assert found.tasks == 11


@pytest.mark.parametrize("seed", range(5))
def test_cohens_kappa_is_scikit_learns(seed):
    answers = crowd(seed, rates=(0.1, 0.4), overlap=2)

    found = cohen(answers, 0, 1)

    order = np.lexsort((answers.task, answers.annotator))
    first, second = answers.label[order].reshape(2, answers.tasks)
    assert found.value == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)


def test_with_unequal_counts_percent_and_alpha_follow_their_definitions():
    answers = from_table(FOUR_OBSERVERS, 5)

    by_task = [answers.label[answers.task == task] for task in range(answers.tasks)]
    paired = [labels for labels in by_task if len(labels) >= 2]
    agreeing = [np.mean([a == b for a, b in combinations(labels, 2)]) for labels in paired]
    pairable = np.concatenate(paired)
    differing = sum((1 - share) * len(labels) for share, labels in zip(agreeing, paired, strict=True))
    observed = differing / pairable.size
    expected = np.mean([a != b for a, b in combinations(pairable, 2)])
    assert percent(answers).value == pytest.approx(np.mean(agreeing))
    assert krippendorff(answers).value == pytest.approx(1 - observed / expected)


def test_with_many_tasks_fleiss_and_alpha_are_nearly_the_same():
    answers = crowd(5, tasks=3000)

    assert fleiss(answers).value == pytest.approx(krippendorff(answers).value, abs=1e-3)


def test_annotators_who_guess_agree_by_chance_only():
    answers = crowd(6, rates=(0.75, 0.75, 0.75), tasks=2000)

    for statistic in (fleiss, krippendorff):
        found = statistic(answers)
        assert found.lower < 0 < found.upper
    assert percent(answers).value == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize("statistic", [percent, fleiss, krippendorff, lambda a, r: cohen(a, 0, 1, r)])
def test_the_interval_covers_the_value_of_very_many_tasks(statistic):
    whole = statistic(crowd(0, tasks=50_000), Resampling(samples=2)).value

    found = [statistic(crowd(seed, tasks=200), Resampling(samples=400)) for seed in range(100, 200)]

    covered = np.mean([f.lower <= whole <= f.upper for f in found])
    assert 0.88 <= covered <= 1
    assert np.mean([f.upper - f.lower for f in found]) < 0.4


@pytest.mark.parametrize("statistic", [percent, fleiss, krippendorff])
def test_equal_seeds_give_equal_intervals(statistic):
    answers = crowd(7)

    assert statistic(answers) == statistic(answers)
    assert statistic(answers) != statistic(answers, Resampling(seed=1))


@pytest.mark.parametrize("statistic", [percent, fleiss, krippendorff])
def test_where_nobody_answers_the_same_task_agreement_is_undefined_and_says_so(statistic):
    alone = Answers(np.arange(3), np.zeros(3, np.int64), np.array([0, 1, 1]), 3, 1, 2)

    found = statistic(alone)

    assert math.isnan(found.value)
    assert found.reason == NO_PAIR


def test_where_all_name_one_class_kappa_is_undefined_and_percent_is_one():
    same = from_table([[1, 1, 1], [1, 1, 1]], 3)

    for found in (fleiss(same), krippendorff(same), cohen(same, 0, 1)):
        assert math.isnan(found.value)
        assert found.reason == ONE_CLASS
    assert percent(same).value == 1


def test_one_task_has_a_value_without_an_interval():
    found = krippendorff(from_table([[1], [2], [1]], 2))

    assert not math.isnan(found.value)
    assert math.isnan(found.lower)
    assert found.reason == ONE_TASK


def test_cohens_kappa_is_told_for_the_pairs_that_share_a_task():
    answers = Answers(
        np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 2]), np.array([0, 0, 1, 1, 1]), 3, 3, 2
    )

    found = cohen_pairs(answers)

    assert list(found) == [(0, 1)]
    assert found[0, 1].value == 1


def test_an_annotator_outside_the_range_is_refused():
    with pytest.raises(BadAnswers, match="annotator 9 is outside"):
        cohen(crowd(1), 0, 9)


def test_ten_thousand_tasks_take_less_than_two_seconds():
    answers = crowd(8, rates=np.linspace(0.02, 0.3, 64), tasks=10_000, classes=10)

    over_tasks, _ = least_seconds(lambda: (percent(answers), fleiss(answers), krippendorff(answers)), 2)
    pairs = cohen_pairs(answers)

    print(f"three coefficients {over_tasks:.2f} s, {len(pairs)} pairs")
    assert over_tasks < 2
    assert len(pairs) > 1000
