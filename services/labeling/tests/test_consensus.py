"""Consensus: majority, weighted and Dawid-Skene, beside crowd-kit and beside a majority that is wrong."""

import sys
from pathlib import Path

import numpy as np
import pytest
from slipway_labeling.engine.answers import UNKNOWN, Answers, BadAnswers, IntArray, binary_problems
from slipway_labeling.engine.consensus import dawid_skene, majority, weighted

sys.path.insert(0, str(Path(__file__).parent))

import crowdkit_oracle
from cpu_time import least_seconds
from simulated_annotators import evenly_wrong, simulated


def votes(*rows: list[int], classes: int = 3) -> Answers:
    """Answers by task; the annotators are counted from 0 in each row."""
    task = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    annotator = np.concatenate([np.arange(len(row)) for row in rows]).astype(np.int64)
    label = np.concatenate([np.array(row, np.int64) for row in rows])
    return Answers(task, annotator, label, len(rows), max(map(len, rows)), classes)


def wrong_majority(seed: int) -> tuple[Answers, IntArray]:
    """Three of five annotators call most of class 2 class 1, so the majority does; the other two do not."""
    blind = evenly_wrong(0.05, 4)
    blind[2] = [0.05, 0.8, 0.1, 0.05]
    confusions = [blind, blind, blind, evenly_wrong(0.03, 4), evenly_wrong(0.03, 4)]
    return simulated(np.random.default_rng(seed), confusions, tasks=1000, overlap=5)


def mixed_crowd(seed: int) -> tuple[Answers, IntArray]:
    """Eight annotators between 5 % and 50 % wrong, three answers per task."""
    rng = np.random.default_rng(seed)
    confusions = [evenly_wrong(rate, 5) for rate in rng.uniform(0.05, 0.5, size=8)]
    return simulated(rng, confusions, tasks=400, overlap=3)


SETS = [(mixed_crowd, 11), (mixed_crowd, 12), (mixed_crowd, 13), (mixed_crowd, 14), (wrong_majority, 15)]


@pytest.mark.parametrize(("crowd", "seed"), SETS)
def test_dawid_skene_equals_crowd_kits(crowd, seed):
    answers, _ = crowd(seed)

    ours = dawid_skene(answers)

    posterior, priors, confusion = crowdkit_oracle.dawid_skene(answers)
    assert np.abs(ours.posterior - posterior).max() < 1e-6
    assert np.abs(ours.priors - priors).max() < 1e-6
    assert np.abs(ours.confusion - confusion).max() < 1e-6
    assert ours.iterations > 2


@pytest.mark.parametrize(("crowd", "seed"), SETS)
def test_dawid_skene_with_known_labels_equals_crowd_kits(crowd, seed):
    answers, truth = crowd(seed)
    gold = np.where(np.arange(answers.tasks) < 40, truth, UNKNOWN)

    ours = dawid_skene(answers, gold)

    posterior, _, _ = crowdkit_oracle.dawid_skene(answers, gold)
    assert np.abs(ours.posterior - posterior).max() < 1e-6
    assert (ours.label[:40] == truth[:40]).all()


@pytest.mark.parametrize("seed", [15, 16, 17])
def test_dawid_skene_is_right_where_the_majority_is_wrong(seed):
    answers, truth = wrong_majority(seed)

    by_majority = (majority(answers).label == truth).mean()
    by_model = (dawid_skene(answers).label == truth).mean()

    print(f"right: majority {by_majority:.3f}, Dawid-Skene {by_model:.3f}")
    assert by_model >= by_majority + 0.03


def test_dawid_skene_finds_the_confusions_that_made_the_answers():
    answers, _ = wrong_majority(15)

    found = dawid_skene(answers)

    assert found.confusion[0, 2, 1] == pytest.approx(0.8, abs=0.08)
    assert found.confusion[3, 2, 2] == pytest.approx(0.97, abs=0.04)
    assert found.confusion.sum(axis=2) == pytest.approx(np.ones((5, 4)))
    assert found.priors.sum() == pytest.approx(1)


def test_the_log_likelihood_is_that_of_the_model_it_comes_with():
    answers, _ = mixed_crowd(11)

    found = dawid_skene(answers)

    likelihood = np.zeros(answers.tasks)
    for truth in range(answers.classes):
        per_answer = found.confusion[answers.annotator, truth, answers.label]
        product = np.ones(answers.tasks)
        np.multiply.at(product, answers.task, per_answer)
        likelihood += found.priors[truth] * product
    assert found.log_likelihood == pytest.approx(np.log(likelihood).sum(), rel=1e-6)


def test_ten_thousand_tasks_take_less_than_a_second():
    rng = np.random.default_rng(21)
    confusions = [evenly_wrong(rate, 10) for rate in rng.uniform(0.02, 0.3, size=64)]
    answers, truth = simulated(rng, confusions, tasks=10_000, overlap=3)

    seconds, found = least_seconds(lambda: dawid_skene(answers), 1)

    print(f"10,000 tasks x 3 answers x 10 classes: {seconds:.2f} s, {found.iterations} iterations")
    assert (found.label == truth).mean() > 0.95
    assert seconds < 1


def test_the_majority_is_the_class_that_most_name():
    found = majority(votes([0, 0, 1], [2, 1, 2], [1]))

    assert found.label.tolist() == [0, 2, 1]
    assert found.posterior[0] == pytest.approx([2 / 3, 1 / 3, 0])
    assert not found.tied.any()


def test_a_tie_is_reported_and_goes_to_the_lowest_class_or_to_the_prior():
    answers = votes([2, 1], [0, 2, 1], [1, 1, 2])

    plain = majority(answers)
    informed = majority(answers, prior=np.array([0.2, 0.3, 0.5]))

    assert plain.tied.tolist() == [True, True, False]
    assert plain.label.tolist() == [1, 0, 1]
    assert informed.label.tolist() == [2, 2, 1]


@pytest.mark.parametrize("method", [majority, weighted, dawid_skene])
def test_a_known_label_stands_against_the_answers(method):
    answers = votes([0, 0, 0], [1, 1, 1], [2, 2, 2])

    found = method(answers, np.array([2, UNKNOWN, UNKNOWN]))

    assert found.label.tolist() == [2, 1, 2]
    assert found.posterior[0].tolist() == [0, 0, 1]


@pytest.mark.parametrize("method", [majority, weighted, dawid_skene])
def test_a_task_without_answers_has_no_label_unless_it_is_known(method):
    answers = Answers(np.array([1, 1]), np.array([0, 1]), np.array([2, 2]), 3, 2, 3)

    found = method(answers, np.array([UNKNOWN, UNKNOWN, 0]))

    assert found.label.tolist() == [UNKNOWN, 2, 0]
    assert np.isnan(found.posterior[0]).all()
    assert not found.tied.any()


@pytest.mark.parametrize("method", [majority, weighted, dawid_skene])
def test_no_answers_at_all_are_no_error(method):
    none = np.zeros(0, np.int64)

    found = method(Answers(none, none, none, 2, 0, 3))

    assert found.label.tolist() == [UNKNOWN, UNKNOWN]


def test_the_weighted_vote_lets_one_careful_annotator_outvote_two_careless_ones():
    confusions = [evenly_wrong(rate, 4) for rate in (0.02, 0.45, 0.45)]
    answers, truth = simulated(np.random.default_rng(31), confusions, tasks=600, overlap=3)

    found = weighted(answers)

    assert found.accuracy[0] > 0.9
    assert found.accuracy[1:] == pytest.approx([0.55, 0.55], abs=0.06)
    assert (found.label == truth).mean() >= (majority(answers).label == truth).mean() + 0.03
    assert found.converged


def test_single_answers_do_not_earn_an_annotator_weight():
    alone = Answers(np.arange(50), np.zeros(50, np.int64), np.zeros(50, np.int64), 50, 1, 3)

    found = weighted(alone)

    assert found.accuracy[0] == pytest.approx(0.8)


def test_multi_label_answers_are_one_binary_problem_per_label():
    task, annotator = np.array([0, 0, 0, 1]), np.array([0, 1, 2, 0])
    chosen = np.array([[1, 0], [1, 1], [0, 0], [0, 1]], bool)

    labels = [
        majority(problem).label for problem in binary_problems(task, annotator, chosen, tasks=2, annotators=3)
    ]

    assert np.stack(labels, axis=1).tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("task", "annotator", "label", "message"),
    [
        ([0, 9], [0, 1], [0, 0], "task 9 is outside 0..1"),
        ([0, 1], [0, 5], [0, 0], "annotator 5 is outside 0..1"),
        ([0, 1], [0, 1], [0, -1], "label -1 is outside 0..2"),
        ([1, 1], [0, 0], [0, 2], "annotator 0 answers task 1 twice"),
    ],
)
def test_answers_that_do_not_fit_are_refused_by_value(task, annotator, label, message):
    with pytest.raises(BadAnswers, match=message):
        Answers(np.array(task), np.array(annotator), np.array(label), 2, 2, 3)


def test_narrow_indices_are_widened_before_they_are_multiplied():
    task = np.array([70_000, 70_000, 70_001], np.int32)
    annotator = np.array([1, 60_000, 60_000], np.int32)

    found = dawid_skene(Answers(task, annotator, np.array([2, 2, 1], np.int8), 70_002, 60_001, 3))

    assert found.label[-2:].tolist() == [2, 1]


def test_a_known_label_outside_the_classes_is_refused():
    with pytest.raises(BadAnswers, match=r"gold label 7 is outside 0\.\.2"):
        majority(votes([0, 1]), np.array([7]))
