"""Evidence about one question, block by block, stratified by the weight in force."""

import math
from dataclasses import dataclass, field

from slipway_rollout.engine.betting import Bets
from slipway_rollout.engine.two_by_two import Counts, NonInferiority, log_mean_exp

Strata = dict[int, Counts]  # by index of the step, whose weight was in force
LATENCY_QUANTILE = 0.95
_KNOWN_REQUESTS = 20  # of the stable version before its quantile is used
_BLOCK_REQUESTS = 10  # of the new version in a block of latencies


@dataclass
class Comparison:
    """Whether hits of the new version are more frequent than the stable one's at the same time.

    A block is what both versions did within one step since the last block: the split is constant in it, so
    what changes with time changes both alike. Its end depends on how many came, never on what they were.
    """

    fail: NonInferiority
    passing: NonInferiority | None = None
    open: Strata = field(default_factory=dict)
    closed: Strata = field(default_factory=dict)

    @classmethod
    def of(cls, *, margin: float, tolerance: float, prior_mean: float) -> "Comparison":
        """Return one without evidence; a tolerance of 0 asks for no evidence that the loss is below it."""
        passing = NonInferiority(tolerance, prior_mean, above=False) if tolerance else None
        return cls(NonInferiority(margin, prior_mean), passing)

    def take(self, step: int, counts: Counts, *, compared: bool = True) -> None:
        """Take observations of a step; they count when `settle` finds both versions in them.

        With `compared` False the new version can have none at this step: they only say what is usual.
        """
        if compared:
            self.open.setdefault(step, Counts()).add(counts)
        else:
            self.fail.learn(counts)
            if self.passing:
                self.passing.learn(counts)

    def settle(self) -> None:
        """Close the blocks in which both versions are."""
        for step, block in list(self.open.items()):
            if block.comparable:
                self.fail.observe(block)
                if self.passing:
                    self.passing.observe(block)
                self.closed.setdefault(step, Counts()).add(block)
                del self.open[step]

    @property
    def count(self) -> int:
        """Observations of the new version."""
        return sum(c.count for c in (*self.closed.values(), *self.open.values()))

    @property
    def stable_count(self) -> int:
        """Observations of the stable version at the same steps."""
        return sum(c.stable_count for c in (*self.closed.values(), *self.open.values()))

    @property
    def difference(self) -> float:
        """Difference of the rates over the steps, weighted as Mantel & Haenszel do."""
        total = weighted = 0.0
        for block in self.closed.values():
            weight = block.count * block.stable_count / (block.count + block.stable_count)
            total += weight
            weighted += weight * block.difference
        return weighted / total if total else 0.0


@dataclass
class ClassShift:
    """Whether any class is chosen more or less often than by the stable version, by more than a margin.

    Each class has two processes, and a share of the whole that depends only on when it was first seen; it
    takes part from the block after that one. The weighted mean of e-processes is an e-process.
    """

    margin: float
    more: dict[str, NonInferiority] = field(default_factory=dict)
    less: dict[str, NonInferiority] = field(default_factory=dict)
    open: dict[int, dict[str, list[int]]] = field(default_factory=dict)  # step → class → [stable, new]
    closed: dict[int, dict[str, list[int]]] = field(default_factory=dict)

    def take(self, step: int, stable: dict[str, int], new: dict[str, int]) -> None:
        """Take rows of a step by class chosen."""
        block = self.open.setdefault(step, {})
        for position, counts in enumerate((stable, new)):
            for name, count in counts.items():
                block.setdefault(name, [0, 0])[position] += count

    def settle(self) -> None:
        """Close the blocks in which both versions are."""
        for step, block in list(self.open.items()):
            stable_count, count = _sums(block)
            if not (stable_count and count):
                continue
            for name in self.more:
                stable_hits, hits = block.get(name, [0, 0])
                self.more[name].observe(Counts(stable_count, stable_hits, count, hits))
                # Fewer of the class are more of all others: the same test with the versions' rates mirrored.
                mirrored = Counts(stable_count, stable_count - stable_hits, count, count - hits)
                self.less[name].observe(mirrored)
            self._meet(block)
            total = self.closed.setdefault(step, {})
            for name, (stable_hits, hits) in block.items():
                known = total.setdefault(name, [0, 0])
                known[0] += stable_hits
                known[1] += hits
            del self.open[step]

    def _meet(self, block: dict[str, list[int]]) -> None:
        for name in sorted(block, key=lambda name: -sum(block[name])):
            if name not in self.more:
                self.more[name] = NonInferiority(self.margin, 0.1)
                self.less[name] = NonInferiority(self.margin, 0.9)

    @property
    def log_e(self) -> float:
        """Logarithm of the e-value."""
        logs = [log_mean_exp([self.more[name].log_e, self.less[name].log_e]) for name in self.more]
        if not logs:
            return 0.0
        total = 1 - 1 / (len(logs) + 1)  # of the shares 1 / (i (i + 1)) that are given; the rest stays at 1
        shares = [1 / (place * (place + 1)) for place in range(1, len(logs) + 1)]
        return _log_weighted([*logs, 0.0], [*shares, 1 - total])

    @property
    def counts(self) -> tuple[int, int]:
        """Rows of the stable and of the new version."""
        found = [_sums(block) for part in (self.closed, self.open) for block in part.values()]
        return sum(stable for stable, _ in found), sum(new for _, new in found)

    @property
    def largest(self) -> tuple[str, float]:
        """The class with the largest difference of its shares, and that difference."""
        best = ("", 0.0)
        for name in self.more:
            counts = Comparison(NonInferiority(0.0, 0.1))
            for step, block in self.closed.items():
                stable_count, count = _sums(block)
                hits = block.get(name, [0, 0])
                counts.closed[step] = Counts(stable_count, hits[0], count, hits[1])
            if abs(counts.difference) > abs(best[1]):
                best = (name, counts.difference)
        return best


@dataclass
class Slowness:
    """Whether more requests are slower than what 95 of 100 of the stable version's were, by a margin.

    The bound is the bucket's nearest to that quantile of what the stable version did before the block.
    """

    margin: float
    bets: Bets
    known: dict[float, int] = field(default_factory=dict)
    open: dict[int, list[dict[float, int]]] = field(default_factory=dict)  # step → [stable, new]
    over: Strata = field(default_factory=dict)

    @classmethod
    def of(cls, margin: float) -> "Slowness":
        """Return one without evidence."""
        return cls(margin, Bets(1 + margin))

    def take(self, step: int, stable: dict[float, int], new: dict[float, int]) -> None:
        """Take requests of a step by the bucket of their latency."""
        for known, counts in zip(self.open.setdefault(step, [{}, {}]), (stable, new), strict=True):
            for bound, count in counts.items():
                known[bound] = known.get(bound, 0) + count

    def settle(self) -> None:
        """Close the blocks that have enough of both versions."""
        for step, (stable, new) in list(self.open.items()):
            if sum(new.values()) < _BLOCK_REQUESTS or not sum(stable.values()):
                continue
            bound = self.bound
            if bound is not None:
                block = Counts(
                    sum(stable.values()), _above(stable, bound), sum(new.values()), _above(new, bound)
                )
                self.bets.observe(
                    block.hits / block.count - block.stable_hits / block.stable_count - self.margin
                )
                self.over.setdefault(step, Counts()).add(block)
            for upper, count in stable.items():
                self.known[upper] = self.known.get(upper, 0) + count
            del self.open[step]

    @property
    def bound(self) -> float | None:
        """Milliseconds that 95 of 100 requests of the stable version took at most; None when unknown."""
        total = sum(self.known.values())
        if total < _KNOWN_REQUESTS:
            return None
        reached = 0
        for upper in sorted(self.known):
            reached += self.known[upper]
            if reached >= LATENCY_QUANTILE * total:
                return None if math.isinf(upper) else upper
        return None

    @property
    def comparison(self) -> Comparison:
        """The requests above their bounds, as counts."""
        return Comparison(NonInferiority(self.margin, 0.1), closed=self.over)


def _slower(stable: dict[float, int], new: dict[float, int], bound: float) -> Counts:
    return Counts(sum(stable.values()), _above(stable, bound), sum(new.values()), _above(new, bound))


def _above(counts: dict[float, int], bound: float) -> int:
    return sum(count for upper, count in counts.items() if upper > bound)


def _sums(block: dict[str, list[int]]) -> tuple[int, int]:
    return sum(stable for stable, _ in block.values()), sum(new for _, new in block.values())


def _log_weighted(logs: list[float], shares: list[float]) -> float:
    largest = max(logs)
    return largest + math.log(sum(s * math.exp(v - largest) for v, s in zip(logs, shares, strict=True)))
