"""Two models on the same examples: is the version worse than the champion, and by how much at most?

The test is McNemar's, exact and one-sided (Q. McNemar, 1947): of the examples that one of the two has right,
the version loses half when the two are equal. Nothing is taken off it (no mid-p), so it errs on the side of
letting pass. Rows of one group are not independent; a group then counts as one: its difference is what it
lost less what it won, and under equality it could as well be the other way round. The distribution of the sum
over all such turns is computed exactly (E. Edgington and P. Onghena, "Randomization tests"); when every group
has one row it is McNemar's test to the last place.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import optimize, signal, stats

from slipway_registry.domain.evaluations import Pairs


def pair(
    correct: npt.NDArray[np.bool_],
    champion_correct: npt.NDArray[np.bool_],
    groups: npt.NDArray[np.integer],
) -> Pairs:
    """Return what the version lost and won, by group.

    Args:
        correct: (N,), whether the version is right.
        champion_correct: (N,), whether the champion is.
        groups: (N,), a number for each group.
    """
    lost = champion_correct & ~correct
    won = correct & ~champion_correct
    _, index = np.unique(groups, return_inverse=True)
    sizes = np.bincount(index)
    d = np.bincount(index, weights=lost.astype(np.int64) - won.astype(np.int64)).astype(np.int64)
    return Pairs(
        lost=int(lost.sum()),
        won=int(won.sum()),
        groups=len(sizes),
        differences=tuple(sorted(Counter(d[d != 0].tolist()).items())),
        sum_dd=int((d * d).sum()),
        sum_dm=int((d * sizes).sum()),
        sum_mm=int((sizes * sizes).sum()),
    )


def p_value(pairs: Pairs) -> float:
    """Return the probability of losing so much, or more, if the two were equal; 1 when nothing differs."""
    by_size: Counter[int] = Counter()
    for difference, count in pairs.differences:
        by_size[abs(difference)] += count
    lost = sum(difference * count for difference, count in pairs.differences if difference > 0)
    if len(by_size) == 1:
        ((size, count),) = by_size.items()
        return float(stats.binom.sf(lost // size - 1, count, 0.5))
    distribution = np.ones(1)
    for size, count in by_size.items():
        steps = np.zeros(size * count + 1)
        steps[::size] = stats.binom.pmf(np.arange(count + 1), count, 0.5)
        distribution = signal.convolve(distribution, steps)
    return float(min(1.0, max(0.0, distribution[lost:].sum())))


def sign_test(above: int, count: int) -> float:
    """Return the probability of so many above a bound, or more, if each were as likely below it."""
    return float(stats.binom.sf(above - 1, count, 0.5))


def holm(values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (S. Holm, 1979): the family-wise error rate stays alpha."""
    order = sorted(range(len(values)), key=values.__getitem__)
    corrected, highest = [1.0] * len(values), 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, (len(values) - place) * values[index]))
        corrected[index] = highest
    return corrected


def drop_bound(pairs: Pairs, examples: int, alpha: float) -> float:
    """Return the upper 1 - alpha confidence bound of the drop in accuracy, champion less version.

    The score bound for paired proportions of T. Tango, "Equivalence test and confidence interval for the
    difference in proportions for the paired-sample design" (1998). It is above 0 even where nothing differs.
    Counts are first divided by the design effect of the groups (J. Rao and A. Scott, "A simple method for the
    analysis of clustered binary data", 1992).
    """
    effect = design_effect(pairs, examples)
    n, lost, won = examples / effect, pairs.lost / effect, pairs.won / effect
    z = float(stats.norm.isf(alpha))
    point = (lost - won) / n
    if point >= 1:
        return 1.0
    inside = min(1.0 - 1e-12, point + 1e-12)
    if _score(n, lost, won, 1.0 - 1e-12) > -z:
        return 1.0
    return float(optimize.brentq(lambda drop: _score(n, lost, won, drop) + z, inside, 1.0 - 1e-12))


def _score(n: float, lost: float, won: float, drop: float) -> float:
    b = -lost - won + (2 * n - lost + won) * drop
    c = -won * drop * (1 - drop)
    likely_won = (np.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)  # maximum likelihood under this drop
    variance = n * (2 * likely_won + drop * (1 - drop))
    return float((lost - won - n * drop) / np.sqrt(max(variance, 1e-300)))


def design_effect(pairs: Pairs, examples: int) -> float:
    """Return by how much the groups widen the variance of the drop; at least 1."""
    drop = (pairs.lost - pairs.won) / examples
    alone = pairs.lost + pairs.won - examples * drop * drop
    clustered = pairs.sum_dd - 2 * drop * pairs.sum_dm + drop * drop * pairs.sum_mm
    if pairs.groups < 2:
        return float(examples)  # one group is one example
    if alone <= 0:
        return max(1.0, examples / pairs.groups)  # nothing differs: count each group once
    return max(1.0, clustered / alone * pairs.groups / (pairs.groups - 1))
