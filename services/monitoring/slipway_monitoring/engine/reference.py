"""The reference that windows are compared with, read from a bundle's profile or made of columns."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway_monitoring.domain.drift import CONFIDENCE, INPUTS, PREDICTIONS
from slipway_monitoring.engine.histogram import Classes, Coded, Histogram
from slipway_monitoring.engine.sample import VectorSample

IMAGE_FEATURES = ("brightness", "contrast", "sharpness")


class ProfileError(ValueError):
    """A profile cannot be read; the text says what is wrong with it."""


@dataclass(frozen=True)
class Reference:
    """What inputs and answers looked like when the model was made, by subject."""

    histograms: Mapping[str, Histogram] = field(default_factory=dict)
    classes: Mapping[str, Classes] = field(default_factory=dict)
    embedding: VectorSample | None = None

    @classmethod
    def of(cls, columns: Mapping[str, NDArray[Any] | Coded]) -> "Reference":
        """Return the reference of columns (N,): numbers become histograms, all else classes."""
        histograms, classes = {}, {}
        for name, values in columns.items():
            if isinstance(values, Coded) or values.dtype.kind not in "fiu":
                classes[name] = Classes.of(values)
            else:
                histograms[name] = Histogram.of(values)
        return cls(histograms, classes)

    @classmethod
    def from_profile(cls, profile: Mapping[str, Any]) -> "Reference":
        """Return the reference that `profile.json` describes, of format 1 or 2.

        Raises:
            ProfileError: It has another format, or lacks what the format asks for.
        """
        if profile.get("format") not in (1, 2):
            raise ProfileError(f"profile.json has format {profile.get('format')!r}; 1 and 2 are known")
        try:
            histograms = {CONFIDENCE: _histogram(profile["confidence"])}
            for name, features in profile["inputs"].items():
                histograms |= {
                    f"{INPUTS}{name}/{feature}": _histogram(features[feature])
                    for feature in IMAGE_FEATURES
                    if feature in features
                }
            classes = Classes({str(label): int(n) for label, n in profile["predictions"].items()})
            embedding = _sample(profile["embedding"].get("sample"))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ProfileError(f"profile.json cannot be read: {type(error).__name__} {error}") from error
        return cls(histograms, {PREDICTIONS: classes}, embedding)

    def to_profile(self) -> dict[str, Any]:
        """Return JSON that `from_profile` reads: the same cuts and counts, the same vectors.

        Raises:
            ValueError: A histogram lies on a grid, whose bins are not found by its cuts to the last bit.
        """
        inputs: dict[str, dict[str, Any]] = {}
        for subject, histogram in self.histograms.items():
            if subject.startswith(INPUTS):
                name, _, feature = subject.removeprefix(INPUTS).rpartition("/")
                inputs.setdefault(name, {})[feature] = _written(histogram)
        return {
            "format": 2,
            "inputs": inputs,
            "predictions": dict(self.classes[PREDICTIONS].counts),
            "confidence": _written(self.histograms[CONFIDENCE]),
            "embedding": {"sample": _written_sample(self.embedding)} if self.embedding is not None else {},
        }


def _written(histogram: Histogram) -> dict[str, Any]:
    if histogram.grid is not None:
        raise ValueError("a histogram on a grid is not written; make it by quantiles")
    cuts = histogram.cuts.astype(float).tolist() or [0.0]
    inner = cuts if len(histogram.cuts) else []
    return {"edges": [cuts[0], *inner, cuts[-1]], "counts": histogram.counts.tolist()}


def _written_sample(sample: VectorSample) -> dict[str, Any]:
    rows = np.ascontiguousarray(sample.vectors, dtype="<f4")
    return {"shape": list(rows.shape), "data": base64.b64encode(rows.tobytes()).decode()}


def _histogram(entry: Mapping[str, Any]) -> Histogram:
    """What lies outside the edges was counted in the first or last bin, so the outer edges are no cuts."""
    edges, counts = np.array(entry["edges"], float), np.array(entry["counts"], np.int64)
    if len(edges) != len(counts) + 1 or (np.diff(edges) < 0).any() or (counts < 0).any():
        raise ValueError("a histogram needs one more ascending edge than counts")
    return Histogram(edges[1:-1], counts)


def _sample(entry: Mapping[str, Any] | None) -> VectorSample | None:
    if not entry:
        return None
    rows, size = entry["shape"]
    vectors = np.frombuffer(base64.b64decode(entry["data"], validate=True), "<f4").reshape(rows, size)
    return VectorSample.of(vectors, [str(row) for row in range(rows)])
