"""Safe tests for two streams of yes and no: may one rate be larger than the other by more than a margin?

E-variables for 2x2 tables (Turner, Ly & Grünwald 2024, "Generic E-variables for exact sequential k-sample
tests that allow for optional stopping") against convex nulls with a margin (Turner & Grünwald 2023, "Exact
anytime-valid confidence intervals for contingency tables and beyond"): the likelihood of an alternative that
was chosen before the block, over that of its projection (smallest Kullback-Leibler divergence, weighted by
the block's counts) on the null. Its expectation is at most 1 when the null holds in the block, whatever the
rates are in other blocks; so a product over blocks may be looked at after each one (Ville 1939).
"""

import math
from dataclasses import dataclass, field

EFFECTS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)  # differences beyond the margin that are looked for
_EDGE = 1e-5
_STEPS = 60


@dataclass
class Counts:
    """Observations of both versions, and how many of them were hits (errors, wrong rows, a class)."""

    stable_count: int = 0
    stable_hits: int = 0
    count: int = 0
    hits: int = 0

    def add(self, other: "Counts") -> None:
        """Add the other's to these."""
        self.stable_count += other.stable_count
        self.stable_hits += other.stable_hits
        self.count += other.count
        self.hits += other.hits

    @property
    def difference(self) -> float:
        """Rate of the new version less the stable one's; both must be in it."""
        return self.hits / self.count - self.stable_hits / self.stable_count

    @property
    def comparable(self) -> bool:
        """Whether both versions are in it."""
        return bool(self.stable_count and self.count)


@dataclass
class NonInferiority:
    """E-process against "the new version's rate is at most the stable one's plus `margin`".

    With `above` False it is against "at least the stable one's plus `margin`". `logs` has the logarithm of
    one process per alternative; the mean of e-processes is one.
    """

    margin: float
    prior_mean: float
    above: bool = True
    logs: list[float] = field(default_factory=list)
    seen: Counts = field(default_factory=Counts)

    @property
    def log_e(self) -> float:
        """Logarithm of the e-value."""
        return log_mean_exp(self.logs) if self.logs else 0.0

    def observe(self, block: Counts) -> None:
        """Multiply by the block's e-value; the alternatives come from the blocks before it."""
        if block.comparable:
            alternatives = self._alternatives()
            self.logs = self.logs or [0.0] * len(alternatives)
            gains = [log_e_value(block, p, q, self.margin, above=self.above) for p, q in alternatives]
            self.logs = [log + gain for log, gain in zip(self.logs, gains, strict=True)]
        self.seen.add(block)

    def learn(self, stable_only: Counts) -> None:
        """Take observations that will be in no block: they make the alternatives better, and no more."""
        self.seen.add(stable_only)

    def _alternatives(self) -> list[tuple[float, float]]:
        """Return pairs of rates (stable, new), from what was seen so far."""
        seen = self.seen
        stable = _smoothed(seen.stable_hits, seen.stable_count, self.prior_mean)
        new = _smoothed(seen.hits, seen.count, self.prior_mean)
        if not self.above:
            return [(stable, new), (stable, stable)]
        shifted = [(stable, _inside(stable + self.margin + effect)) for effect in EFFECTS]
        return [(stable, new), *shifted]


def log_e_value(block: Counts, stable: float, new: float, margin: float, *, above: bool) -> float:
    """Return the logarithm of a block's e-value for an alternative (stable, new); 0 for one of the null."""
    beyond = new - stable - margin
    if (beyond <= 0) if above else (beyond >= 0):
        return 0.0
    base = projection(stable, new, margin, block.stable_count, block.count)
    if base is None:
        return 0.0
    return _log_ratio(block.stable_hits, block.stable_count, stable, base) + _log_ratio(
        block.hits, block.count, new, base + margin
    )


def projection(stable: float, new: float, margin: float, stable_count: int, count: int) -> float | None:
    """Return q so that (q, q + margin) is nearest to (stable, new); None when no such pair are rates.

    It minimises stable_count * KL(stable | q) + count * KL(new | q + margin), which is convex in q; the root
    of its derivative lies between `stable` and `new - margin`.
    """
    low, high = sorted((stable, new - margin))
    low, high = max(low, _EDGE, _EDGE - margin), min(high, 1 - _EDGE, 1 - _EDGE - margin)
    if low >= high:
        return None
    for _ in range(_STEPS):
        middle = (low + high) / 2
        shifted = middle + margin
        slope = stable_count * (middle - stable) / (middle * (1 - middle))
        slope += count * (shifted - new) / (shifted * (1 - shifted))
        if slope > 0:
            high = middle
        else:
            low = middle
        if high - low < 1e-12:
            break
    return (low + high) / 2


def log_mean_exp(logs: list[float]) -> float:
    """Return the logarithm of the mean of the exponentials."""
    largest = max(logs)
    return largest + math.log(sum(math.exp(log - largest) for log in logs) / len(logs))


def _log_ratio(hits: int, count: int, alternative: float, null: float) -> float:
    misses = count - hits
    return hits * math.log(alternative / null) + misses * math.log((1 - alternative) / (1 - null))


def _smoothed(hits: int, count: int, prior_mean: float) -> float:
    """Return a rate that is never 0 or 1: half a hit is added (Krichevsky & Trofimov 1981)."""
    return _inside((hits + 0.5) / (count + 0.5 / prior_mean))


def _inside(rate: float) -> float:
    return min(max(rate, 10 * _EDGE), 1 - 10 * _EDGE)
