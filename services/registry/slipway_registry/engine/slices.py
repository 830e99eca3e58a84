"""An evaluation's report: figures, curves, and slices by label and by attribute beside the champion."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from slipway_registry.domain.evaluations import (
    BY_ATTRIBUTE,
    BY_LABEL,
    MAX_SLICES_PER_ATTRIBUTE,
    EvaluationHeader,
    Report,
    Slice,
)
from slipway_registry.engine import paired, scores
from slipway_registry.engine.curves import curves
from slipway_registry.engine.examples import Rows

_Z95 = 1.959963984540054


def report(header: EvaluationHeader, rows: Rows) -> Report:
    """Return what the rows say of the version, and of the champion beside it."""
    probabilities = scores.normalised(rows.probabilities)
    predicted = probabilities.argmax(axis=1)
    correct = predicted == rows.labels
    champion = _champion(header, rows)
    theirs = None if champion is None else champion.argmax(axis=1) == rows.labels
    groups = group_numbers(rows.groups)
    ranks = list(scores.ranked_classes(probabilities, rows.labels))
    calibration = scores.bins(probabilities.max(axis=1), correct)
    matrix = scores.confusion(rows.labels, predicted, len(header.classes))
    return Report(
        example_count=len(rows.keys),
        metrics=scores.figures(probabilities, rows.labels),
        champion_metrics={} if champion is None else scores.figures(champion, rows.labels),
        confusion_matrix=tuple(int(count) for count in matrix.ravel()),
        overall=_slice("", np.arange(len(rows.keys)), correct, theirs, groups),
        slices=tuple(
            _slice(name, members, correct, theirs, groups) for name, members in _members(header, rows)
        ),
        curves=curves(header.classes, ranks, calibration),
    )


def wilson(hits: int, count: int, z: float = _Z95) -> tuple[float, float]:
    """Return the interval of a share by E. B. Wilson (1927); it keeps its level near 0 and 1 too."""
    share, square = hits / count, z * z
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = z / (1 + square / count) * np.sqrt(share * (1 - share) / count + square / (4 * count * count))
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def group_numbers(groups: tuple[str, ...]) -> npt.NDArray[np.int64]:
    """Return a number for each row's group; a row without a group is one of its own."""
    known: dict[str, int] = {}
    total = len(groups)
    numbers = [
        known.setdefault(group, len(known)) if group else total + row for row, group in enumerate(groups)
    ]
    return np.array(numbers, np.int64)


def _champion(header: EvaluationHeader, rows: Rows) -> scores.Floats | None:
    """Return the champion's probabilities in the version's order of classes, by name.

    A class that the champion has not gets 0; one that only it has stands behind the version's, so that
    answering it is wrong.
    """
    if rows.champion_probabilities is None:
        return None
    union = list(dict.fromkeys((*header.classes, *header.champion_classes)))
    aligned = np.zeros((len(rows.keys), len(union)), np.float64)
    places = [union.index(name) for name in header.champion_classes]
    aligned[:, places] = scores.normalised(rows.champion_probabilities)
    return aligned


def _members(header: EvaluationHeader, rows: Rows) -> Iterator[tuple[str, npt.NDArray[np.int64]]]:
    for index in np.unique(rows.labels):
        yield f"{BY_LABEL}={header.classes[index]}", np.flatnonzero(rows.labels == index)
    by_value: dict[str, dict[str, list[int]]] = {}
    for row, attributes in enumerate(rows.attributes):
        for name, value in attributes.items():
            by_value.setdefault(name, {}).setdefault(value, []).append(row)
    for name in sorted(by_value):
        if len(by_value[name]) > MAX_SLICES_PER_ATTRIBUTE:
            continue  # a number or a key of its own, not a kind of example
        for value in sorted(by_value[name]):
            yield f"{BY_ATTRIBUTE}{name}={value}", np.array(by_value[name][value], np.int64)


def _slice(
    name: str,
    members: npt.NDArray[np.int64],
    correct: scores.Bools,
    champion: scores.Bools | None,
    groups: npt.NDArray[np.int64],
) -> Slice:
    mine = correct[members]
    low, high = wilson(int(mine.sum()), len(members))
    pairs = None if champion is None else paired.pair(mine, champion[members], groups[members])
    return Slice(
        name=name,
        example_count=len(members),
        accuracy=float(mine.mean()),
        accuracy_low=low,
        accuracy_high=high,
        champion_accuracy=0.0 if champion is None else float(champion[members].mean()),
        pairs=pairs,
    )
