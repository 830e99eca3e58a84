"""A model's class probabilities, as they come from scoring."""

import numpy as np

from slipway_labeling.engine.answers import FloatArray, IntArray


class BadScores(ValueError):
    """Probabilities, embeddings or labels that cannot be used; the message names the row and the remedy."""


def checked_probabilities(probabilities: FloatArray) -> FloatArray:
    """Return the probabilities (N, K) as float64. Raises BadScores for a row that is no distribution."""
    values = np.asarray(probabilities, np.float64)
    if values.ndim != 2 or values.shape[1] < 2:
        raise BadScores(f"probabilities have the shape {values.shape}; give (examples, classes >= 2)")
    fine = (values >= 0).all(axis=1) & (np.abs(values.sum(axis=1) - 1) < 1e-3)
    if not fine.all():
        row = int(np.argmin(fine))
        raise BadScores(
            f"row {row} of the probabilities sums to {values[row].sum():.4g}; give softmax outputs"
        )
    return values


def checked_embeddings(embeddings: FloatArray, rows: int | None = None) -> FloatArray:
    """Return the embeddings (N, D) as they are. Raises BadScores for another count or a row not finite."""
    if embeddings.ndim != 2 or (rows is not None and embeddings.shape[0] != rows):
        raise BadScores(f"embeddings have the shape {embeddings.shape}; give one row per example")
    finite = np.isfinite(embeddings).all(axis=1)
    if not finite.all():
        raise BadScores(f"row {int(np.argmin(finite))} of the embeddings is not finite; score it again")
    return embeddings


def checked_labels(labels: IntArray, probabilities: FloatArray) -> IntArray:
    """Return the labels (N,). Raises BadScores where they do not fit the probabilities (N, K)."""
    rows, classes = probabilities.shape
    if labels.shape != (rows,):
        raise BadScores(f"labels have the shape {labels.shape}; give one label per example, {rows} in all")
    outside = labels[(labels < 0) | (labels >= classes)]
    if outside.size:
        raise BadScores(f"label {outside[0]} is outside 0..{classes - 1}; give indices of the classes")
    return labels
