"""The reference profile: what inputs and answers looked like when the model was made.

Monitoring compares live traffic with it, so bin edges are written beside the counts. Edges are quantiles:
each bin holds about as many examples, and a shift anywhere is seen.
"""

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

BINS = 128
EMBEDDING_ROWS = 256
# Engines differ in a float's last bits, and many answers are all but 1: finer than this is noise.
CONFIDENCE_DECIMALS = 4


def reference_profile(
    *,
    images: NDArray[np.uint8],
    probabilities: Floats,
    embedding: Floats,
    classes: Sequence[str],
    split: str,
) -> dict[str, Any]:
    """Return the profile as JSON. images (N, H, W, C), probabilities (N, K), embedding (N, D)."""
    predicted = np.bincount(probabilities.argmax(axis=1), minlength=len(classes))
    confidence = np.round(probabilities.max(axis=1).astype(np.float64), CONFIDENCE_DECIMALS)
    features = {name: _described(values) for name, values in image_features(images).items()}
    pixels = _statistics(images) | _histogram(images, np.linspace(0, 256, 33))
    return {
        "format": 2,
        "split": split,
        "example_count": len(images),
        "inputs": {"image": {"pixels": pixels, **features}},
        "predictions": {label: int(count) for label, count in zip(classes, predicted, strict=True)},
        "confidence": _described(confidence),
        "embedding": {
            "mean": embedding.mean(axis=0).astype(float).tolist(),
            "std": embedding.std(axis=0).astype(float).tolist(),
            "sample": _sample(embedding),
        },
    }


def image_features(images: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
    """Return brightness, contrast and sharpness (N,) of images (N, H, W, C).

    Brightness is the mean of all values, contrast their standard deviation, sharpness the mean absolute
    difference of neighbours, across and down. Sums are of integers, so that equal images give equal bits:
    monitoring computes the same of what it captures, and a test compares both.
    """
    values = images.astype(np.int64)
    count = max(values[0].size, 1) if len(values) else 1
    brightness = _sums(values) / count
    across, down = np.abs(np.diff(values, axis=2)), np.abs(np.diff(values, axis=1))
    neighbours = max((across.size + down.size) // max(len(values), 1), 1)
    return {
        "brightness": brightness,
        "contrast": np.sqrt(np.maximum(_sums(values * values) / count - brightness * brightness, 0.0)),
        "sharpness": (_sums(across) + _sums(down)) / neighbours,
    }


def _sums(values: NDArray[np.int64]) -> NDArray[np.float64]:
    return values.sum(axis=(1, 2, 3)).astype(np.float64)


def _statistics(values: NDArray[Any]) -> dict[str, float]:
    return {
        "mean": float(values.mean()),
        "std": float(values.std()),
        "min": float(values.min()),
        "max": float(values.max()),
    }


def _described(values: NDArray[np.float64]) -> dict[str, Any]:
    """Statistics, and a histogram whose inner edges are values that are there, and one just above all."""
    inner = np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1], method="nearest")
    above = np.nextafter(values.max(), np.inf)
    edges = np.concatenate([[values.min()], np.unique([*inner, above]), [above]])
    return _statistics(values) | _histogram(values, edges)


def _histogram(values: NDArray[Any], edges: NDArray[np.float64]) -> dict[str, list[float] | list[int]]:
    """A bin holds its lower edge, not its upper one; what lies outside counts in the first or last bin."""
    below = np.searchsorted(np.sort(values, axis=None), edges[1:-1], side="left")
    counts = np.diff(below, prepend=0, append=values.size)
    return {"edges": edges.astype(float).tolist(), "counts": counts.tolist()}


def _sample(embedding: Floats) -> dict[str, Any]:
    """Rows evenly over the split, as little-endian float32 in base64."""
    places = np.unique(np.linspace(0, len(embedding) - 1, EMBEDDING_ROWS).round().astype(int))
    rows = np.ascontiguousarray(embedding[places], dtype="<f4")
    return {"shape": list(rows.shape), "data": base64.b64encode(rows.tobytes()).decode()}
