"""The statistics of drift: sketches merge exactly, and tests of two samples reject as often as they say."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from slipway_monitoring.domain.drift import DriftTest, holm
from slipway_monitoring.engine.discrepancy import discrepancy
from slipway_monitoring.engine.histogram import Classes, Coded, Histogram
from slipway_monitoring.engine.sample import SAMPLE_ROWS, VectorSample
from slipway_monitoring.engine.two_samples import chi_squared, kolmogorov_smirnov, psi


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def keys(name: str, count: int) -> list[str]:
    return [f"{name}.{i}" for i in range(count)]


def compared(window: Classes, reference: Classes) -> DriftTest:
    found = chi_squared("predictions", window, reference)
    assert found is not None
    return found


def named(counts: NDArray[np.int64]) -> Classes:
    return Classes(dict(zip("abcdefghij", counts.tolist(), strict=True)))


def test_histograms_of_two_parts_together_are_the_histogram_of_the_whole() -> None:
    values, reference = generator().normal(size=1000), Histogram.of(generator(1).normal(size=500))

    parts = reference.counted(values[:300]).merged(reference.counted(values[300:]))

    assert np.array_equal(parts.counts, reference.counted(values).counts)
    assert parts.total == 1000


def test_histograms_of_other_cuts_are_not_merged() -> None:
    with pytest.raises(ValueError, match="different cuts"):
        Histogram.of(np.arange(10.0)).merged(Histogram.of(np.arange(11.0)))


def test_class_counts_and_samples_of_two_parts_are_those_of_the_whole() -> None:
    vectors, named = generator().normal(size=(900, 3)), keys("p", 900)

    parts = VectorSample.of(vectors[:500], named[:500]).merged(VectorSample.of(vectors[500:], named[500:]))

    whole = VectorSample.of(vectors, named)
    assert np.array_equal(parts.vectors, whole.vectors)
    assert (parts.seen, len(parts.vectors)) == (900, SAMPLE_ROWS)
    assert Classes.of("aab").merged(Classes.of("bc")) == Classes({"a": 2, "b": 2, "c": 1})


def test_a_sample_is_uniform_over_the_rows() -> None:
    whole = VectorSample.of(np.arange(10_000.0)[:, None], keys("p", 10_000))

    assert stats.kstest(whole.vectors[:, 0], stats.uniform(0, 10_000).cdf).pvalue > 0.001


def test_the_binned_distance_is_near_that_of_the_values_and_never_above_it() -> None:
    for seed in range(20):
        reference, window = generator(seed).normal(size=600), generator(seed + 99).normal(0.2, 1, 400)

        found = kolmogorov_smirnov("x", Histogram.of(reference).counted(window), Histogram.of(reference))

        exact = stats.ks_2samp(window, reference)
        assert exact.statistic - 0.02 < found.statistic <= exact.statistic
        assert found.p_value >= exact.pvalue * 0.8
        assert (found.row_count, found.reference_count) == (400, 600)


def test_the_size_of_the_reference_counts_as_that_of_the_window() -> None:
    small, large = generator().normal(size=50), generator().normal(size=5000)
    window = generator(1).normal(0.3, 1, 500)

    of_small = kolmogorov_smirnov("x", Histogram.of(small).counted(window), Histogram.of(small))
    of_large = kolmogorov_smirnov("x", Histogram.of(large).counted(window), Histogram.of(large))

    assert of_small.p_value > 0.01 > of_large.p_value


def test_values_that_all_tie_are_compared_by_how_many_there_are() -> None:
    reference = Histogram.of(np.ones(300))

    same = kolmogorov_smirnov("x", reference.counted(np.ones(200)), reference)
    other = kolmogorov_smirnov("x", reference.counted(np.zeros(200)), reference)

    assert (same.effect, same.p_value) == (0.0, 1.0)
    assert (other.effect, other.p_value) == (1.0, pytest.approx(0.0, abs=1e-50))


def test_what_is_no_number_counts_as_the_largest_value() -> None:
    reference = Histogram.of(generator().normal(size=500))
    window = generator(1).normal(size=500)
    window[:200] = np.nan

    assert kolmogorov_smirnov("x", reference.counted(window), reference).effect > 0.3


def test_chi_squared_is_that_of_the_table_where_no_cell_is_small() -> None:
    window, reference = Classes({"a": 40, "b": 60, "c": 100}), Classes({"a": 90, "b": 110, "c": 100})

    found = compared(window, reference)

    exact = stats.chi2_contingency([[40, 60, 100], [90, 110, 100]], correction=False)
    assert found.statistic == pytest.approx(exact.statistic)
    assert found.p_value == pytest.approx(exact.pvalue)
    assert found.effect == pytest.approx(0.5 - 1 / 3)


def test_rare_classes_are_pooled_until_five_are_expected_on_each_side() -> None:
    window = Classes({"a": 50, "b": 50, "rare": 1, "rarer": 0})
    reference = Classes({"a": 500, "b": 480, "rare": 3, "rarer": 17})

    found = compared(window, reference)

    exact = stats.chi2_contingency([[50, 51], [500, 500]], correction=False)
    assert found.statistic == pytest.approx(exact.statistic)


def test_a_class_that_the_reference_never_saw_is_found() -> None:
    found = compared(Classes({"a": 80, "new": 20}), Classes({"a": 500}))

    exact = stats.fisher_exact([[80, 20], [500, 0]])
    assert found.p_value == pytest.approx(exact.pvalue)
    assert found.effect == pytest.approx(0.2)


def test_a_single_class_gives_no_test() -> None:
    assert chi_squared("predictions", Classes({"a": 200, "b": 0}), Classes({"a": 500})) is None
    assert chi_squared("predictions", Classes({}), Classes({"a": 500, "b": 1})) is None


def test_chi_squared_rejects_equal_samples_as_often_as_it_says() -> None:
    shares = generator().dirichlet(np.ones(10))
    drawn = [generator(seed).multinomial(400, shares, 2) for seed in range(500)]

    tested = [
        compared(*(Classes(dict(zip("abcdefghij", n.tolist(), strict=True))) for n in d)) for d in drawn
    ]

    assert stats.binomtest(sum(t.p_value <= 0.05 for t in tested), 500, 0.05).pvalue > 0.01


def test_the_discrepancy_rejects_equal_samples_as_often_as_it_says() -> None:
    values = [
        discrepancy(
            VectorSample.of(generator(2 * seed).normal(size=(60, 4)), keys("a", 60)),
            VectorSample.of(generator(2 * seed + 1).normal(size=(80, 4)), keys("b", 80)),
        ).p_value
        for seed in range(300)
    ]

    assert stats.binomtest(sum(p <= 0.1 for p in values), 300, 0.1).pvalue > 0.01


def test_a_moved_embedding_is_found_with_a_p_value_that_survives_adjustment() -> None:
    window = VectorSample.of(generator().normal(0.5, 1, (300, 16)), keys("a", 300))

    found = discrepancy(window, VectorSample.of(generator(1).normal(size=(300, 16)), keys("b", 300)))

    assert found.p_value < 0.001
    assert found.effect > 0.1


def test_holm_multiplies_the_smallest_by_all_and_the_largest_by_one() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_the_stability_index_is_0_for_equal_shares_and_grows_with_the_difference() -> None:
    assert psi(np.array([10.0, 20.0]), np.array([100.0, 200.0])) == 0
    assert psi(np.array([30.0, 10.0]), np.array([10.0, 30.0])) == pytest.approx(np.log(3))


@pytest.mark.parametrize("draw", ["normal", "lognormal", "pareto", "integers", "constant", "missing"])
def test_many_values_are_counted_by_a_grid_or_by_quantiles_and_shifts_are_found_either_way(draw: str) -> None:
    def drawn(seed: int, shift: float = 0.0) -> NDArray[np.float64]:
        random = generator(seed)
        values = {
            "normal": lambda: random.normal(size=20_000),
            "lognormal": lambda: random.lognormal(0, 2, 20_000),
            "pareto": lambda: random.pareto(0.5, 20_000),
            "integers": lambda: random.integers(0, 5, 20_000).astype(float),
            "constant": lambda: np.ones(20_000),
            "missing": lambda: np.where(random.random(20_000) < 0.2, np.nan, random.normal(size=20_000)),
        }[draw]()
        moved = random.random(20_000) < shift
        return np.where(moved, np.nan_to_num(values, nan=0.0) + 3, values)

    reference = Histogram.of(drawn(0))
    same, moved = reference.counted(drawn(1)), reference.counted(drawn(2, shift=0.2))
    assert (same.total, reference.total) == (20_000, 20_000)

    assert kolmogorov_smirnov("x", same, reference).p_value > 0.001
    found = kolmogorov_smirnov("x", moved, reference)
    exact = stats.ks_2samp(np.nan_to_num(drawn(2, 0.2), nan=np.inf), np.nan_to_num(drawn(0), nan=np.inf))
    assert found.p_value < 1e-6
    assert exact.statistic - 0.02 < found.statistic <= exact.statistic + 1e-12
    assert (reference.grid is not None) == (draw in {"normal", "integers", "missing"})


def test_classes_as_numbers_are_counted_by_their_names() -> None:
    coded = Coded(np.array([0, 1, 1, 5, -1]), ("a", "b"))

    assert Classes.of(coded) == Classes({"a": 1, "b": 2, "5": 1, "(none)": 1})
    assert Classes.of(Coded(np.zeros(0, dtype=int), ("a",))) == Classes({})


def test_embeddings_that_are_no_numbers_huge_or_all_the_same_break_nothing() -> None:
    usual = generator().normal(size=(120, 4))
    broken = usual.copy()
    broken[:20] = np.nan

    taken = VectorSample.of(broken, keys("a", 120))
    huge = discrepancy(VectorSample.of(usual * 1e30, keys("a", 120)), VectorSample.of(usual, keys("b", 120)))
    same = discrepancy(
        VectorSample.of(np.ones((50, 4)), keys("a", 50)), VectorSample.of(np.ones((60, 4)), keys("b", 60))
    )

    assert taken.seen == 100
    assert np.isfinite(taken.vectors).all()
    assert huge.p_value < 0.01
    assert np.isfinite(huge.effect)
    assert (same.p_value, same.effect) == (1.0, 0.0)
