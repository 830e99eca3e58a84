"""Which given labels are probably wrong: confident learning on out-of-sample probabilities."""

from dataclasses import dataclass

import numpy as np

from slipway_labeling.engine.answers import FloatArray, IntArray
from slipway_labeling.engine.probabilities import checked_labels, checked_probabilities


@dataclass(frozen=True)
class LabelErrors:
    """The suspects, the most suspicious first.

    `example` (S,) are row indices, `suggested` (S,) the classes that they probably are. `score` (S,) in
    [0.5, 1] grows with suspicion: 0.5 is where the suggested class is as probable as the given one.
    `thresholds` (K,) is nan for a class without labels; `confident` (K, K) counts by [given, true]; `joint`
    (K, K) estimates P(given, true) and sums to 1; `noise` is its share off the diagonal.
    """

    example: IntArray
    suggested: IntArray
    score: FloatArray
    thresholds: FloatArray
    confident: IntArray
    joint: FloatArray
    noise: float


def find_label_errors(labels: IntArray, probabilities: FloatArray) -> LabelErrors:
    """Find labels that the model contradicts with confidence (Northcutt, Jiang & Chuang, JAIR 2021).

    A class's threshold is its mean probability over the examples labelled so; an example counts as a class
    when that class, of those above their thresholds, is the most probable. Suspects are the examples that
    count as a class other than the given one, which is also more probable than the given one.
    `probabilities` (N, K) must come from models that did not train on the example (cross-validation).
    Raises BadScores for rows that are no distributions and labels outside the classes.
    """
    scores = checked_probabilities(probabilities)
    given = checked_labels(labels, scores)
    each, classes = np.arange(given.size), scores.shape[1]
    per_class = np.bincount(given, minlength=classes)
    own = scores[each, given]
    with np.errstate(invalid="ignore"):
        thresholds = np.bincount(given, weights=own, minlength=classes) / per_class
    above = scores >= np.where(per_class > 0, thresholds, np.inf) - 1e-12
    true = np.argmax(np.where(above, scores, -1), axis=1)
    sure = above.any(axis=1)
    confident = np.bincount(given[sure] * classes + true[sure], minlength=classes**2).reshape(
        classes, classes
    )
    score = (scores[each, true] - own + 1) / 2
    suspect = np.flatnonzero(sure & (true != given) & (score > 0.5))
    order = suspect[np.argsort(-score[suspect], kind="stable")]
    joint = _joint(confident, per_class)
    return LabelErrors(
        example=order,
        suggested=true[order],
        score=score[order],
        thresholds=thresholds,
        confident=confident,
        joint=joint,
        noise=float(joint.sum() - np.trace(joint)),
    )


def _joint(confident: IntArray, per_class: IntArray) -> FloatArray:
    """Calibrate the counts to the labels given; a class without confident examples stays as it is."""
    rows = confident.sum(axis=1, keepdims=True)
    counts = np.where(rows > 0, confident, np.eye(len(confident)))
    calibrated = counts / counts.sum(axis=1, keepdims=True) * per_class[:, None]
    joint: FloatArray = calibrated / max(int(per_class.sum()), 1)
    return joint
