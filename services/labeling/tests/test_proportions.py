"""Differences of shares: Newcombe's own table, and the level of the interval."""

import numpy as np
import pytest
from slipway_labeling.engine.proportions import difference, wilson


@pytest.mark.parametrize(
    ("first", "second", "bounds"),
    # Table II of Newcombe (Statist. Med. 17:873, 1998), method 10.
    [
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
        ((5, 56), (0, 29), (-0.0381, 0.1926)),
        ((0, 10), (0, 20), (-0.1611, 0.2775)),
        ((10, 10), (0, 10), (0.6075, 1.0)),
    ],
)
def test_the_interval_is_that_of_newcombes_table(
    first: tuple[int, int], second: tuple[int, int], bounds: tuple[float, float]
) -> None:
    found = difference(first, second)

    assert found.value == pytest.approx(first[0] / first[1] - second[0] / second[1])
    assert (found.lower, found.upper) == pytest.approx(bounds, abs=6e-5)


def test_a_share_of_none_and_of_all_stays_within_bounds() -> None:
    assert wilson(0, 10)[0] == 0.0
    assert wilson(10, 10)[1] == pytest.approx(1.0, abs=1e-12)


def test_the_interval_holds_its_level() -> None:
    rng = np.random.default_rng(3)

    covered = [
        found.lower <= 0.2 <= found.upper
        for hits, others in zip(rng.binomial(40, 0.9, 2000), rng.binomial(60, 0.7, 2000), strict=True)
        for found in [difference((int(hits), 40), (int(others), 60))]
    ]

    assert 0.94 <= np.mean(covered) <= 0.975
