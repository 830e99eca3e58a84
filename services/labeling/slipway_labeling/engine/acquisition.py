"""What to label next: orders over unlabelled examples, the most worthwhile first."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slipway_labeling.engine.answers import FloatArray, IntArray
from slipway_labeling.engine.probabilities import BadScores, checked_embeddings, checked_probabilities

# Distances between pool and centres are made in blocks of at most this many, 16 MiB.
_BLOCK = 1 << 22
_Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Order:
    """Row indices of the pool (B,), the first to be labelled first, and what each was chosen for, (B,).

    A higher score is more worthwhile; equal scores are in the order of the pool.
    """

    example: IntArray
    score: FloatArray


def margin(probabilities: FloatArray, budget: int | None = None) -> Order:
    """Order by the smallest margin between the two likeliest classes (Scheffer et al., IDA 2001).

    The score is 1 - margin in [0, 1]. Raises BadScores for rows of (N, K) that are no distributions.
    """
    return _ranked(_closeness(checked_probabilities(probabilities)), budget)


def entropy(probabilities: FloatArray, budget: int | None = None) -> Order:
    """Order by the highest entropy (Shannon 1948; Settles, Active Learning Literature Survey, 2009).

    The score is in units of log K, so it lies in [0, 1]. Raises BadScores as `margin` does.
    """
    values = checked_probabilities(probabilities)
    bits = -(values * np.log(np.maximum(values, 1e-300))).sum(axis=1)
    return _ranked(bits / np.log(values.shape[1]), budget)


def k_center(embeddings: FloatArray, budget: int, labelled: FloatArray | None = None) -> Order:
    """Order by greedy k-center: next is always the example farthest from all chosen (arXiv:1708.00489).

    `labelled` (M, D) are the embeddings of what has a label already: centres from the start. Without any, the
    first is the example nearest to the mean. The score is the Euclidean distance to the nearest centre at the
    time of choice; for a first without centres, the farthest example's distance to it. Time is
    O(N (M + budget) D), in float32. Raises BadScores for embeddings (N, D) that are not finite or not of one
    width.
    """
    points, centres = _centred(checked_embeddings(embeddings), labelled)
    budget = _bounded(budget, len(points))
    squares = np.einsum("nd,nd->n", points, points)
    nearest = _nearest_squares(points, squares, centres)
    chosen, score = np.zeros(budget, np.int64), np.zeros(budget)
    for turn in range(budget):
        first = turn == 0 and not len(centres)
        pick = int(np.argmin(squares) if first else np.argmax(nearest))
        distance = np.maximum(squares + squares[pick] - 2 * (points @ points[pick]), 0)
        chosen[turn], score[turn] = pick, distance.max() if first else nearest[pick]
        np.minimum(nearest, distance, out=nearest)
        nearest[chosen[: turn + 1]] = -1
    return Order(chosen, np.sqrt(np.maximum(score, 0)))


def hybrid(
    probabilities: FloatArray,
    embeddings: FloatArray,
    budget: int,
    labelled: FloatArray | None = None,
    *,
    breadth: float = 3.0,
) -> Order:
    """Take the `breadth` * budget examples of smallest margin, and order these by k-center.

    Uncertain alone repeats itself within a batch, diverse alone spends on what is known (prefiltering as in
    Zhdanov, arXiv:1901.05954). The score is k-center's. Raises BadScores as `margin` and `k_center` do.
    """
    values = checked_probabilities(probabilities)
    points = checked_embeddings(embeddings, len(values))
    uncertain = margin(values, round(budget * breadth)).example
    spread = k_center(points[uncertain], budget, labelled)
    return Order(uncertain[spread.example], spread.score)


def random(count: int, budget: int | None = None, *, seed: int) -> Order:
    """Order `count` examples by chance, for a control arm; the score is the number drawn, in [0, 1)."""
    return _ranked(np.random.default_rng(seed).random(count), budget)


def _closeness(values: FloatArray) -> FloatArray:
    two = np.partition(values, -2, axis=1)[:, -2:]
    return 1 - np.abs(two[:, 1] - two[:, 0])


def _ranked(score: FloatArray, budget: int | None) -> Order:
    order = np.argsort(-score, kind="stable")[
        : _bounded(len(score) if budget is None else budget, len(score))
    ]
    return Order(order, score[order])


def _bounded(budget: int, count: int) -> int:
    if budget < 0:
        raise BadScores(f"budget is {budget}; give 0 or more")
    return min(budget, count)


def _centred(points: FloatArray, labelled: FloatArray | None) -> tuple[_Float32, _Float32]:
    """Move the origin to the pool's mean, so that float32 keeps small distances exact."""
    centres = np.zeros((0, points.shape[1])) if labelled is None else checked_embeddings(labelled)
    if centres.shape[1] != points.shape[1]:
        raise BadScores(
            f"labelled embeddings have {centres.shape[1]} values, the pool's {points.shape[1]}; "
            "score both with one version"
        )
    mean = points.mean(axis=0, dtype=np.float64) if len(points) else np.zeros(points.shape[1])
    return (points - mean).astype(np.float32), (centres - mean).astype(np.float32)


def _nearest_squares(points: _Float32, squares: _Float32, centres: _Float32) -> _Float32:
    nearest = np.full(len(points), np.inf, np.float32)
    if not len(centres):
        return nearest
    centre_squares = np.einsum("md,md->m", centres, centres)
    rows = max(_BLOCK // len(centres), 1)
    for begin in range(0, len(points), rows):
        block = slice(begin, begin + rows)
        far = centre_squares - 2 * (points[block] @ centres.T)
        nearest[block] = np.maximum(far.min(axis=1) + squares[block], 0)
    return nearest
