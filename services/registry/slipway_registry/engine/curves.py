"""Curves as data: each class against the rest, and all classes together as the mean of theirs.

Together means vertical averaging, T. Fawcett, "An introduction to ROC analysis" (2006), section 8.2: the mean
of the classes' curves at 200 places of the x-axis.
"""

import numpy as np

from slipway_registry.domain.evaluations import Curve
from slipway_registry.engine.scores import Bins, Floats, Ranked

MAX_POINTS = 200
MAX_CURVES = 50  # classes with a curve of their own; those with the smallest area when there are more


def curves(classes: tuple[str, ...], ranks: list[tuple[int, Ranked]], calibration: Bins) -> tuple[Curve, ...]:
    """Return the ROC and precision-recall curves, together first, and the calibration."""
    found = []
    if ranks:
        found += [
            _mean_roc([ranked for _, ranked in ranks]),
            _mean_precision([ranked for _, ranked in ranks]),
        ]
    for index, ranked in sorted(ranks, key=lambda entry: entry[1].auroc)[:MAX_CURVES]:
        found.append(_roc(classes[index], ranked))
        found.append(_precision_recall(classes[index], ranked))
    return (*sorted(found, key=lambda curve: (curve.kind, curve.label)), _calibration(calibration))


def _roc(label: str, ranked: Ranked) -> Curve:
    x, y = np.r_[0.0, ranked.fall_out], np.r_[0.0, ranked.recall]
    return _curve("roc", label, x, y)


def _precision_recall(label: str, ranked: Ranked) -> Curve:
    whole = int(np.argmax(ranked.recall >= 1.0)) + 1  # thresholds behind full recall only lose precision
    x = np.r_[0.0, ranked.recall[:whole]]
    y = np.r_[ranked.precision[0], ranked.precision[:whole]]
    return _curve("precision_recall", label, x, y)


def _mean_roc(ranks: list[Ranked]) -> Curve:
    grid = np.linspace(0.0, 1.0, MAX_POINTS - 1)
    rows = [np.interp(grid, np.r_[0.0, ranked.fall_out], np.r_[0.0, ranked.recall]) for ranked in ranks]
    mean = np.mean(rows, axis=0)
    return _curve("roc", "", np.r_[0.0, grid], np.r_[0.0, mean])


def _mean_precision(ranks: list[Ranked]) -> Curve:
    grid = np.linspace(0.0, 1.0, MAX_POINTS)
    rows = [ranked.precision[np.searchsorted(ranked.recall, grid, side="left")] for ranked in ranks]
    return _curve("precision_recall", "", grid, np.mean(rows, axis=0))


def _calibration(found: Bins) -> Curve:
    counts = tuple(int(count) for count in found.counts)
    return Curve("calibration", "", _plain(found.confidence), _plain(found.accuracy), counts)


def _curve(kind: str, label: str, x: Floats, y: Floats) -> Curve:
    """Return the curve with at most 200 of its points, spread evenly over its length."""
    if len(x) > MAX_POINTS:
        length = np.r_[0.0, np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))]
        places = np.linspace(0.0, length[-1], MAX_POINTS)
        kept = np.unique(np.clip(np.searchsorted(length, places, side="left"), 0, len(x) - 1))
        x, y = x[kept], y[kept]
    return Curve(kind, label, _plain(x), _plain(y))


def _plain(values: Floats) -> tuple[float, ...]:
    return tuple(round(float(value), 6) for value in values)
