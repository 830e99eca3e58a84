"""Sticky assignment: callers say a bucket from 00 to 99 that they compute from a key, versions own ranges.

The newest version has the lowest buckets, so while its weight grows a key that it got stays with it, and
while it shrinks a key that went back stays there. Ranges are as wide as the weights: the split without a key
is the same. The header is matched by a regular expression that Envoy and Istio (RE2, whole value) read alike.
"""

from collections.abc import Mapping

HEADER = "slipway-bucket"
NO_BUCKET = "none"  # what no caller says: for a version without weight


def ranges(weights: Mapping[int, int]) -> dict[int, tuple[int, int]]:
    """Return for each version's number its first bucket and the one after its last.

    Args:
        weights: Per cent by number.
    """
    found, first = {}, 0
    for number in sorted(weights, reverse=True):
        found[number] = (first, first + weights[number])
        first += weights[number]
    return found


def condition(first: int, end: int) -> dict[str, str]:
    """Return Istio's condition on the header for buckets from `first` to before `end`."""
    return {"regex": pattern(first, end)} if first < end else {"exact": NO_BUCKET}


def pattern(first: int, end: int) -> str:
    """Return the regular expression of two-figure numbers from `first` to before `end`.

    Whole tens are put together: 0 to 36 is `[0-2][0-9]|3[0-6]`.
    """
    parts: list[str] = []
    whole: list[int] = []
    for ten in range(first // 10, (end - 1) // 10 + 1):
        low, high = max(first - ten * 10, 0), min(end - ten * 10, 10) - 1
        if (low, high) == (0, 9):
            whole.append(ten)
        else:
            parts.append(f"{ten}{_figures(low, high)}")
    if whole:
        parts.append(f"{_figures(whole[0], whole[-1])}[0-9]")
    return "|".join(sorted(parts))


def _figures(low: int, high: int) -> str:
    return str(low) if low == high else f"[{low}-{high}]"
