"""Rows of a window as the columns that are compared: answers, confidence, embedding, captured inputs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway_monitoring.domain import predictions
from slipway_monitoring.domain.drift import CONFIDENCE, INPUTS, PREDICTIONS
from slipway_monitoring.domain.events import Tensor
from slipway_monitoring.engine.histogram import Classes, Coded, Histogram
from slipway_monitoring.engine.images import image_features
from slipway_monitoring.engine.reference import Reference
from slipway_monitoring.engine.sample import VectorSample
from slipway_monitoring.engine.two_samples import kolmogorov_smirnov
from slipway_monitoring.engine.window import Window

CONFIDENCE_DECIMALS = 4  # as the profile is written: finer differences are those of engines
_BIASED_AT = 0.001


def window_of(rows: predictions.Window, classes: Sequence[str], reference: Reference) -> Window:
    """Return the sketches of rows.

    Args:
        rows: Of one version.
        classes: Their names, by index; a class without a name is called by its index.
        reference: Whose cuts are used.
    """
    return Window.of(reference, _columns(rows, classes), rows.embeddings, _keys(rows))


def reference_of(rows: predictions.Window, classes: Sequence[str]) -> Reference:
    """Return the reference that rows of one version make: what `window_of` compares, as they had it.

    Args:
        rows: At least one.
        classes: Their names, by index; a class without a name is called by its index.
    """
    columns = _columns(rows, classes)
    embeddings = rows.embeddings
    return Reference(
        {n: Histogram.by_quantiles(v) for n, v in columns.items() if not isinstance(v, Coded)},
        {n: Classes.of(v) for n, v in columns.items() if isinstance(v, Coded)},
        VectorSample.of(embeddings, _keys(rows)) if embeddings is not None else None,
    )


def _keys(rows: predictions.Window) -> list[str]:
    return [f"{id}.{row}" for id, row in zip(rows.prediction_ids, rows.rows, strict=True)]


def _columns(rows: predictions.Window, classes: Sequence[str]) -> dict[str, NDArray[Any] | Coded]:
    confidences = np.round(rows.confidences, CONFIDENCE_DECIMALS)
    columns: dict[str, NDArray[Any] | Coded] = {
        PREDICTIONS: Coded(rows.classes, classes),
        CONFIDENCE: confidences,
    }
    captured = np.array([bool(inputs) for inputs in rows.inputs], dtype=np.bool_)
    if is_fair_sample(confidences, captured):
        columns |= _inputs(rows)
    return columns


def is_fair_sample(confidences: NDArray[np.float64], captured: NDArray[np.bool_]) -> bool:
    """Say whether captured rows can stand for all: those kept for their low confidence cannot.

    Rows kept by chance are as sure as the others, but for one window in a thousand, which is then compared
    without its inputs.
    """
    if captured.all() or not captured.any():
        return bool(captured.any())
    cut = Histogram.of(confidences)
    kept, left = cut.counted(confidences[captured]), cut.counted(confidences[~captured])
    return kolmogorov_smirnov(CONFIDENCE, kept, left).p_value > _BIASED_AT


def _inputs(rows: predictions.Window) -> dict[str, NDArray[Any]]:
    columns: dict[str, NDArray[Any]] = {}
    for name in sorted({name for inputs in rows.inputs for name in inputs}):
        tensors = [inputs[name] for inputs in rows.inputs if name in inputs]
        images = _images(tensors)
        if images is not None:
            columns |= {f"{INPUTS}{name}/{feature}": v for feature, v in image_features(images).items()}
    return columns


def _images(tensors: Sequence[Tensor]) -> NDArray[np.uint8] | None:
    """Return images (N, H, W, C); None when they are something else, or differ in shape."""
    shapes = {tensor.shape for tensor in tensors}
    if len(shapes) != 1 or any(tensor.datatype != "UINT8" for tensor in tensors):
        return None
    (shape,) = shapes
    if len(shape) != 3 or any(len(tensor.data) != np.prod(shape) for tensor in tensors):
        return None
    return np.frombuffer(b"".join(tensor.data for tensor in tensors), np.uint8).reshape(-1, *shape)
