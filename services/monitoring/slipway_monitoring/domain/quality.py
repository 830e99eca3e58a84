"""How well versions do, with the interval that the number of labels allows."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

Z95 = 1.959963984540054  # 97.5 % quantile of the normal distribution


@dataclass(frozen=True)
class VersionQuality:
    """Live rows of one version in a window, and what is known of their truth."""

    model_version: str
    row_count: int
    traffic_share: float
    labelled_count: int
    correct_count: int
    class_counts: Mapping[str, int]
    mean_confidence: float
    label_delay_p50_s: float | None
    label_delay_p95_s: float | None

    @property
    def accuracy(self) -> float | None:
        """Share of labelled rows that are right; None without labels."""
        return self.correct_count / self.labelled_count if self.labelled_count else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the accuracy; None without labels."""
        return wilson(self.correct_count, self.labelled_count) if self.labelled_count else None


def wilson(successes: int, trials: int, z: float = Z95) -> tuple[float, float]:
    """Return the score interval of a proportion (E. B. Wilson, JASA 22, 1927)."""
    share, square = successes / trials, z * z
    middle = (share + square / (2 * trials)) / (1 + square / trials)
    half = (
        z * math.sqrt(share * (1 - share) / trials + square / (4 * trials * trials)) / (1 + square / trials)
    )
    return max(middle - half, 0.0), min(middle + half, 1.0)
