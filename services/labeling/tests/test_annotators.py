"""Annotators: error rates with their uncertainty, and who is careless."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import beta
from slipway_labeling.engine.annotators import ErrorPrior, careless, confusion_of, judge
from slipway_labeling.engine.answers import UNKNOWN, Answers, BadAnswers

sys.path.insert(0, str(Path(__file__).parent))

from cpu_time import least_seconds
from simulated_annotators import evenly_wrong, simulated

SEEDS = range(50)


def crowd(seed, rates, *, tasks=300, overlap=3, classes=10):
    """Answers and truth of annotators with these error rates."""
    confusions = [evenly_wrong(rate, classes) for rate in rates]
    return simulated(np.random.default_rng(seed), confusions, tasks=tasks, overlap=overlap)


@pytest.mark.parametrize(
    "rates", [(0.02, 0.05, 0.3), (0.02, 0.02, 0.05, 0.05, 0.05, 0.3)], ids=["three", "six"]
)
def test_the_careless_annotator_is_flagged_and_the_careful_ones_are_not(rates):
    flagged = np.mean([careless(judge(crowd(seed, rates)[0])) for seed in SEEDS], axis=0)

    print(f"flagged over {len(SEEDS)} seeds: {dict(enumerate(zip(rates, flagged.tolist(), strict=True)))}")
    assert flagged[-1] >= 0.95
    assert (flagged[:-1] <= 0.05).all()


def test_looking_again_after_every_ten_tasks_pauses_the_careless_early_and_the_careful_never():
    paused, needed = np.zeros(3), []
    for seed in SEEDS[:20]:
        answers, _ = crowd(seed, (0.02, 0.05, 0.3))
        first = np.full(3, np.inf)
        for tasks in range(20, 301, 10):
            part = answers.task < tasks
            so_far = Answers(answers.task[part], answers.annotator[part], answers.label[part], 300, 3, 10)
            first = np.minimum(first, np.where(careless(judge(so_far)), tasks, np.inf))
        paused += np.isfinite(first)
        needed.append(first[2])

    print(f"paused of 20: {paused.tolist()}; the careless one after {np.median(needed):.0f} answers (median)")
    assert (paused[:2] <= 1).all()
    assert np.quantile(needed, 0.9) <= 100


def test_the_interval_of_the_error_rate_covers_the_truth():
    rates = np.array([0.02, 0.05, 0.1, 0.3])
    bin_width = 1 / 400

    found = [judge(crowd(seed, rates)[0]) for seed in range(100, 150)]

    covered = np.mean([(f.lower - bin_width <= rates) & (rates <= f.upper + bin_width) for f in found])
    assert covered >= 0.9
    assert np.mean([f.error_rate for f in found], axis=0) == pytest.approx(rates, abs=0.02)


def test_two_careless_annotators_do_not_talk_a_careful_one_into_carelessness():
    flagged = np.mean([careless(judge(crowd(seed, (0.02, 0.3, 0.3))[0])) for seed in SEEDS], axis=0)

    assert flagged[0] <= 0.05
    assert (flagged[1:] >= 0.9).all()


def test_known_labels_alone_give_the_beta_posterior():
    gold = np.zeros(40, np.int64)
    label = np.where(np.arange(40) < 6, 1, 0)
    alone = Answers(np.arange(40), np.zeros(40, np.int64), label, 40, 1, 3)

    found = judge(alone, gold, prior=ErrorPrior(1, 9))

    exact = beta(1 + 6, 9 + 34)
    assert found.error_rate[0] == pytest.approx(exact.mean(), abs=1e-4)
    assert found.lower[0] == pytest.approx(exact.ppf(0.025), abs=3e-3)
    assert found.upper[0] == pytest.approx(exact.ppf(0.975), abs=3e-3)
    assert found.probability_above(0.1)[0] == pytest.approx(exact.sf(0.1), abs=1e-3)
    assert found.confusion[0].tolist() == [[34, 6, 0], [0, 0, 0], [0, 0, 0]]


def test_an_annotator_does_not_vouch_for_himself():
    alone = Answers(np.arange(200), np.zeros(200, np.int64), np.zeros(200, np.int64), 200, 1, 3)

    found = judge(alone)

    assert found.answers.tolist() == [200]
    assert found.judged.tolist() == [0]
    assert found.error_rate[0] == pytest.approx(0.1, abs=1e-4)
    assert not careless(found, tolerance=0.01, confidence=0.5).any()


def test_known_labels_say_which_of_two_who_disagree_is_wrong():
    answers, truth = crowd(7, (0.02, 0.4), overlap=2)
    gold = np.where(np.arange(300) < 30, truth, UNKNOWN)

    found = judge(answers, gold)

    assert careless(found).tolist() == [False, True]
    assert found.error_rate == pytest.approx([0.02, 0.4], abs=0.08)


def test_few_answers_flag_nobody():
    answers, _ = crowd(3, (0.02, 0.02, 0.9), tasks=19)

    found = judge(answers)

    assert found.error_rate[2] > 0.5
    assert not careless(found).any()
    assert careless(found, least=19).tolist() == [False, False, True]


def test_one_who_always_gives_the_same_answer_is_careless_and_his_confusion_shows_it():
    always = np.zeros((10, 10))
    always[:, 4] = 1
    confusions = [evenly_wrong(0.03, 10), evenly_wrong(0.03, 10), always]
    answers, _ = simulated(np.random.default_rng(8), confusions, tasks=300, overlap=3)

    found = judge(answers)
    confusion = confusion_of(found)

    assert careless(found).tolist() == [False, False, True]
    assert (confusion.mean[2, :, 4] > 0.9).all()
    assert (confusion.lower[2, :, 4] > 0.8).all()


def test_a_confusion_has_bounds_around_its_mean_and_says_nothing_of_a_truth_never_met():
    answers, truth = crowd(9, (0.02, 0.05, 0.3))
    answers = Answers(
        answers.task[truth[answers.task] != 9],
        answers.annotator[truth[answers.task] != 9],
        answers.label[truth[answers.task] != 9],
        300,
        3,
        10,
    )

    confusion = confusion_of(judge(answers, truth))

    assert confusion.mean.sum(axis=2) == pytest.approx(np.ones((3, 10)))
    assert (confusion.lower <= confusion.mean).all()
    assert confusion.mean[0, 9] == pytest.approx(np.full(10, 0.1))
    assert (confusion.upper[:, 9] - confusion.lower[:, 9] > 0.5).all()
    assert confusion.upper[0, 0, 0] - confusion.lower[0, 0, 0] < 0.3


def test_ten_thousand_tasks_are_judged_in_less_than_a_second():
    rates = np.random.default_rng(4).uniform(0.02, 0.3, size=64)
    answers, _ = crowd(5, rates, tasks=10_000)

    seconds, found = least_seconds(lambda: judge(answers), 1)

    print(f"10,000 tasks x 3 answers, 64 annotators: {seconds:.2f} s")
    assert found.error_rate == pytest.approx(rates, abs=0.06)
    assert seconds < 1


def test_one_class_alone_is_refused():
    with pytest.raises(BadAnswers, match="1 classes leave nothing to err about"):
        judge(Answers(np.array([0]), np.array([0]), np.array([0]), 1, 1, 1))
