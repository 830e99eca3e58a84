"""Everything that a rollout has seen: one account per gate, fed at each look."""

import math
from dataclasses import dataclass, field

from slipway_rollout.domain import Gates, Rows, Traffic
from slipway_rollout.engine.betting import Bets, Rate
from slipway_rollout.engine.comparison import ClassShift, Comparison, Slowness
from slipway_rollout.engine.two_by_two import Counts

P99 = 0.01


@dataclass
class Evidence:
    """Accounts of the gates; what is switched off has none.

    `requests` and `rows` count what the new version answered, by step. `pass_peaks` keeps the largest e-value
    per gate for a loss below the tolerance: what was excluded once stays so, as in a confidence sequence.
    """

    errors: Comparison | None = None
    latency: Slowness | None = None
    shift: ClassShift | None = None
    quality: Comparison | None = None
    error_rate: Bets | None = None
    slow_rate: Bets | None = None
    wrong_rate: Rate | None = None
    requests: dict[int, int] = field(default_factory=dict)
    rows: dict[int, int] = field(default_factory=dict)
    server_errors: int = 0
    slow: Counts = field(default_factory=Counts)
    labelled: Counts = field(default_factory=Counts)
    pairs: int = 0
    disagreements: int = 0
    exposed: int = 0
    pass_peaks: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, gates: Gates) -> "Evidence":
        """Return accounts without evidence for the gates that are on."""

        def binary(gate_margin: float, tolerance: float, prior_mean: float) -> Comparison:
            return Comparison.of(margin=gate_margin, tolerance=tolerance, prior_mean=prior_mean)

        errors, latency, shift, quality = gates.errors, gates.latency, gates.shift, gates.quality
        return cls(
            errors=None if errors.off else binary(errors.margin, errors.tolerance, 0.02),
            latency=None if latency.off else Slowness.of(latency.margin),
            shift=None if shift.off else ClassShift(shift.margin),
            quality=None if quality.off else binary(quality.margin, quality.tolerance, 0.1),
            error_rate=Bets(gates.max_error_rate) if gates.max_error_rate < 1 else None,
            slow_rate=Bets(P99) if gates.max_p99_ms else None,
            wrong_rate=Rate(1 - gates.min_accuracy) if gates.min_accuracy else None,
        )

    def take_traffic(self, step: int, stable: Traffic, new: Traffic, gates: Gates) -> None:
        """Take what the mesh counted at a step since the look before."""
        self.requests[step] = self.requests.get(step, 0) + new.count
        if self.errors:
            self.errors.take(step, Counts(stable.count, stable.errors, new.count, new.errors))
        if self.latency:
            self.latency.take(step, dict(stable.by_latency), dict(new.by_latency))
        self.server_errors += new.server_errors
        if self.error_rate and new.count:
            self.error_rate.observe(new.server_errors / new.count - gates.max_error_rate)
        timed = sum(new.by_latency.values())
        if self.slow_rate and timed:
            slow = sum(count for upper, count in new.by_latency.items() if _slower(upper, gates.max_p99_ms))
            self.slow.add(Counts(0, 0, timed, slow))
            self.slow_rate.observe(slow / timed - P99)

    def take_rows(self, step: int, weight: int, stable: Rows, new: Rows) -> None:
        """Take predicted rows of a step that arrived since the look before, labels of earlier ones included.

        At weight 0 the new version answers nobody, so nobody says whether it was right.
        """
        self.rows[step] = self.rows.get(step, 0) + new.count
        if weight:
            self.exposed += new.count
        if self.shift:
            self.shift.take(step, dict(stable.by_class), dict(new.by_class))
        wrong = new.labelled - new.correct
        counts = Counts(stable.labelled, stable.labelled - stable.correct, new.labelled, wrong)
        if self.quality:
            self.quality.take(step, counts, compared=0 < weight < 100 or new.labelled > 0)
        self.labelled.add(counts)
        if self.wrong_rate and new.labelled:
            self.wrong_rate.observe(wrong, new.labelled)

    def take_pairs(self, pairs: int, disagreements: int) -> None:
        """Take mirrored requests whose live twin came, too."""
        self.pairs += pairs
        self.disagreements += disagreements

    def settle(self) -> None:
        """Close the blocks of this look."""
        for account in (self.errors, self.latency, self.shift, self.quality):
            if account is not None:
                account.settle()
        for name, comparison in (("errors", self.errors), ("quality", self.quality)):
            if comparison is not None and comparison.passing is not None:
                e_value = math.exp(min(comparison.passing.log_e, 700))
                self.pass_peaks[name] = max(self.pass_peaks.get(name, 1.0), e_value)


def _slower(upper_ms: float, most_ms: float) -> bool:
    """Return whether all of a bucket is above the limit, or as much as the buckets can tell."""
    return upper_ms > most_ms
