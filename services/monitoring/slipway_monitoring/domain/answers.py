"""What rows were answered: class, confidence, probabilities and embedding, read off raw outputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway_monitoring.domain.events import Row, Tensor

PROBABILITIES, EMBEDDING = "probabilities", "embedding"
NO_CLASS = -1
_FLOATS: dict[str, np.dtype[Any]] = {
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}


@dataclass(frozen=True)
class Answers:
    """Columns over rows: class index (-1: none), confidence, and float32 little-endian bytes."""

    classes: Sequence[int]
    confidences: Sequence[float]
    probabilities: Sequence[bytes]
    embeddings: Sequence[bytes]


def answers_of(rows: Sequence[Row], scored: str = PROBABILITIES) -> Answers:
    """Return what the rows were answered.

    Args:
        rows: Of one model version.
        scored: Name of the output that holds a score per class. A row without it has no class, nor has one
            whose scores are not finite: the model is in trouble, and its row counts all the same.
    """
    probabilities = [_float32(row.outputs.get(scored)) for row in rows]
    classes = np.full(len(rows), NO_CLASS)
    confidences = np.zeros(len(rows))
    for size in set(map(len, probabilities)) - {0}:
        chosen = [index for index, data in enumerate(probabilities) if len(data) == size]
        scores = matrix([probabilities[index] for index in chosen])  # (n, K)
        finite = np.isfinite(scores).all(axis=1)
        classes[chosen] = np.where(finite, scores.argmax(axis=1), NO_CLASS)
        confidences[chosen] = np.where(finite, scores.max(axis=1), 0.0)
    return Answers(
        classes.tolist(),
        confidences.tolist(),
        probabilities,
        [_float32(row.outputs.get(EMBEDDING)) for row in rows],
    )


def matrix(vectors: Sequence[bytes]) -> NDArray[np.float32]:
    """Return vectors of one length, float32 little-endian, as (n, K)."""
    return np.frombuffer(b"".join(vectors), "<f4").reshape(len(vectors), -1)


def _float32(tensor: Tensor | None) -> bytes:
    """Return a tensor's values as float32, little-endian; nothing when it is no float."""
    if tensor is None or tensor.datatype not in _FLOATS:
        return b""
    dtype = _FLOATS[tensor.datatype]
    if len(tensor.data) % dtype.itemsize:
        return b""
    if tensor.datatype == "FP32":
        return tensor.data
    return np.frombuffer(tensor.data, dtype).astype("<f4").tobytes()
