"""Maximum mean discrepancy of two samples of vectors, by a permutation test.

Source: A. Gretton et al., "A Kernel Two-Sample Test" (JMLR 13, 2012): Gaussian kernel whose bandwidth is the
median distance within both samples together, so that it is the same under every permutation and the test is
exact. Permutations end early when ten of them beat the data (J. Besag and P. Clifford, 1991): p stays exact,
and a window without drift costs few of them.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from slipway_monitoring.domain.drift import EMBEDDING, DriftTest
from slipway_monitoring.engine.sample import VectorSample

ENOUGH_BEATEN = 10
MAX_PERMUTATIONS = 5000
_FIRST, _BATCH = 100, 700
_SEED = 20_260_101
_ROUNDING = 1e-6  # of sums of float32


def discrepancy(window: VectorSample, reference: VectorSample) -> DriftTest:
    """Compare two samples of vectors (S, D) and (R, D).

    The effect says how well the kernel's witness function, fitted without the row that it judges, tells the
    two apart: 2 AUC - 1, which is never above their total variation.
    """
    kernel = _gaussian(np.concatenate([window.vectors, reference.vectors]))  # (S + R, S + R)
    n, m = len(window.vectors), len(reference.vectors)
    weights = np.concatenate([np.full(n, 1 / n), np.full(m, -1 / m)]).astype(np.float32)
    biased = float(weights @ kernel @ weights)
    return DriftTest(
        subject=EMBEDDING,
        method="mmd",
        statistic=biased,
        p_value=_p_value(kernel, weights, biased),
        effect=_separation(kernel, n),
        psi=0.0,
        row_count=n,
        reference_count=m,
    )


def _gaussian(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    vectors = vectors / max(float(np.abs(vectors).max(initial=0.0)), 1e-30)  # squares must not overflow
    squares = (vectors * vectors).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares[None, :] - 2 * vectors @ vectors.T, 0)
    median = float(np.median(distances[np.triu_indices(len(vectors), 1)]))
    kernel: NDArray[np.float32] = np.exp(-distances / (2 * max(median, 1e-12))).astype(np.float32)
    return kernel


def _separation(kernel: NDArray[np.float32], n: int) -> float:
    m = len(kernel) - n
    own = np.diag(kernel)
    is_window = np.arange(n + m) < n
    to_window = (kernel[:, :n].sum(axis=1) - own * is_window) / (n - is_window)
    to_reference = (kernel[:, n:].sum(axis=1) - own * ~is_window) / (m - ~is_window)
    ranks = stats.rankdata(to_window - to_reference)
    area = (ranks[:n].sum() - n * (n + 1) / 2) / (n * m)
    return float(max(2 * area - 1, 0.0))


def _p_value(kernel: NDArray[np.float32], weights: NDArray[np.float32], statistic: float) -> float:
    generator = np.random.default_rng(_SEED)
    beaten = tried = 0
    size = _FIRST
    while tried < MAX_PERMUTATIONS:
        permuted = generator.permuted(np.broadcast_to(weights, (size, len(weights))), axis=1)
        beats: NDArray[Any] = np.einsum("pn,pn->p", permuted @ kernel, permuted) >= statistic - _ROUNDING
        places = np.flatnonzero(beats)
        if beaten + len(places) >= ENOUGH_BEATEN:
            last = int(places[ENOUGH_BEATEN - beaten - 1]) + 1
            return ENOUGH_BEATEN / (tried + last)
        beaten, tried = beaten + len(places), tried + size
        size = _BATCH
    return (beaten + 1) / (tried + 1)
