"""Shares and their differences, with intervals."""

from dataclasses import dataclass
from math import sqrt

# The normal quantile of a two-sided 95 % interval.
_Z = 1.959963984540054


@dataclass(frozen=True)
class Difference:
    """The difference of two shares, first minus second, with its 95 % interval."""

    value: float
    lower: float
    upper: float


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Return the 95 % score interval of a share (Wilson, JASA 1927), within [0, 1]; `count` is at least 1."""
    share, z2 = hits / count, _Z * _Z
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z * sqrt(share * (1 - share) / count + z2 / (4 * count * count)) / (1 + z2 / count)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def difference(first: tuple[int, int], second: tuple[int, int]) -> Difference:
    """Return the difference of two independent shares, each given as (hits, count >= 1).

    The interval is Newcombe's hybrid score interval (method 10 of Statist. Med. 17:873, 1998): it holds its
    level for small counts and shares of 0 and 1, where the textbook's does not.
    """
    p1, p2 = first[0] / first[1], second[0] / second[1]
    (l1, u1), (l2, u2) = wilson(*first), wilson(*second)
    value = p1 - p2
    return Difference(
        value,
        value - sqrt((p1 - l1) ** 2 + (u2 - p2) ** 2),
        value + sqrt((u1 - p1) ** 2 + (p2 - l2) ** 2),
    )
