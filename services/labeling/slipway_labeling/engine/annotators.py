"""How often each annotator errs, how sure that is, and who is careless."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.special import softmax
from scipy.stats import beta

from slipway_labeling.engine.answers import (
    UNKNOWN,
    Answers,
    BadAnswers,
    BoolArray,
    FloatArray,
    IntArray,
    known_labels,
)
from slipway_labeling.engine.consensus import log_odds

# The middles of the bins on which the posterior of an error rate is kept.
ERROR_RATES: FloatArray = (np.arange(400) + 0.5) / 400


@dataclass(frozen=True)
class ErrorPrior:
    """Beta prior of an error rate: before any answer an annotator counts as wrong in 1 of 10 answers.

    It weighs as much as ten answers, so thirty answers outweigh it.
    """

    wrong: float = 1.0
    right: float = 9.0


@dataclass(frozen=True)
class Annotators:
    """What the answers tell of each annotator.

    `judged` (A,) counts the answers whose task has a known label or another's answer: only these tell
    anything. `density` (A, G) is the posterior of the error rate on `ERROR_RATES`, each row sums to 1; with
    known labels alone it is the Beta posterior. `error_rate`, `lower` and `upper` (A,) are its mean and its
    central interval. `confusion` (A, K, K) counts answers by [annotator, truth, answer], soft where the truth
    is not known.
    """

    answers: IntArray
    judged: IntArray
    error_rate: FloatArray
    lower: FloatArray
    upper: FloatArray
    density: FloatArray
    confusion: FloatArray

    def probability_above(self, error_rate: float) -> FloatArray:
        """Return P(error rate > `error_rate`) per annotator, (A,)."""
        share = np.clip((ERROR_RATES - error_rate) * ERROR_RATES.size + 0.5, 0, 1)
        return self.density @ share


@dataclass(frozen=True)
class Confusion:
    """P(answer | truth) per annotator, (A, K, K) by [annotator, truth, answer], with central bounds."""

    mean: FloatArray
    lower: FloatArray
    upper: FloatArray


def judge(
    answers: Answers,
    gold: IntArray | None = None,
    *,
    prior: ErrorPrior = ErrorPrior(),
    level: float = 0.95,
    iterations: int = 100,
) -> Annotators:
    """Judge each annotator by known labels and by the others: nobody vouches for himself.

    With q the probability, by all other answers to the task, that an answer is right, its likelihood at the
    error rate e is q (1-e) + (1-q) e/(K-1): the one-coin model of Dawid & Skene (Appl. Statist. 1979). A
    doubtful consensus thus tells little, and a lone answer nothing. The others' rates come from the same
    model by EM.
    Raises BadAnswers for fewer than two classes.
    """
    if answers.classes < 2:
        raise BadAnswers(f"{answers.classes} classes leave nothing to err about; give at least 2")
    known = known_labels(gold, answers)
    seen = (answers.per_task[answers.task] >= 2) | (known[answers.task] != UNKNOWN)
    judged = np.bincount(answers.annotator[seen], minlength=answers.annotators)
    truth = _truth_by_others(answers, known, prior, seen, iterations)
    right = truth[np.arange(answers.task.size), answers.label]
    density = _densities(answers, right, seen, prior)
    tail = (1 - level) / 2
    return Annotators(
        answers=np.bincount(answers.annotator, minlength=answers.annotators),
        judged=judged,
        error_rate=density @ ERROR_RATES,
        lower=_quantiles(density, tail),
        upper=_quantiles(density, 1 - tail),
        density=density,
        confusion=_counts(answers, truth, seen),
    )


def careless(
    annotators: Annotators, *, tolerance: float = 0.1, confidence: float = 0.95, least: int = 20
) -> BoolArray:
    """Say who errs more than `tolerance` with P >= `confidence`, after at least `least` judged answers, (A,).

    With the defaults the estimate must reach about 0.15 at 100 answers. That is halfway between a careful
    annotator (5 %) and a careless one (30 %) on the scale of square roots, where counts spread evenly.
    """
    return (annotators.judged >= least) & (annotators.probability_above(tolerance) >= confidence)


def confusion_of(annotators: Annotators, *, pseudo_count: float = 1.0, level: float = 0.95) -> Confusion:
    """Return each annotator's confusion under a Dirichlet prior of `pseudo_count` per row, spread evenly.

    The bounds are those of the Beta marginals, so a truth that was never met is [near 0, near 1], not 0 or 1.
    """
    classes = annotators.confusion.shape[2]
    alpha = annotators.confusion + pseudo_count / classes
    rest = alpha.sum(axis=2, keepdims=True) - alpha
    tail = (1 - level) / 2
    return Confusion(
        mean=alpha / (alpha + rest), lower=beta.ppf(tail, alpha, rest), upper=beta.ppf(1 - tail, alpha, rest)
    )


def _truth_by_others(
    answers: Answers, known: IntArray, prior: ErrorPrior, seen: BoolArray, iterations: int
) -> FloatArray:
    """Return P(truth) of each answer's task by all other answers and known labels, (n, K)."""
    error = np.full(answers.annotators, prior.wrong / (prior.wrong + prior.right))
    judged = np.bincount(answers.annotator[seen], minlength=answers.annotators)
    for _ in range(iterations):
        truth = _others(answers, known, 1 - error)
        right = truth[np.arange(answers.task.size), answers.label]
        e = error[answers.annotator]
        wrong = (1 - right) * e / (answers.classes - 1)
        wrong /= wrong + right * (1 - e)
        total = np.bincount(answers.annotator[seen], weights=wrong[seen], minlength=answers.annotators)
        last, error = error, (total + prior.wrong) / (judged + prior.wrong + prior.right)
        if np.abs(error - last).max(initial=0.0) < 1e-6:
            break
    return _others(answers, known, 1 - error)


def _others(answers: Answers, known: IntArray, accuracy: FloatArray) -> FloatArray:
    weight = log_odds(accuracy, answers)
    score = answers.weighted_votes(weight)[answers.task]  # (n, K)
    each = np.arange(answers.task.size)
    score[each, answers.label] -= weight
    truth: FloatArray = softmax(score, axis=1)
    fixed = np.flatnonzero(known[answers.task] != UNKNOWN)
    truth[fixed] = 0
    truth[fixed, known[answers.task[fixed]]] = 1
    return truth


def _densities(answers: Answers, right: FloatArray, seen: BoolArray, prior: ErrorPrior) -> FloatArray:
    log_prior = (prior.wrong - 1) * np.log(ERROR_RATES) + (prior.right - 1) * np.log1p(-ERROR_RATES)
    log_density = np.tile(log_prior, (answers.annotators, 1))  # (A, G)
    order = np.flatnonzero(seen)[np.argsort(answers.annotator[seen], kind="stable")]
    bounds = np.searchsorted(answers.annotator[order], np.arange(answers.annotators + 1))
    for annotator, (begin, end) in enumerate(pairwise(bounds)):
        q = right[order[begin:end], None]
        likelihood = q * (1 - ERROR_RATES) + (1 - q) * ERROR_RATES / (answers.classes - 1)
        log_density[annotator] += np.log(likelihood).sum(axis=0)
    return softmax(log_density, axis=1)


def _quantiles(density: FloatArray, probability: float) -> FloatArray:
    cumulative = np.cumsum(density, axis=1)
    at = np.minimum((cumulative < probability).sum(axis=1), ERROR_RATES.size - 1)
    return ERROR_RATES[at]


def _counts(answers: Answers, truth: FloatArray, seen: BoolArray) -> FloatArray:
    # By annotator and answer, then by truth.
    counts = np.zeros((answers.annotators * answers.classes, answers.classes))
    np.add.at(counts, (answers.annotator * answers.classes + answers.label)[seen], truth[seen])
    return counts.reshape(answers.annotators, answers.classes, answers.classes).transpose(0, 2, 1)
