"""Counts by bin and by class: sketches whose merge is exact."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

MAX_CUTS = 127
GRID_ROWS = 10_000  # from so many values on, sorting costs more than it shows
GRID_CELLS = 4096
_COARSE = 1 / 64
_PART = 8192  # values whose temporaries stay in the cache: three times as fast as all at once


@dataclass(frozen=True)
class Grid:
    """Cuts at equal distances, so that a value's bin is computed instead of looked for."""

    low: float
    width: float

    @property
    def cuts(self) -> Floats:
        """The cuts, in figures: (GRID_CELLS + 1,)."""
        return np.asarray(self.low + self.width * np.arange(GRID_CELLS + 1), dtype=np.float64)

    def bins(self, values: NDArray[Any]) -> NDArray[np.intp]:
        """Return the bin of each value: 0 lies below the grid; the last above it, what is no number too."""
        place = (values - self.low) * (1.0 / self.width)
        np.fmin(place, GRID_CELLS, out=place)  # of NaN and a number, the number
        np.fmax(place, -1.0, out=place)
        place += 1.0
        return place.astype(np.intp)

    def counted(self, values: NDArray[Any]) -> Counts:
        """Return how many values (N,) lie in each bin: (GRID_CELLS + 2,)."""
        counts = np.zeros(GRID_CELLS + 2, dtype=np.int64)
        for start in range(0, len(values), _PART):
            counts += np.bincount(self.bins(values[start : start + _PART]), minlength=GRID_CELLS + 2)
        return counts


@dataclass(frozen=True)
class Histogram:
    """Values counted between cuts.

    Attributes:
        cuts: (B,) ascending; bin i holds what is below cut i and not below cut i - 1.
        counts: (B + 1,), the last one of what is not below any cut, what is no number included.
        grid: Where the cuts come from, when they lie on one.
    """

    cuts: Floats
    counts: Counts
    grid: Grid | None = None

    @classmethod
    def of(cls, values: NDArray[Any]) -> "Histogram":
        """Return the histogram of a reference.

        It is cut at the values' own quantiles, so that each bin holds about as many; of many values, by a
        grid, unless much of them lies in one cell of it.
        """
        if values.size >= GRID_ROWS:
            made = cls._by_grid(np.asarray(values, dtype=np.float64).ravel())
            if made is not None:
                return made
        return cls.by_quantiles(values)

    @classmethod
    def by_quantiles(cls, values: NDArray[Any]) -> "Histogram":
        """Return the histogram of a reference, cut at its own quantiles however many values there are."""
        ordered = np.sort(np.asarray(values, dtype=np.float64).ravel())
        finite = ordered[: np.searchsorted(ordered, np.inf)]
        if not len(finite):
            return cls(np.zeros(0), np.array([len(ordered)], dtype=np.int64))
        places = np.linspace(0, len(finite) - 1, MAX_CUTS + 2)[1:-1].round().astype(np.int64)
        # one cut lies just above all: else nothing above a constant could be told from it
        cuts = np.unique([*finite[places], np.nextafter(finite[-1], np.inf)])
        return cls(cuts, _counts(ordered, cuts))

    @classmethod
    def _by_grid(cls, values: Floats) -> "Histogram | None":
        low, high = np.nanquantile(values, [0.001, 0.999])
        if not (np.isfinite(low) and np.isfinite(high) and low < high):
            return None
        grid = Grid(float(low), float(high - low) / GRID_CELLS)
        bins = grid.bins(values)
        counts = np.bincount(bins, minlength=GRID_CELLS + 2)
        for cell in np.flatnonzero(counts > _COARSE * len(values)):
            inside = values[(bins == cell) & np.isfinite(values)]
            if len(inside) > _COARSE * len(values) and inside.min() != inside.max():
                return None
        return cls(grid.cuts, counts, grid)

    def counted(self, values: NDArray[Any]) -> "Histogram":
        """Return the histogram of other values between the same cuts."""
        if self.grid is not None:
            return Histogram(self.cuts, self.grid.counted(np.asarray(values).ravel()), self.grid)
        return Histogram(self.cuts, _counts(np.sort(np.asarray(values).ravel()), self.cuts))

    def merged(self, other: "Histogram") -> "Histogram":
        """Return what one histogram of both would be.

        Raises:
            ValueError: They are cut in different places.
        """
        if not np.array_equal(self.cuts, other.cuts):
            raise ValueError("histograms of different cuts cannot be merged")
        return Histogram(self.cuts, self.counts + other.counts, self.grid)

    @property
    def total(self) -> int:
        """How many values there are."""
        return int(self.counts.sum())

    def below(self) -> Floats:
        """Return the share of values below each cut: (B,)."""
        return np.asarray(np.cumsum(self.counts[:-1]) / max(self.total, 1), dtype=np.float64)

    def quantiles(self, shares: Iterable[float] = (0.1, 0.5, 0.9)) -> dict[str, float]:
        """Return the cuts below which about these shares are, named p10, p50, …"""
        if not len(self.cuts):
            return {}
        below = self.below()
        places = [min(int(np.searchsorted(below, share)), len(self.cuts) - 1) for share in shares]
        return {f"p{share * 100:.0f}": float(self.cuts[at]) for share, at in zip(shares, places, strict=True)}


def _counts(ordered: NDArray[Any], cuts: Floats) -> Counts:
    below = np.searchsorted(ordered, cuts, side="left")
    return np.diff(below, prepend=0, append=len(ordered)).astype(np.int64)


@dataclass(frozen=True)
class Coded:
    """Classes of rows as numbers: `codes` (N,) index `names`; a number that has no name stands for itself."""

    codes: NDArray[Any]
    names: Sequence[str]
    missing: str = "(none)"  # of negative codes


@dataclass(frozen=True)
class Classes:
    """How often each class came."""

    counts: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, labels: Iterable[Any] | Coded) -> "Classes":
        """Count labels."""
        if isinstance(labels, Coded):
            return cls.of_codes(labels)
        listed = labels.tolist() if isinstance(labels, np.ndarray) else labels
        return cls({str(label): count for label, count in Counter(listed).items()})

    @classmethod
    def of_codes(cls, coded: Coded) -> "Classes":
        """Count classes that are numbers."""
        codes = coded.codes
        if len(codes) and codes.min() < 0:
            codes = codes[codes >= 0]
        counts = np.bincount(codes) if len(codes) else np.zeros(0, np.int64)
        found = {
            coded.names[code] if code < len(coded.names) else str(code): int(counts[code])
            for code in np.flatnonzero(counts).tolist()
        }
        missing = len(coded.codes) - int(counts.sum())
        return cls({**found, coded.missing: missing} if missing else found)

    def merged(self, other: "Classes") -> "Classes":
        """Return the counts of both."""
        return Classes(dict(Counter(self.counts) + Counter(other.counts)))

    @property
    def total(self) -> int:
        """How many labels there are."""
        return sum(self.counts.values())

    def shares(self) -> dict[str, float]:
        """Return each class's share."""
        return {label: count / max(self.total, 1) for label, count in sorted(self.counts.items())}
