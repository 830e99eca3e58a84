"""Figures are scikit-learn's, with ties and a class that nobody is of; the pictures are pictures."""

import io

import numpy as np
import numpy.typing as npt
import pytest
from judged import CLASSES, HEADER, rows
from PIL import Image
from sklearn import metrics
from slipway_registry.domain.evaluations import Report
from slipway_registry.engine import scores, slices
from slipway_registry.engine.curves import MAX_POINTS
from slipway_registry.engine.pictures import pictures

CLASS_COUNT = 6
SEEDS = range(5)


def drawn(seed: int, count: int = 500) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return probabilities with many ties, and labels of which the last class has none."""
    source = np.random.default_rng(seed)
    labels = source.integers(0, CLASS_COUNT - 1, count)
    logits = source.normal(size=(count, CLASS_COUNT)).round(1)
    logits[np.arange(count), labels] += 1.0
    weights = np.exp(logits)
    return weights / weights.sum(axis=1, keepdims=True), labels


@pytest.mark.parametrize("seed", SEEDS)
def test_figures_equal_those_of_scikit_learn(seed: int) -> None:
    probabilities, labels = drawn(seed)
    predicted = probabilities.argmax(axis=1)
    columns = np.arange(CLASS_COUNT - 1)
    truth = labels[:, None] == columns
    every = np.arange(CLASS_COUNT)

    found = scores.figures(probabilities, labels)

    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(labels, predicted))
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(labels, predicted, average="macro"))
    assert found["loss"] == pytest.approx(metrics.log_loss(labels, probabilities, labels=every))
    brier = metrics.brier_score_loss(labels, probabilities, labels=every, scale_by_half=False)
    assert found["brier"] == pytest.approx(brier)
    auroc = metrics.roc_auc_score(truth, probabilities[:, columns], average="macro")
    assert found["auroc"] == pytest.approx(auroc)
    precision = metrics.average_precision_score(truth, probabilities[:, columns], average="macro")
    assert found["average_precision"] == pytest.approx(precision)
    matrix = metrics.confusion_matrix(labels, predicted, labels=every)
    assert (scores.confusion(labels, predicted, CLASS_COUNT) == matrix).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_ranking_equals_scikit_learns_curves(seed: int) -> None:
    probabilities, labels = drawn(seed)
    positive = labels == 2

    ranked = scores.ranked(probabilities[:, 2], positive)

    x, y, _ = metrics.roc_curve(positive, probabilities[:, 2], drop_intermediate=False)
    assert np.allclose(np.r_[0.0, ranked.fall_out], x)
    assert np.allclose(np.r_[0.0, ranked.recall], y)


def test_a_class_of_all_examples_has_no_area_under_its_curve() -> None:
    found = scores.figures(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0]))

    assert "auroc" not in found
    assert found["accuracy"] == 0.5


def test_the_calibration_error_is_the_gap_of_bins_of_equal_mass() -> None:
    confidence = np.repeat([0.6, 0.9], 100)
    correct = np.r_[np.arange(100) < 40, np.arange(100) < 95]

    bins = scores.bins(confidence, correct)

    assert bins.counts.tolist() == [100, 100]
    assert scores.calibration_error(bins) == pytest.approx((0.2 + 0.05) / 2)


def test_the_calibration_error_does_not_depend_on_the_order_of_equal_confidences() -> None:
    source = np.random.default_rng(0)
    confidence = source.choice([0.4, 0.5, 0.7, 0.8, 0.99], 400)
    correct = source.random(400) < confidence
    order = source.permutation(400)

    errors = {
        round(scores.calibration_error(scores.bins(confidence[o], correct[o])), 12)
        for o in (order, np.arange(400))
    }

    assert len(errors) == 1


def test_a_calibrated_model_has_a_small_error_and_a_boastful_one_a_large() -> None:
    source = np.random.default_rng(1)
    confidence = source.uniform(0.3, 1.0, 20_000)
    correct = source.random(20_000) < confidence

    calibrated = scores.calibration_error(scores.bins(confidence, correct))
    boastful = scores.calibration_error(scores.bins(np.minimum(1.0, confidence + 0.2), correct))

    assert calibrated < 0.02
    assert boastful > 0.15


def test_wilsons_interval_is_the_published_one_and_stays_within_0_and_1() -> None:
    low, high = slices.wilson(81, 263)

    # R. Newcombe, "Two-sided confidence intervals for the single proportion" (1998), table I, method 3
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert slices.wilson(0, 20)[0] == 0.0
    assert slices.wilson(20, 20)[1] == 1.0


def reported(count: int = 900) -> Report:
    labels = np.random.default_rng(2).integers(0, 3, count)
    right = np.random.default_rng(3).random(count) < 0.8
    attributes = [{"scanner": "ab"[row % 2], "serial": str(row)} for row in range(count)]
    return slices.report(HEADER, rows(HEADER, labels, right, attributes=attributes))


def test_a_report_has_slices_by_label_and_by_attribute_but_not_by_what_is_unique() -> None:
    report = reported()

    names = [part.name for part in report.slices]

    assert names == [*(f"label={name}" for name in CLASSES), "attribute:scanner=a", "attribute:scanner=b"]
    assert report.attributes == ("scanner",)
    assert sum(part.example_count for part in report.slices[:3]) == 900


def test_curves_are_thinned_and_end_where_curves_end() -> None:
    source = np.random.default_rng(4)
    probabilities = scores.normalised(source.random((5000, 3)))
    labels = source.integers(0, 3, 5000)
    ranks = list(scores.ranked_classes(probabilities, labels))

    from slipway_registry.engine.curves import curves

    found = curves(CLASSES, ranks, scores.bins(probabilities.max(axis=1), labels == 0))

    assert {(curve.kind, curve.label) for curve in found if curve.label} == {
        (kind, name) for kind in ("roc", "precision_recall") for name in CLASSES
    }
    assert max(len(curve.x) for curve in found) <= MAX_POINTS
    for curve in found:
        if curve.kind == "roc":
            assert (curve.x[0], curve.y[0], curve.x[-1], curve.y[-1]) == (0, 0, 1, 1)
            area = next((r.auroc for index, r in ranks if CLASSES[index] == curve.label), None)
            assert area is None or np.trapezoid(curve.y, curve.x) == pytest.approx(area, abs=0.01)


def test_every_picture_is_a_png_whatever_the_classes_are_called() -> None:
    names = ("$\\frac{rose", "tulip\n", "ひまわり" * 20)

    drawn = pictures(reported(), names, "flowers, version 1 on test")

    assert set(drawn) == {"confusion", "roc", "precision_recall", "calibration"}
    for data in drawn.values():
        image = Image.open(io.BytesIO(data))
        assert (image.format, min(image.size) > 400) == ("PNG", True)
        assert len(np.unique(np.asarray(image.convert("L")))) > 10
