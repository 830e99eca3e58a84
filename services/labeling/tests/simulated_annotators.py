"""Annotators whose errors are known, for tests of what is estimated from their answers alone."""

from collections.abc import Sequence

import numpy as np
from slipway_labeling.engine.answers import Answers, FloatArray, IntArray


def evenly_wrong(rate: float, classes: int) -> FloatArray:
    """Return the confusion (K, K) of one whose errors fall evenly on the other classes."""
    confusion = np.full((classes, classes), rate / (classes - 1))
    np.fill_diagonal(confusion, 1 - rate)
    return confusion


def simulated(
    rng: np.random.Generator, confusions: Sequence[FloatArray], *, tasks: int, overlap: int
) -> tuple[Answers, IntArray]:
    """Draw the truth (T,) and answers: each task goes to `overlap` of the annotators, evenly."""
    annotators, classes = len(confusions), len(confusions[0])
    truth = rng.integers(classes, size=tasks)
    chosen = np.stack([rng.permutation(annotators)[:overlap] for _ in range(tasks)])
    task, annotator = np.repeat(np.arange(tasks), overlap), chosen.ravel()
    cumulative = np.cumsum(np.stack(confusions)[annotator, truth[task]], axis=1)
    label = np.minimum((rng.random((task.size, 1)) > cumulative).sum(axis=1), classes - 1)
    return Answers(task, annotator, label, tasks, annotators, classes), truth
