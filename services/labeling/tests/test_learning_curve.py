"""The learning curve: its fit, what its interval covers, and the verdict on more labels."""

import numpy as np
import pytest
from slipway_labeling.engine.learning_curve import BadCurve, TooFewPoints, Verdict, fit

SIZES = np.array([100, 200, 400, 800, 1600])


def drawn(seed, floor, scale, exponent, *, tested=2000, sizes=SIZES):
    """The fit to accuracies drawn about a known curve."""
    right = 1 - (floor + scale * sizes.astype(float) ** -exponent)
    accuracy = np.random.default_rng(seed).binomial(tested, right) / tested
    return fit(sizes, accuracy, np.full(sizes.size, tested), samples=400)


@pytest.mark.parametrize(("floor", "scale", "exponent"), [(0.05, 2, 0.5), (0.0, 1.5, 0.4), (0.2, 5, 0.9)])
def test_a_curve_without_noise_is_found_again(floor, scale, exponent):
    accuracy = 1 - (floor + scale * SIZES.astype(float) ** -exponent)

    found = fit(SIZES, accuracy, np.full(5, 1000))

    ahead = 1 - (floor + scale * 6400.0**-exponent)
    assert found.accuracy(6400)[0] == pytest.approx(ahead, abs=2e-3)
    assert found.exponent[0] == pytest.approx(exponent, rel=0.06)


@pytest.mark.parametrize("sizes", [SIZES[:3], SIZES], ids=["three points", "five points"])
@pytest.mark.parametrize(("floor", "scale", "exponent"), [(0.02, 2, 0.5), (0.1, 1, 0.3), (0.01, 5, 0.8)])
def test_the_intervals_cover_the_truth(sizes, floor, scale, exponent):
    ahead, last = 2.0 * sizes[-1], float(sizes[-1])
    accuracy = 1 - (floor + scale * ahead**-exponent)
    gain = scale * last**-exponent - scale * ahead**-exponent

    found = [drawn(seed, floor, scale, exponent, sizes=sizes) for seed in range(100)]

    accuracies = [curve.accuracy(int(ahead)) for curve in found]
    gains = [curve.gain(int(ahead)) for curve in found]
    assert np.mean([lower <= accuracy <= upper for _, lower, upper in accuracies]) >= 0.88
    assert np.mean([lower <= gain <= upper for _, lower, upper in gains]) >= 0.88


def test_a_steep_curve_is_worth_more_labels():
    verdicts = [drawn(seed, 0.02, 2, 0.4, tested=20_000).worth(3200, 0.01) for seed in range(20)]

    assert verdicts.count(Verdict.WORTH) >= 18
    assert Verdict.NOT_WORTH not in verdicts


def test_a_curve_that_has_flattened_is_not_worth_more_labels():
    verdicts = [drawn(seed, 0.05, 5, 0.9, tested=20_000).worth(3200, 0.01) for seed in range(20)]

    assert verdicts.count(Verdict.NOT_WORTH) >= 18
    assert Verdict.WORTH not in verdicts


def test_small_test_sets_cannot_say():
    verdicts = [drawn(seed, 0.02, 2, 0.5, tested=100).worth(3200, 0.015) for seed in range(20)]

    assert verdicts.count(Verdict.CANNOT_SAY) >= 18


def test_larger_test_sets_make_narrower_intervals():
    widths = []
    for tested in (200, 2000, 20_000):
        _, lower, upper = drawn(1, 0.05, 2, 0.5, tested=tested).accuracy(3200)
        widths.append(upper - lower)

    assert widths[0] > widths[1] > widths[2]


def test_accuracies_that_fall_with_more_labels_promise_no_gain():
    found = fit(SIZES, np.array([0.9, 0.89, 0.88, 0.87, 0.86]), np.full(5, 1000))

    assert found.gain(3200)[0] == 0
    assert found.dispersion > 1


def test_scatter_beyond_the_test_counts_widens_the_interval():
    smooth = fit(SIZES, np.array([0.75, 0.80, 0.84, 0.87, 0.89]), np.full(5, 2000))
    rough = fit(SIZES, np.array([0.75, 0.84, 0.80, 0.90, 0.88]), np.full(5, 2000))

    assert smooth.dispersion == 1
    assert rough.dispersion > 5
    widths = [upper - lower for _, lower, upper in (smooth.accuracy(3200), rough.accuracy(3200))]
    assert widths[1] > 2 * widths[0]


def test_a_perfect_score_is_not_beyond_doubt():
    found = fit(SIZES, np.ones(5), np.full(5, 50))

    value, lower, _ = found.accuracy(3200)
    assert value == pytest.approx(1)
    assert lower < 1


def test_two_sizes_are_too_few_whatever_the_count_of_points():
    with pytest.raises(TooFewPoints, match="the curve has 2 sizes; train on at least 3"):
        fit(np.array([100, 200, 200, 200]), np.full(4, 0.8), np.full(4, 100))


@pytest.mark.parametrize(
    ("labelled", "accuracy", "tested", "message"),
    [
        ([0, 100, 200], [0.5, 0.6, 0.7], [10, 10, 10], "labelled of point 0 is 0; give at least 1"),
        ([50, 100, 200], [0.5, 60, 0.7], [10, 10, 10], "accuracy of point 1 is 60.0; give a share"),
        ([50, 100, 200], [0.5, np.nan, 0.7], [10, 10, 10], "accuracy of point 1 is nan; give a share"),
        ([50, 100, 200], [0.5, 0.6, 0.7], [10, 10, 0], "tested of point 2 is 0; give at least 1"),
    ],
)
def test_points_outside_their_ranges_are_refused_by_value(labelled, accuracy, tested, message):
    with pytest.raises(BadCurve, match=message):
        fit(np.array(labelled), np.array(accuracy), np.array(tested))


def test_a_verdict_on_no_more_labels_is_refused():
    with pytest.raises(BadCurve, match="labelled is 1600; give more than the 1600 of the last point"):
        drawn(1, 0.05, 2, 0.5).worth(1600, 0.01)
