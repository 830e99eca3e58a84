"""Tests of a mean by betting, for observations that hang together within a look.

Capital that starts at 1 and is multiplied by 1 + bet * excess at each look is an e-process against "the
excess is at most 0 on average, given the past" (Waudby-Smith & Ramdas 2024, "Estimating means of bounded
random variables by betting"), whatever the observations of one look have to do with each other: requests
behind one slow one are slow together, errors come in bursts. The mean over several bets is an e-process, too.
"""

import math
from dataclasses import dataclass, field

from slipway_rollout.engine.two_by_two import log_mean_exp

_SHARES = (0.05, 0.2, 0.5, 0.95)  # of the largest bet that can never lose all


@dataclass
class Bets:
    """E-process against "the excess is at most 0 on average".

    `worst` is the smallest excess that there can be, as a positive number.
    """

    worst: float
    logs: list[float] = field(default_factory=lambda: [0.0] * len(_SHARES))

    @property
    def log_e(self) -> float:
        """Logarithm of the e-value."""
        return log_mean_exp(self.logs)

    def observe(self, excess: float) -> None:
        """Multiply by one look's gains and losses."""
        bets = (share / self.worst for share in _SHARES)
        self.logs = [log + math.log1p(bet * excess) for log, bet in zip(self.logs, bets, strict=True)]


@dataclass
class Rate:
    """E-process against "independent hits have a rate of at most `most`", by likelihood ratios."""

    most: float
    logs: list[float] = field(default_factory=list)

    @property
    def log_e(self) -> float:
        """Logarithm of the e-value."""
        return log_mean_exp(self.logs) if self.logs else 0.0

    def observe(self, hits: int, count: int) -> None:
        """Multiply by the likelihood ratio of these observations."""
        alternatives = [self.most + (1 - self.most) * share for share in _SHARES]
        self.logs = self.logs or [0.0] * len(alternatives)
        null = (math.log(self.most), math.log1p(-self.most))
        self.logs = [
            log + hits * (math.log(rate) - null[0]) + (count - hits) * (math.log1p(-rate) - null[1])
            for log, rate in zip(self.logs, alternatives, strict=True)
        ]
