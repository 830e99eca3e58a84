"""What drift compares of images: the features that training writes into the reference profile.

The same definitions stand in `slipway.task.profile`, which services do not import; a test compares both.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def image_features(images: NDArray[np.uint8]) -> dict[str, Floats]:
    """Return brightness, contrast and sharpness (N,) of images (N, H, W, C).

    Brightness is the mean of all values, contrast their standard deviation, sharpness the mean absolute
    difference of neighbours, across and down. Sums are of integers, so that equal images give equal bits.
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


def _sums(values: NDArray[np.int64]) -> Floats:
    return values.sum(axis=(1, 2, 3)).astype(np.float64)
