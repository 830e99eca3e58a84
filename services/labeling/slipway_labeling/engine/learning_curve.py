"""Is more labelling worth it: the learning curve, what it promises, and how sure that is."""

from dataclasses import dataclass
from enum import Enum

import numpy as np

from slipway_labeling.engine.answers import FloatArray, IntArray

# The exponents that are tried; real tasks lie between 0.07 and 0.5 (Hestness et al., arXiv:1712.00409).
_EXPONENTS: FloatArray = np.geomspace(0.05, 2.0, 60)


class BadCurve(ValueError):
    """Points of a learning curve that cannot be used; the message names the value and the remedy."""


class TooFewPoints(BadCurve):
    """A curve of three unknowns was asked from fewer than three sizes."""


class Verdict(Enum):
    """Whether the labels proposed are worth it."""

    WORTH = "worth"
    NOT_WORTH = "not worth"
    CANNOT_SAY = "cannot say"


@dataclass(frozen=True)
class LearningCurve:
    """error = floor + scale * n^-exponent, fitted to accuracies, and fitted again to bootstrap samples.

    `floor`, `scale` and `exponent` are (1 + B,): the first is the fit itself. `dispersion` is how much more
    the points scatter than their test counts explain (chi-square per degree of freedom, at least 1); it
    widens the intervals. `labelled` is the largest size that was measured.
    """

    floor: FloatArray
    scale: FloatArray
    exponent: FloatArray
    dispersion: float
    labelled: int

    def accuracy(self, labelled: int, level: float = 0.95) -> tuple[float, float, float]:
        """Return the accuracy expected at this many labelled examples, and its interval."""
        return _with_interval(1 - self._errors(labelled), level)

    def gain(self, labelled: int, level: float = 0.95) -> tuple[float, float, float]:
        """Return the gain in accuracy over the largest size measured, and its interval."""
        return _with_interval(self._errors(self.labelled) - self._errors(labelled), level)

    def worth(self, labelled: int, least_gain: float, level: float = 0.95) -> Verdict:
        """Judge labelling up to `labelled` examples: does the gain reach `least_gain` (0.01: one point)?

        Worth it when the whole interval of the gain does, not worth it when none of it does.
        Raises BadCurve for a size that is not above the largest measured.
        """
        if labelled <= self.labelled:
            raise BadCurve(f"labelled is {labelled}; give more than the {self.labelled} of the last point")
        _, lower, upper = self.gain(labelled, level)
        if lower >= least_gain:
            return Verdict.WORTH
        return Verdict.NOT_WORTH if upper < least_gain else Verdict.CANNOT_SAY

    def _errors(self, labelled: int) -> FloatArray:
        return self.floor + self.scale * float(labelled) ** -self.exponent


def fit(
    labelled: IntArray, accuracy: FloatArray, tested: IntArray, *, samples: int = 1000, seed: int = 0
) -> LearningCurve:
    """Fit an inverse power law (Cortes et al., NIPS 1993; for labelling: Figueroa et al., BMC MIDM 2012).

    Points are `labelled` (P,) examples, the `accuracy` (P,) in [0, 1] and the examples `tested` (P,) it was
    measured on; each weighs by its binomial variance. The interval is by parametric bootstrap: accuracies are
    drawn anew about the fit and fitted again. Floor and scale are never negative: more labels never hurt.
    Raises TooFewPoints for fewer than three sizes, BadCurve for values outside their ranges.
    """
    _check(labelled, accuracy, tested)
    # As if one more example of each outcome had been seen: no point is beyond doubt (Agresti & Coull 1998).
    smoothed = (accuracy * tested + 1) / (tested + 2)
    variance = smoothed * (1 - smoothed) / tested
    sizes = labelled.astype(np.float64)
    errors = (1 - accuracy)[None, :]
    floor, scale, exponent = _least_squares(sizes, errors, variance)
    expected = floor + scale * sizes**-exponent
    freedom = len(np.unique(labelled)) - 3
    misfit = float(((errors[0] - expected) ** 2 / variance).sum())
    dispersion = max(1.0, misfit / freedom) if freedom else 1.0
    noise = np.random.default_rng(seed).normal(size=(samples, sizes.size))
    drawn = np.clip(expected + noise * np.sqrt(dispersion * variance), 0, 1)
    again = _least_squares(sizes, drawn, variance)
    return LearningCurve(
        floor=np.append(floor, again[0]),
        scale=np.append(scale, again[1]),
        exponent=np.append(exponent, again[2]),
        dispersion=dispersion,
        labelled=int(labelled.max()),
    )


def _check(labelled: IntArray, accuracy: FloatArray, tested: IntArray) -> None:
    if not labelled.shape == accuracy.shape == tested.shape == (labelled.size,):
        shapes = f"{labelled.shape}, {accuracy.shape} and {tested.shape}"
        raise BadCurve(f"labelled, accuracy and tested have the shapes {shapes}; give one of each per point")
    sizes = np.unique(labelled).size
    if sizes < 3:
        raise TooFewPoints(f"the curve has {sizes} sizes; train on at least 3 different counts of labels")
    for name, values, fine, range_ in (
        ("labelled", labelled, labelled >= 1, "at least 1"),
        ("accuracy", accuracy, (accuracy >= 0) & (accuracy <= 1), "a share between 0 and 1"),
        ("tested", tested, tested >= 1, "at least 1"),
    ):
        if not fine.all():
            point = int(np.argmin(fine))
            raise BadCurve(f"{name} of point {point} is {values[point]}; give {range_}")


def _least_squares(
    sizes: FloatArray, errors: FloatArray, variance: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Fit each row of `errors` (B, P); returns floor, scale and exponent, (B,) each.

    For a given exponent the law is a line in n^-exponent, whose fit with floor, scale >= 0 is in closed form.
    """
    weight = 1 / variance
    best = np.full(len(errors), np.inf)
    floor, scale, exponent = np.zeros((3, len(errors)))
    # In units of the smallest size, so that no power underflows.
    for power in _EXPONENTS:
        falling = (sizes / sizes.min()) ** -power
        a, b = _line(falling, errors, weight)
        misfit = ((errors - a[:, None] - b[:, None] * falling) ** 2) @ weight
        better = misfit < best
        best = np.where(better, misfit, best)
        floor, exponent = np.where(better, a, floor), np.where(better, power, exponent)
        scale = np.where(better, b * sizes.min() ** power, scale)
    return floor, scale, exponent


def _line(x: FloatArray, y: FloatArray, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return intercept and slope (B,) of y (B, P) over x (P,), neither below 0."""
    total, mean_x, mean_y = weight.sum(), x @ weight / weight.sum(), y @ weight / weight.sum()
    spread = ((x - mean_x) ** 2) @ weight
    slope = (y - mean_y[:, None]) @ (weight * (x - mean_x)) / spread
    intercept = mean_y - slope * mean_x
    through_origin = y @ (weight * x) / (x**2 @ weight)
    flat = slope < 0
    low = ~flat & (intercept < 0)
    return (
        np.where(flat, y @ weight / total, np.where(low, 0, intercept)),
        np.where(flat, 0, np.where(low, through_origin, slope)),
    )


def _with_interval(values: FloatArray, level: float) -> tuple[float, float, float]:
    tail = (1 - level) / 2
    lower, upper = np.quantile(values[1:], [tail, 1 - tail])
    return float(values[0]), float(lower), float(upper)
