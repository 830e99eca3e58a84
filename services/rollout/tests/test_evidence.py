"""E-values: their expectation, exactly; and how blocks, strata and restarts enter them."""

import math
from itertools import product

import pytest
from pydantic import TypeAdapter
from slipway_rollout.domain import Gates, Rows, Traffic
from slipway_rollout.engine.betting import Bets, Rate
from slipway_rollout.engine.comparison import ClassShift, Comparison, Slowness
from slipway_rollout.engine.evidence import Evidence
from slipway_rollout.engine.two_by_two import Counts, NonInferiority, log_e_value, projection


def expectation(counts: tuple[int, int], rates: tuple[float, float], alternative: tuple[float, float],
                margin: float, *, above: bool) -> float:  # fmt: skip
    """Return the mean of a block's e-value over all its outcomes."""
    total = 0.0
    for hits in product(*(range(count + 1) for count in counts)):
        chance = math.prod(
            math.comb(n, k) * rate**k * (1 - rate) ** (n - k)
            for n, k, rate in zip(counts, hits, rates, strict=True)
        )
        block = Counts(counts[0], hits[0], counts[1], hits[1])
        total += chance * math.exp(log_e_value(block, *alternative, margin, above=above))
    return total


@pytest.mark.parametrize("margin", [0.0, 0.05, 0.2])
@pytest.mark.parametrize("counts", [(5, 5), (12, 1), (1, 7)])
@pytest.mark.parametrize("slack", [0.0, 0.03])
def test_an_e_value_is_one_at_most_on_average_where_the_null_holds(
    margin: float, counts: tuple[int, int], slack: float
) -> None:
    alternatives = [(0.05, 0.3), (0.2, 0.9), (0.3, 0.35)]

    worst = max(
        expectation(counts, (stable, stable + margin - slack), alternative, margin, above=True)
        for stable, alternative in product((0.1, 0.3, 0.5, 0.7), alternatives)
    )

    assert worst <= 1 + 1e-9


@pytest.mark.parametrize("slack", [0.0, 0.03])
def test_evidence_for_a_small_loss_is_one_at_most_on_average_where_the_loss_is_large(slack: float) -> None:
    tolerance = 0.05

    worst = max(
        expectation((6, 4), (stable, stable + tolerance + slack), (0.1, 0.1), tolerance, above=False)
        for stable in (0.02, 0.1, 0.3, 0.6)
    )

    assert worst <= 1 + 1e-9


def test_an_e_value_grows_where_the_alternative_is_true() -> None:
    grown = expectation((10, 10), (0.05, 0.4), (0.05, 0.4), 0.0, above=True)

    assert grown > 2


def test_the_projection_is_the_nearest_pair_on_the_margin() -> None:
    stable, new, margin, counts = 0.1, 0.4, 0.05, (30, 10)

    def distance(q: float) -> float:
        def divergence(p: float, r: float) -> float:
            return p * math.log(p / r) + (1 - p) * math.log((1 - p) / (1 - r))

        return counts[0] * divergence(stable, q) + counts[1] * divergence(new, q + margin)

    found = projection(stable, new, margin, *counts)

    assert found is not None
    assert distance(found) <= min(distance(found + shift) for shift in (-1e-4, 1e-4))


def test_bets_on_a_fair_excess_gain_nothing_on_average() -> None:
    gains = []
    for excess in (-0.5, 0.5):
        bets = Bets(1.0)
        bets.observe(excess)
        gains.append(math.exp(bets.log_e))

    assert sum(gains) / 2 == pytest.approx(1.0)


def test_a_rate_within_its_guardrail_gains_nothing_on_average() -> None:
    total = 0.0
    for hits in range(9):
        rate = Rate(0.3)
        rate.observe(hits, 8)
        total += math.comb(8, hits) * 0.3**hits * 0.7 ** (8 - hits) * math.exp(rate.log_e)

    assert total == pytest.approx(1.0)


def test_observations_wait_for_the_other_version_of_the_same_step() -> None:
    comparison = Comparison.of(margin=0.0, tolerance=0.0, prior_mean=0.1)

    comparison.take(1, Counts(stable_count=50, stable_hits=2))
    comparison.take(2, Counts(count=5, hits=5))
    comparison.settle()
    waiting = comparison.fail.log_e
    comparison.take(1, Counts(count=3, hits=3))
    comparison.settle()

    assert waiting == 0.0
    assert comparison.fail.log_e > 0
    assert comparison.closed == {1: Counts(50, 2, 3, 3)}
    assert comparison.open == {2: Counts(count=5, hits=5)}


def test_a_weight_that_moves_with_the_load_does_not_look_like_a_difference() -> None:
    """Simpson's paradox: the new version has most of its traffic when everything is hard."""
    comparison = Comparison.of(margin=0.0, tolerance=0.0, prior_mean=0.1)
    pooled = NonInferiority(0.0, 0.1)

    for _ in range(20):
        for step, easy in ((0, Counts(90, 1, 10, 0)), (1, Counts(10, 5, 90, 45))):
            comparison.take(step, easy)
        comparison.settle()
        pooled.observe(Counts(100, 6, 100, 45))

    assert comparison.fail.log_e < math.log(3)
    assert comparison.difference == pytest.approx(0, abs=0.02)
    assert pooled.log_e > math.log(1e6)


def test_a_class_takes_part_after_the_block_in_which_it_was_first_seen() -> None:
    shift = ClassShift(0.1)

    shift.take(0, {"a": 50}, {"b": 50})
    shift.settle()
    first = shift.log_e
    shift.take(0, {"a": 50}, {"b": 50})
    shift.settle()

    assert first == pytest.approx(0)
    assert shift.log_e > math.log(100)
    assert shift.largest[0] in ("a", "b")


def test_slowness_is_held_against_what_the_stable_version_did_before() -> None:
    slowness = Slowness.of(0.05)

    for _ in range(30):
        slowness.take(1, {5.0: 96, 10.0: 4}, {20.0: 10})
        slowness.settle()

    assert slowness.bound == 5.0
    assert slowness.bets.log_e > math.log(100)
    assert slowness.comparison.difference == pytest.approx(0.96)


def test_evidence_is_the_same_after_it_was_kept() -> None:
    evidence, kept = Evidence.of(Gates(max_p99_ms=50, min_accuracy=0.8)), TypeAdapter(Evidence)
    traffic = Traffic(30, 1, 1, {5.0: 29, float("inf"): 1})
    evidence.take_traffic(1, traffic, traffic, Gates(max_p99_ms=50))
    evidence.take_rows(1, 5, Rows(9, {"a": 9}, 9, 8), Rows(9, {"a": 4, "b": 5}, 9, 2))
    evidence.settle()

    again = kept.validate_json(kept.dump_json(evidence))

    assert again == evidence
