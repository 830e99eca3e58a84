"""What a model scores on held-out examples: figures, confusion matrix, per-class table, baseline.

The keys are those of `slipway.registry.v1.Evaluation`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]


def evaluation(
    *,
    split: str,
    classes: Sequence[str],
    targets: Counts,
    predicted: Counts,
    metrics: Mapping[str, float],
    baseline: Mapping[str, float],
) -> dict[str, Any]:
    """Return the evaluation as JSON; targets and predicted are class indices (N,)."""
    matrix = confusion_matrix(len(classes), targets, predicted)
    return {
        "split": split,
        "example_count": len(targets),
        "metrics": dict(metrics),
        "classes": list(classes),
        "confusion_matrix": matrix.flatten().tolist(),
        "per_class": [_class_report(label, matrix, index) for index, label in enumerate(classes)],
        "baseline": dict(baseline),
    }


def confusion_matrix(class_count: int, targets: Counts, predicted: Counts) -> Counts:
    """Count true class (rows) by predicted class (columns): (C, C)."""
    flat = np.bincount(targets * class_count + predicted, minlength=class_count * class_count)
    return flat.reshape(class_count, class_count).astype(np.int64)


def _class_report(label: str, matrix: Counts, index: int) -> dict[str, Any]:
    hits, support, called = int(matrix[index, index]), int(matrix[index].sum()), int(matrix[:, index].sum())
    precision = hits / called if called else 0.0
    recall = hits / support if support else 0.0
    f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
    return {"label": label, "support": support, "precision": precision, "recall": recall, "f1": f1}


def majority_baseline(class_count: int, train: Counts, held_out: Counts) -> dict[str, float]:
    """Return what always answering the train split's most frequent class scores.

    `loss` is the cross entropy of its class frequencies (each counted once more, so none is 0).
    """
    counts = np.bincount(train, minlength=class_count)
    share = (counts + 1) / (counts.sum() + class_count)
    accuracy = float((held_out == counts.argmax()).mean())
    return {"accuracy": accuracy, "loss": float(-np.log(share[held_out]).mean())}
