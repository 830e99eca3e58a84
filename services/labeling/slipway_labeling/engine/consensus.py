"""One label per task from the answers of several annotators: majority, weighted, Dawid-Skene."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from scipy.special import logsumexp, softmax

from slipway_labeling.engine.answers import (
    UNKNOWN,
    Answers,
    BadAnswers,
    BoolArray,
    FloatArray,
    IntArray,
    known_labels,
)

# The least probability, as in crowd-kit: no answer is impossible.
_FLOOR = 1e-10
# An annotator starts as one who was right in four of five answers.
_RIGHT, _ANSWERS = 4.0, 5.0


@dataclass(frozen=True)
class Consensus:
    """The label of each task and how sure it is.

    `label` (T,) is UNKNOWN where a task has neither an answer nor a known label; its `posterior` (T, K) is
    nan there. `tied` (T,) says where several classes share the highest posterior.
    """

    label: IntArray
    posterior: FloatArray
    tied: BoolArray


@dataclass(frozen=True)
class WeightedConsensus(Consensus):
    """A consensus with the accuracy of each annotator (A,) that weighed it."""

    accuracy: FloatArray
    iterations: int
    converged: bool


@dataclass(frozen=True)
class DawidSkeneConsensus(Consensus):
    """A consensus with the model that explains it.

    `confusion` (A, K, K) is P(answer | truth) by [annotator, truth, answer]: 0 for an annotator without
    answers and for a truth that neither answers nor known labels name. `priors` (K,) are the shares of the
    classes. `log_likelihood` is that of the answers (nats), known labels taken as seen.
    """

    confusion: FloatArray
    priors: FloatArray
    log_likelihood: float
    iterations: int
    converged: bool


def majority(answers: Answers, gold: IntArray | None = None, prior: FloatArray | None = None) -> Consensus:
    """Take the class that most answers name; the posterior is the share of the votes.

    A tie goes to the class with the highest `prior` (K,), then to the lowest index; `tied` reports it.
    A known label in `gold` (T,) stands whatever the answers say.
    """
    if prior is not None and prior.shape != (answers.classes,):
        raise BadAnswers(
            f"prior has the shape {prior.shape}; give one value per class, {answers.classes} in all"
        )
    votes = answers.votes
    with np.errstate(invalid="ignore"):
        share = votes / votes.sum(axis=1, keepdims=True)
    return Consensus(*_decided(share, known_labels(gold, answers), prior))


def weighted(
    answers: Answers, gold: IntArray | None = None, *, iterations: int = 100, tolerance: float = 1e-4
) -> WeightedConsensus:
    """Weigh each answer by the log odds of its annotator's accuracy, which comes from agreement; iterate.

    The weight log(p (K-1) / (1-p)) is the optimal one for independent annotators whose errors fall evenly on
    the other classes (Nitzan & Paroush, Int. Econ. Rev. 1982; iterated: Li & Yu, arXiv:1411.4086). Only tasks
    with a second answer or a known label tell of accuracy; few answers are held at 0.8 by a prior of five.
    """
    known = known_labels(gold, answers)
    judged = (answers.per_task >= 2) | (known != UNKNOWN)
    share = majority(answers, gold).posterior
    accuracy, converged, iteration = _accuracy(answers, share, judged), False, 0
    while iteration < iterations and not converged:
        iteration += 1
        share = _fixed(softmax(answers.weighted_votes(log_odds(accuracy, answers)), axis=1), known)
        last, accuracy = accuracy, _accuracy(answers, share, judged)
        converged = bool(np.abs(accuracy - last).max(initial=0.0) < tolerance)
    share[(answers.per_task == 0) & (known == UNKNOWN)] = np.nan
    return WeightedConsensus(
        *_decided(share, known), accuracy=accuracy, iterations=iteration, converged=converged
    )


def log_odds(accuracy: FloatArray, answers: Answers) -> FloatArray:
    """Return the weight of each answer (n,) for annotators of this accuracy (A,)."""
    bounded = np.clip(accuracy, _FLOOR, 1 - _FLOOR)
    return (np.log(bounded * max(answers.classes - 1, 1)) - np.log1p(-bounded))[answers.annotator]


def _accuracy(answers: Answers, share: FloatArray, judged: BoolArray) -> FloatArray:
    seen = judged[answers.task]
    annotator = answers.annotator[seen]
    agreed = share[answers.task[seen], answers.label[seen]]
    right = np.bincount(annotator, weights=agreed, minlength=answers.annotators)
    return (right + _RIGHT) / (np.bincount(annotator, minlength=answers.annotators) + _ANSWERS)


def dawid_skene(
    answers: Answers, gold: IntArray | None = None, *, iterations: int = 100, tolerance: float = 1e-5
) -> DawidSkeneConsensus:
    """Estimate labels and each annotator's confusion together by EM (Dawid & Skene, Appl. Statist. 1979).

    Start, floor and end are crowd-kit's (Ustalov et al., JOSS 2024), so that results are equal: the first
    posterior is the share of the votes, probabilities of labels that an annotator used are at least 1e-10,
    and EM ends when its bound per answer gains less than `tolerance`. Known labels stay fixed throughout.
    """
    known = known_labels(gold, answers)
    model = _Model(answers, known)
    posterior = model.start()
    priors, errors = model.maximise(posterior)
    bound, converged, iteration = -np.inf, False, 0
    while iteration < iterations and not converged:
        iteration += 1
        posterior = model.expect(priors, errors)
        priors, errors = model.maximise(posterior)
        last, bound = bound, model.bound(posterior, priors, errors)
        converged = bound - last < tolerance
    return DawidSkeneConsensus(
        *_decided(model.all_tasks(posterior), known),
        confusion=model.confusion(errors),
        priors=model.all_classes(priors),
        log_likelihood=model.log_likelihood(priors, errors),
        iterations=iteration,
        converged=converged,
    )


class _Model:
    """The answers as one sparse matrix: rows are pairs of annotator and label, columns are tasks.

    Only answered tasks (t), classes that occur (k) and pairs that occur (r) take part, as in crowd-kit.
    """

    def __init__(self, answers: Answers, known: IntArray) -> None:
        self._answers, self._known = answers, known
        self._classes = np.union1d(answers.label, known[known != UNKNOWN])
        self._tasks, column = np.unique(answers.task, return_inverse=True)
        self._pairs, row = np.unique(answers.annotator * answers.classes + answers.label, return_inverse=True)
        self._matrix = csr_matrix(
            (np.ones(row.size), (row, column)), shape=(self._pairs.size, self._tasks.size)
        )  # (r, t)
        self._known_here = np.flatnonzero(known[self._tasks] != UNKNOWN)
        self._known_class = np.searchsorted(self._classes, known[self._tasks][self._known_here])

    def start(self) -> FloatArray:
        votes = self._answers.votes[np.ix_(self._tasks, self._classes)]
        return self.fix(votes / votes.sum(axis=1, keepdims=True))

    def fix(self, posterior: FloatArray) -> FloatArray:
        posterior[self._known_here] = 0
        posterior[self._known_here, self._known_class] = 1
        return posterior

    def maximise(self, posterior: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the shares of the classes (k,) and P(label | truth, annotator) per pair (r, k)."""
        if not posterior.size:
            return np.zeros(self._classes.size), np.zeros((0, self._classes.size))
        counts = np.maximum(self._matrix @ posterior, _FLOOR)
        _, first, group = np.unique(
            self._pairs // self._answers.classes, return_index=True, return_inverse=True
        )
        return posterior.mean(axis=0), counts / np.add.reduceat(counts, first, axis=0)[group]

    def expect(self, priors: FloatArray, errors: FloatArray) -> FloatArray:
        """Return P(truth | answers) per task, (t, k)."""
        joint = self.joint(priors, errors)
        return self.fix(softmax(joint, axis=1)) if joint.size else joint

    def joint(self, priors: FloatArray, errors: FloatArray) -> FloatArray:
        """Return log P(truth, answers) per task, (t, k)."""
        return np.log(np.maximum(priors, _FLOOR)) + self._matrix.T @ np.log(errors)

    def bound(self, posterior: FloatArray, priors: FloatArray, errors: FloatArray) -> float:
        """Return crowd-kit's bound per answer; it counts a task's prior once per answer, and so do we."""
        per_task = np.asarray(self._matrix.sum(axis=0)).reshape(-1, 1)
        expected = ((self._matrix @ posterior) * np.log(errors)).sum()
        expected += (per_task * posterior * np.log(np.maximum(priors, _FLOOR))).sum()
        floored = np.maximum(posterior, _FLOOR)
        return float(expected - (floored * np.log(floored)).sum()) / max(self._answers.task.size, 1)

    def log_likelihood(self, priors: FloatArray, errors: FloatArray) -> float:
        joint = self.joint(priors, errors)
        per_task = logsumexp(joint, axis=1) if joint.size else np.zeros(0)
        per_task[self._known_here] = joint[self._known_here, self._known_class]
        return float(per_task.sum())

    def all_tasks(self, posterior: FloatArray) -> FloatArray:
        whole = np.full((self._answers.tasks, self._answers.classes), np.nan)
        whole[self._tasks] = 0
        whole[np.ix_(self._tasks, self._classes)] = posterior
        return whole

    def all_classes(self, priors: FloatArray) -> FloatArray:
        whole = np.zeros(self._answers.classes)
        whole[self._classes] = priors
        return whole

    def confusion(self, errors: FloatArray) -> FloatArray:
        whole = np.zeros((self._answers.annotators, self._answers.classes, self._answers.classes))
        annotator, label = np.divmod(self._pairs, self._answers.classes)
        whole[annotator[:, None], self._classes[None, :], label[:, None]] = errors
        return whole


def _fixed(share: FloatArray, known: IntArray) -> FloatArray:
    here = np.flatnonzero(known != UNKNOWN)
    share[here] = 0
    share[here, known[here]] = 1
    return share


def _decided(
    share: FloatArray, known: IntArray, prior: FloatArray | None = None
) -> tuple[IntArray, FloatArray, BoolArray]:
    share = _fixed(share, known)
    empty: BoolArray = np.isnan(share[:, 0])
    filled = np.where(empty[:, None], 0, share)
    # Equal up to rounding is a tie: sums of equal weights differ by their order.
    top: BoolArray = filled >= filled.max(axis=1, keepdims=True, initial=0) - 1e-12
    label = np.argmax(np.where(top, 0 if prior is None else prior, -np.inf), axis=1).astype(np.int64)
    return np.where(empty, UNKNOWN, label), share, (top.sum(axis=1) > 1) & ~empty
