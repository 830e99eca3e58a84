"""Canaries in simulated time: made-up traffic, then evidence, verdicts and moves as in the worker."""

from dataclasses import dataclass, field, replace

import numpy as np
from slipway_rollout import domain
from slipway_rollout.domain import Gates, Rollout, RolloutState, Rows, Traffic
from slipway_rollout.engine.evidence import Evidence
from slipway_rollout.engine.judging import judge

BUCKETS = np.array([1, 2, 5, 10, 20, 50, 100, 250])
LOOK_S = 0.5


@dataclass(frozen=True)
class Behaviour:
    """How a version answers: shares of errors and of right rows, median milliseconds, chance of each class.

    `swapped` are two classes that it takes for each other.
    """

    error_rate: float = 0.01
    accuracy: float = 0.95
    median_ms: float = 4.0
    swapped: tuple[int, int] | None = None


@dataclass
class Canary:
    """One canary with its traffic; the load and the share of hard inputs move with time for both versions."""

    seed: int
    new: Behaviour = Behaviour()
    stable: Behaviour = Behaviour()
    gates: Gates = field(default_factory=Gates)
    requests_per_s: float = 200.0
    label_share: float = 1.0
    label_delay_s: float = 2.0
    classes: int = 10

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self.phase = self.random.uniform(0, 6)
        self.rollout = domain.begun(
            Rollout("e", "models/m/versions/2", "models/m/versions/1", gates=self.gates)
        )
        self.evidence = Evidence.of(self.gates)
        self.late: list[tuple[float, int, int, Rows, Rows]] = []
        self.now_s = 0.0
        self.since_s = 0.0

    def run(self, for_s: float = 600.0) -> Rollout:
        """Return the rollout as it stands when it has ended, or after a time."""
        self._enter()
        while self.rollout.active and self.now_s < for_s:
            self.now_s += LOOK_S
            self._arrive()
            self.evidence.settle()
            verdict = judge(self.rollout, self.evidence, self.now_s - self.since_s)
            self.rollout = domain.moved(self.rollout, verdict, self.now_s - self.since_s)
            if not self.rollout.settled:
                self._enter()
        return self.rollout

    @property
    def failed(self) -> bool:
        """Whether it was rolled back."""
        return self.rollout.state is RolloutState.FAILED

    @property
    def labels(self) -> int:
        """Labelled rows of the new version."""
        return self.evidence.labelled.count

    def _enter(self) -> None:
        self.rollout = replace(self.rollout, settled=True)
        self.since_s = self.now_s

    def _arrive(self) -> None:
        step = self.rollout.steps[self.rollout.step]
        swing = 1 + 0.5 * np.sin(self.now_s / 7 + self.phase)
        asked = int(self.random.poisson(self.requests_per_s * LOOK_S * swing))
        new = asked if step.weight == 0 else int(self.random.binomial(asked, step.weight / 100))
        stable = asked if step.weight == 0 else asked - new
        slow = float(np.exp(self.random.normal(0, 0.3)))  # all requests of one look are slow together
        self.evidence.take_traffic(
            self.rollout.step,
            self._traffic(self.stable, stable, swing, slow),
            self._traffic(self.new, new, swing, slow),
            self.gates,
        )
        rows = [self._rows(self.stable, stable, swing), self._rows(self.new, new, swing)]
        labelled = [self._labels(one, with_any=step.weight > 0 or one is rows[0]) for one in rows]
        self.evidence.take_rows(
            self.rollout.step, step.weight, *(replace(r, labelled=0, correct=0) for r in rows)
        )
        due = self.now_s + self.random.exponential(self.label_delay_s)
        self.late.append((due, self.rollout.step, step.weight, *labelled))
        for _, at, weight, *both in [one for one in self.late if one[0] <= self.now_s]:
            self.evidence.take_rows(at, weight, *both)
        self.late = [one for one in self.late if one[0] > self.now_s]

    def _traffic(self, version: Behaviour, count: int, swing: float, slow: float) -> Traffic:
        errors = int(self.random.binomial(count, min(version.error_rate * swing, 1)))
        times = self.random.lognormal(np.log(version.median_ms * slow), 0.6, count)
        found, counts = np.unique(np.searchsorted(BUCKETS, times), return_counts=True)
        uppers = [*BUCKETS.tolist(), float("inf")]
        return Traffic(count, errors, errors, {uppers[i]: int(n) for i, n in zip(found, counts, strict=True)})

    def _rows(self, version: Behaviour, count: int, swing: float) -> Rows:
        """Return rows of which each class is as likely; hard inputs come and go."""
        truth = self.random.integers(0, self.classes, count)
        right = self.random.random(count) < 1 - (1 - version.accuracy) * swing
        chosen = np.where(right, truth, self.random.integers(0, self.classes, count))
        if version.swapped:
            one, other = version.swapped
            chosen = np.where(chosen == one, other, np.where(chosen == other, one, chosen))
        names, counts = np.unique(chosen, return_counts=True)
        by_class = {f"c{name}": int(n) for name, n in zip(names, counts, strict=True)}
        return Rows(count, by_class, count, int((chosen == truth).sum()))

    def _labels(self, rows: Rows, *, with_any: bool) -> Rows:
        count = int(self.random.binomial(rows.labelled, self.label_share)) if with_any else 0
        correct = (
            int(self.random.hypergeometric(rows.correct, rows.labelled - rows.correct, count)) if count else 0
        )
        return Rows(0, {}, count, correct)
