"""Measured points of a learning curve, and the curve in the terminal."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slipway.cli.labeling.schema import refused
from slipway.cli.plot import plot
from slipway.labeling.v1 import labeling_pb2 as lab

_STEPS = 120


def read_points(texts: Sequence[str], file: Path | None) -> list[lab.LearningPoint]:
    """Return points of `LABELS:ACCURACY:EXAMPLES`, and of a JSONL file.

    Raises:
        SlipwayError: One is written otherwise; the text names it.
    """
    return [*map(_point, texts), *(_points_in(file) if file else [])]


def _point(text: str) -> lab.LearningPoint:
    try:
        labels, accuracy, examples = text.split(":")
        return lab.LearningPoint(
            label_count=int(labels), accuracy=float(accuracy), example_count=int(examples)
        )
    except ValueError as error:
        raise refused(
            f"{text!r} is no point; write LABELS:ACCURACY:EXAMPLES, such as 100:0.81:2000"
        ) from error


def _points_in(file: Path) -> list[lab.LearningPoint]:
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise refused(f"{file} cannot be read ({error}); name a JSONL file") from error
    points = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            points.append(lab.LearningPoint(**row))
        except (ValueError, TypeError) as error:
            text = f"{file}, line {number}: write label_count, accuracy and example_count ({error})"
            raise refused(text) from error
    return points


def curve_lines(found: Any, measured: Sequence[Any], ahead: int) -> list[str]:
    """Return a plot of the fitted accuracy from the fewest labels to those looked ahead to."""
    low = min(point.label_count for point in measured)
    xs = [low + (ahead - low) * step / _STEPS for step in range(_STEPS + 1)] if ahead > low else [low]
    return plot(xs, [fitted(found, x) for x in xs])


def fitted(found: Any, labels: float) -> float:
    """Return the accuracy that a curve expects with so many labels."""
    return float(1.0 - found.floor - found.scale * labels**-found.rate)
