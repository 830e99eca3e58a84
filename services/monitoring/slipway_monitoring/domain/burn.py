"""When an error budget burns too fast.

Multi-window, multi-burn-rate alerts of the Site Reliability Workbook (2018), chapter 5: a long window shows
that it matters, a short one that it goes on. With few calls a share says little, so it is the lower end of
the bad share's 95 % interval (E. Wilson, 1927) that must be too high.
"""

from collections.abc import Callable
from dataclasses import dataclass

from slipway_monitoring.domain.monitors import BurnRate, Objective, ObjectiveKind

MIN_COUNT = 10
ALWAYS_TOO_HIGH = 0.5  # of all bad: a budget of a tenth cannot burn 14.4 times as fast
_Z = 1.6448536269514722  # one-sided 95 %


@dataclass(frozen=True)
class Counted:
    """Calls or rows of a window, and how many of them were bad."""

    total: int
    bad: int

    def __add__(self, other: "Counted") -> "Counted":
        return Counted(self.total + other.total, self.bad + other.bad)

    @property
    def share(self) -> float:
        """Share of bad ones."""
        return self.bad / self.total if self.total else 0.0

    @property
    def surely(self) -> float:
        """Lower end of the bad share's interval."""
        if not self.total or not self.bad:
            return 0.0
        n, p, zz = self.total, self.share, _Z * _Z
        centre, spread = p + zz / (2 * n), _Z * (p * (1 - p) / n + zz / (4 * n * n)) ** 0.5
        return float((centre - spread) / (1 + zz / n))


@dataclass(frozen=True)
class Burning:
    """A burn rate that holds, with what both windows showed."""

    rate: BurnRate
    long: Counted
    short: Counted


def burning(objective: Objective, counted: Callable[[float], Counted]) -> Burning | None:
    """Return the first burn rate that holds, or None.

    Args:
        objective: What is asked for.
        counted: Returns the calls of the last so many seconds.
    """
    budget = 1 - objective.target
    for rate in objective.windows:
        long = counted(rate.long_window_s)
        too_high = min(rate.factor * budget, ALWAYS_TOO_HIGH)
        if long.total < MIN_COUNT or long.surely < too_high:
            continue
        short = counted(rate.short_window_s)
        if short.bad and short.share >= too_high:
            return Burning(rate, long, short)
    return None


def burn_summary(objective: Objective, found: Burning) -> str:
    """Say what burns, with the figures."""
    what = {
        ObjectiveKind.AVAILABILITY: "calls failed",
        ObjectiveKind.LATENCY: f"calls took longer than {objective.threshold_ms:g} ms",
        ObjectiveKind.QUALITY: "labelled rows are wrong",
    }[objective.kind]
    budget, long, short = 1 - objective.target, found.long, found.short
    return (
        f"{long.bad} of {long.total} {what} in {_length(found.rate.long_window_s)}, {short.bad} of "
        f"{short.total} "
        f"in {_length(found.rate.short_window_s)}: {long.share / budget:.1f} times the {budget:.2%} that a "
        f"target of {objective.target:g} allows (alert at {found.rate.factor:g})."
    )


def _length(seconds: float) -> str:
    for name, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {name}"
    return f"{seconds:g} s"
