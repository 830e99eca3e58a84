"""Evaluations of two models whose answers are chosen, example by example."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from slipway_registry.domain.evaluations import EvaluationHeader, Example
from slipway_registry.engine.examples import Rows, gather

COMMIT = "datasets/flowers/commits/" + "ab" * 32
CLASSES = ("rose", "tulip", "daisy")

HEADER = EvaluationHeader(
    parent="models/m/versions/1",
    evaluation_id="e",
    champion_version="",
    dataset_commit=COMMIT,
    split="test",
    classes=CLASSES,
    champion_classes=(),
    latency_ms=(),
    champion_latency_ms=(),
    latency_batch_rows=0,
    golden_max_abs_diff=0.0,
    golden_count=0,
)
BESIDE = replace(
    HEADER,
    parent="models/m/versions/2",
    champion_version="models/m/versions/1",
    champion_classes=CLASSES,
    latency_ms=(1.0, 1.1, 1.1, 1.1, 1.2),
    champion_latency_ms=(1.0,) * 5,
    golden_max_abs_diff=1e-6,
    golden_count=8,
)


def answers(labels: npt.NDArray[Any], right: npt.NDArray[np.bool_], classes: int) -> npt.NDArray[np.float32]:
    """Return probabilities (N, C) that are sure of the label where `right`, else of the next class."""
    said = np.where(right, labels, (labels + 1) % classes)
    probabilities = np.full((len(labels), classes), 0.1 / (classes - 1), np.float32)
    probabilities[np.arange(len(labels)), said] = 0.9
    return probabilities


def examples(
    labels: npt.NDArray[Any],
    mine: npt.NDArray[np.bool_],
    champion: npt.NDArray[np.bool_] | None = None,
    classes: Sequence[str] = CLASSES,
    groups: Sequence[str] = (),
    attributes: Sequence[dict[str, str]] = (),
) -> Iterator[Example]:
    """Yield examples of which the version, and the champion when there is one, are right where said."""
    own = answers(labels, mine, len(classes))
    theirs = None if champion is None else answers(labels, champion, len(classes))
    for row, label in enumerate(labels):
        yield Example(
            key=f"{row:06}.png",
            label=classes[label],
            probabilities=own[row].tolist(),
            champion_probabilities=() if theirs is None else theirs[row].tolist(),
            attributes=attributes[row] if attributes else {},
            group=groups[row] if groups else "",
        )


def rows(header: EvaluationHeader, *args: Any, **kwargs: Any) -> Rows:
    """Return the same, gathered."""
    return gather(header, examples(*args, classes=header.classes, **kwargs))
