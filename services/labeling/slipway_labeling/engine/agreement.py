"""How far annotators agree: percent, Cohen's and Fleiss' kappa, Krippendorff's alpha, with intervals."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from slipway_labeling.engine.answers import Answers, BadAnswers, FloatArray

NO_PAIR = "no task has two answers"
ONE_CLASS = "all answers name one class, so agreement by chance is certain"
ONE_TASK = "one task alone has no interval"

# Statistics of resampled tasks: weights (B, U) of kinds of tasks with their counts (U, K) to values (B,).
_Statistic = Callable[[FloatArray, FloatArray], FloatArray]


@dataclass(frozen=True)
class Agreement:
    """A coefficient with its percentile bootstrap interval over tasks.

    What is not defined is nan, and `reason` says why; it is empty otherwise.
    """

    value: float
    lower: float
    upper: float
    tasks: int
    reason: str = ""


@dataclass(frozen=True)
class Resampling:
    """How an interval is made: from `samples` bootstrap samples of the tasks by `seed`, to cover `level`."""

    samples: int = 1000
    level: float = 0.95
    seed: int = 0


def percent(answers: Answers, resampling: Resampling = Resampling()) -> Agreement:
    """Return the share of agreeing pairs of answers, as the mean over tasks with at least two answers."""
    return _of_tasks(answers, _percent, resampling)


def fleiss(answers: Answers, resampling: Resampling = Resampling()) -> Agreement:
    """Return Fleiss' kappa (Psychol. Bull. 1971) over the tasks with at least two answers.

    Tasks may have unequal counts of answers: agreement and the shares of classes are then means over tasks
    (Gwet, Handbook of Inter-Rater Reliability, 2014, ch. 2). With equal counts it is Fleiss' own.
    """
    return _of_tasks(answers, _fleiss, resampling)


def krippendorff(answers: Answers, resampling: Resampling = Resampling()) -> Agreement:
    """Return Krippendorff's alpha for nominal classes (Computing Krippendorff's Alpha-Reliability, 2011).

    Answers without a second one to the same task do not count.
    """
    return _of_tasks(answers, _krippendorff, resampling)


def cohen(answers: Answers, first: int, second: int, resampling: Resampling = Resampling()) -> Agreement:
    """Return Cohen's kappa (Educ. Psychol. Meas. 1960) of two annotators over the tasks that both answered.

    Raises BadAnswers for an annotator outside the range.
    """
    for annotator in (first, second):
        if not 0 <= annotator < answers.annotators:
            raise BadAnswers(
                f"annotator {annotator} is outside 0..{answers.annotators - 1}; give an index below the count"
            )
    one, other = answers.annotator == first, answers.annotator == second
    _, ones, others = np.intersect1d(
        answers.task[one], answers.task[other], assume_unique=True, return_indices=True
    )
    cells, kinds = np.unique(
        answers.label[one][ones] * answers.classes + answers.label[other][others], return_counts=True
    )
    pairs = np.stack(np.divmod(cells, answers.classes), axis=1).astype(np.float64)
    return _estimate(pairs, kinds.astype(np.float64), _cohen, resampling)


def cohen_pairs(
    answers: Answers, resampling: Resampling = Resampling(samples=200)
) -> dict[tuple[int, int], Agreement]:
    """Return Cohen's kappa of every two annotators, the lower index first, that share a task."""
    answered = np.zeros((answers.annotators, answers.tasks), np.float32)
    answered[answers.annotator, answers.task] = 1
    shared = answered @ answered.T
    pairs = combinations(range(answers.annotators), 2)
    return {pair: cohen(answers, *pair, resampling) for pair in pairs if shared[pair]}


def _of_tasks(answers: Answers, statistic: _Statistic, resampling: Resampling) -> Agreement:
    votes = answers.votes
    votes = votes[votes.sum(axis=1) >= 2]
    # Tasks with equal votes are one kind: resampling kinds by their counts is resampling tasks.
    kinds, counts = np.unique(votes, axis=0, return_counts=True)
    return _estimate(kinds, counts.astype(np.float64), statistic, resampling)


def _estimate(
    kinds: FloatArray, counts: FloatArray, statistic: _Statistic, resampling: Resampling
) -> Agreement:
    tasks = int(counts.sum())
    if not tasks:
        return Agreement(np.nan, np.nan, np.nan, 0, NO_PAIR)
    value = float(statistic(counts[None, :], kinds)[0])
    if np.isnan(value):
        return Agreement(np.nan, np.nan, np.nan, tasks, ONE_CLASS)
    if tasks == 1:
        return Agreement(value, np.nan, np.nan, tasks, ONE_TASK)
    rng = np.random.default_rng(resampling.seed)
    weights = rng.multinomial(tasks, counts / tasks, size=resampling.samples).astype(np.float64)
    tail = (1 - resampling.level) / 2
    # A sample in which one class alone is left defines nothing; the others make the interval.
    lower, upper = np.nanquantile(statistic(weights, kinds), [tail, 1 - tail])
    return Agreement(value, float(lower), float(upper), tasks)


def _percent(weights: FloatArray, kinds: FloatArray) -> FloatArray:
    size = kinds.sum(axis=1)
    agreeing = (kinds * (kinds - 1)).sum(axis=1) / (size * (size - 1))
    share: FloatArray = weights @ agreeing / weights.sum(axis=1)
    return share


def _fleiss(weights: FloatArray, kinds: FloatArray) -> FloatArray:
    shares = weights @ (kinds / kinds.sum(axis=1, keepdims=True)) / weights.sum(axis=1, keepdims=True)
    return _beyond_chance(_percent(weights, kinds), (shares**2).sum(axis=1))


def _krippendorff(weights: FloatArray, kinds: FloatArray) -> FloatArray:
    size = kinds.sum(axis=1)
    per_class = weights @ kinds  # (B, K)
    total = per_class.sum(axis=1)
    observed = weights @ ((kinds * (kinds - 1)).sum(axis=1) / (size - 1)) / total
    expected = (per_class * (per_class - 1)).sum(axis=1) / (total * (total - 1))
    return _beyond_chance(observed, expected)


def _cohen(weights: FloatArray, kinds: FloatArray) -> FloatArray:
    """Here a kind is the pair of classes that the two annotators gave, (U, 2)."""
    total = weights.sum(axis=1)
    classes = np.arange(kinds.max() + 1)
    first = weights @ (kinds[:, :1] == classes) / total[:, None]
    second = weights @ (kinds[:, 1:] == classes) / total[:, None]
    observed = weights @ (kinds[:, 0] == kinds[:, 1]) / total
    return _beyond_chance(observed, (first * second).sum(axis=1))


def _beyond_chance(observed: FloatArray, expected: FloatArray) -> FloatArray:
    room = 1 - expected
    defined = room > 1e-12
    beyond: FloatArray = np.where(defined, (observed - expected) / np.where(defined, room, 1), np.nan)
    return beyond
