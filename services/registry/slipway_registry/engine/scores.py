"""Figures of a classifier from its probabilities, in plain numpy.

Sources: log loss and its clipping as scikit-learn computes them; G. W. Brier, "Verification of forecasts
expressed in terms of probability" (1950), summed over classes, so from 0 to 2; calibration error by
C. Guo et al., "On calibration of modern neural networks" (2017, arXiv:1706.04599), over bins of equal mass as
in K. Nguyen and B. O'Connor (2015, arXiv:1508.05154); average precision as the sum of precision over steps of
recall, without interpolation; area under the ROC curve by the trapezoids over distinct scores, which equals
the Mann-Whitney statistic with ties counted half.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BINS = 15
PER_BIN = 20  # fewer than 15 bins rather than bins of a handful
_SMALLEST = float(np.finfo(np.float32).eps)  # probabilities come as float32: below is nothing

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Bins:
    """Examples by confidence: mean confidence, accuracy and number of each bin."""

    confidence: Floats
    accuracy: Floats
    counts: Integers


@dataclass(frozen=True)
class Ranked:
    """One class against the rest: true and false positives at each distinct score, highest first."""

    true_positives: Integers
    false_positives: Integers

    @property
    def recall(self) -> Floats:
        """Share of the class found, at each threshold."""
        return self.true_positives / self.true_positives[-1]

    @property
    def fall_out(self) -> Floats:
        """Share of the rest taken for the class, at each threshold."""
        return self.false_positives / self.false_positives[-1]

    @property
    def precision(self) -> Floats:
        """Share of those found that are of the class, at each threshold."""
        return self.true_positives / (self.true_positives + self.false_positives)

    @property
    def auroc(self) -> float:
        """Area under the ROC curve."""
        x, y = np.r_[0.0, self.fall_out], np.r_[0.0, self.recall]
        return float(np.trapezoid(y, x))

    @property
    def average_precision(self) -> float:
        """Precision, weighted by the steps of recall."""
        return float(np.sum(np.diff(np.r_[0.0, self.recall]) * self.precision))


def normalised(probabilities: npt.NDArray[np.floating]) -> Floats:
    """Return rows of float64 that sum to 1; what a softmax in float32 leaves below 0 is 0."""
    wide = probabilities.astype(np.float64)
    np.maximum(wide, 0.0, out=wide)
    wide /= wide.sum(axis=1, keepdims=True)
    return wide


def figures(probabilities: Floats, labels: npt.NDArray[np.integer]) -> dict[str, float]:
    """Return every figure that these examples allow; AUROC needs a class that some are and some are not.

    Args:
        probabilities: (N, C), rows that sum to 1.
        labels: (N,), indices below C.
    """
    predicted = probabilities.argmax(axis=1)
    correct = predicted == labels
    found = {
        "accuracy": float(correct.mean()),
        "macro_f1": macro_f1(confusion(labels, predicted, probabilities.shape[1])),
        "loss": log_loss(probabilities, labels),
        "brier": brier(probabilities, labels),
        "ece": calibration_error(bins(probabilities.max(axis=1), correct)),
    }
    ranks = [ranked for _, ranked in ranked_classes(probabilities, labels)]
    if ranks:
        found["auroc"] = float(np.mean([ranked.auroc for ranked in ranks]))
        found["average_precision"] = float(np.mean([ranked.average_precision for ranked in ranks]))
    return found


def confusion(labels: npt.NDArray[np.integer], predicted: npt.NDArray[np.integer], classes: int) -> Integers:
    """Return counts (C, C), true class by predicted class."""
    flat = labels.astype(np.int64) * classes + predicted
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes)


def macro_f1(matrix: Integers) -> float:
    """Return the mean F1 over the classes that occur, as truth or as prediction."""
    hits, occurrences = np.diag(matrix), matrix.sum(axis=0) + matrix.sum(axis=1)
    present = occurrences > 0
    return float(np.mean(2 * hits[present] / occurrences[present]))


def log_loss(probabilities: Floats, labels: npt.NDArray[np.integer]) -> float:
    """Return the mean negative logarithm of the true class's probability, clipped at float32's epsilon."""
    truth = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.clip(truth, _SMALLEST, 1.0)).mean())


def brier(probabilities: Floats, labels: npt.NDArray[np.integer]) -> float:
    """Return the mean squared distance from the truth, summed over classes: 0 to 2."""
    truth = probabilities[np.arange(len(labels)), labels]
    return float((np.einsum("nc,nc->n", probabilities, probabilities) - 2 * truth + 1).mean())


def bins(confidence: Floats, correct: Bools) -> Bins:
    """Return bins of equal mass by confidence; equal confidences stay together, whatever their order."""
    wanted = max(1, min(BINS, len(confidence) // PER_BIN))
    edges = np.unique(np.quantile(confidence, np.arange(1, wanted) / wanted, method="inverted_cdf"))
    index = np.searchsorted(edges, confidence, side="left")
    counts = np.bincount(index, minlength=len(edges) + 1)
    used = counts > 0
    means = [np.bincount(index, weights=w, minlength=len(counts))[used] for w in (confidence, correct)]
    return Bins(means[0] / counts[used], means[1] / counts[used], counts[used])


def calibration_error(found: Bins) -> float:
    """Return the expected calibration error: mean gap of accuracy and confidence, weighted by the bins."""
    gaps = np.abs(found.accuracy - found.confidence)
    return float(np.average(gaps, weights=found.counts))


def ranked_classes(probabilities: Floats, labels: npt.NDArray[np.integer]) -> Iterator[tuple[int, Ranked]]:
    """Yield each class that some examples are of and some are not, ranked against the rest."""
    for index in np.unique(labels):
        positive = labels == index
        if not positive.all():
            yield int(index), ranked(probabilities[:, index], positive)


def ranked(scores: Floats, positive: Bools) -> Ranked:
    """Return the counts at each distinct score, highest first."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.r_[np.flatnonzero(np.diff(ordered)), len(ordered) - 1]  # the last row of each distinct score
    hits = np.cumsum(positive[order], dtype=np.int64)[last]
    return Ranked(hits, last + 1 - hits)
