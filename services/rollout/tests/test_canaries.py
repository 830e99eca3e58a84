"""False alarms and power of the verdicts, over many canaries in simulated time."""

import math
from dataclasses import replace

import numpy as np
import pytest
from simulated_canary import Behaviour, Canary
from slipway_rollout import domain
from slipway_rollout.domain import DEFAULT_STEPS, Gate, Gates, RolloutState, Step

pytestmark = pytest.mark.timeout(900)  # the longest takes half a minute on a quiet core
OFF = Gate(off=True)
LABELS_ONLY = Gates(errors=OFF, latency=OFF, shift=OFF, disagreement=OFF, max_error_rate=1.0)
LONG_STEPS = tuple(replace(step, min_duration_s=10.0) for step in DEFAULT_STEPS)


def held(canary: Canary, *steps: Step) -> Canary:
    canary.rollout = replace(canary.rollout, steps=steps)
    return canary


def test_of_two_hundred_canaries_of_an_equal_version_one_in_twenty_fails_at_most() -> None:
    quick = [Canary(seed) for seed in range(150)]
    long = [held(Canary(seed), *LONG_STEPS) for seed in range(150, 200)]

    states = [canary.run(3600).state for canary in (*quick, *long)]

    failed = sum(state is RolloutState.FAILED for state in states)
    done = sorted(canary.now_s for canary in quick)
    took = f"the default steps take {done[75]:.0f} s (median) at 200 requests/s"
    print(f"\n200 A/A canaries: {failed} failed; {took}")
    assert failed <= 10
    assert states.count(RolloutState.SUCCEEDED) == 200 - failed


def test_the_same_canaries_fail_often_under_a_test_that_may_be_looked_at_once() -> None:
    """What the simulation is for: it does find a rule that does not hold under many looks."""
    failed = 0
    for seed in range(100):
        canary, alarms = held(Canary(seed, gates=LABELS_ONLY), Step(50, 120.0, 1), Step(100, 0.0, 1)), 0
        settle = canary.evidence.settle

        def look(canary: Canary = canary, settle: object = settle) -> None:
            nonlocal alarms
            settle()  # type: ignore[operator]
            alarms += one_sided_p(canary) < 0.05

        canary.evidence.settle = look  # type: ignore[method-assign]
        canary.run(120)
        failed += alarms > 0

    assert failed > 15


def one_sided_p(canary: Canary) -> float:
    seen = canary.evidence.labelled
    if not (seen.count and seen.stable_count):
        return 1.0
    pooled = (seen.hits + seen.stable_hits) / (seen.count + seen.stable_count)
    spread = math.sqrt(pooled * (1 - pooled) * (1 / seen.count + 1 / seen.stable_count))
    if not spread:
        return 1.0
    z = (seen.hits / seen.count - seen.stable_hits / seen.stable_count) / spread
    return 0.5 * math.erfc(z / math.sqrt(2))


def test_two_swapped_classes_are_always_rolled_back_by_late_labels_alone() -> None:
    draws = np.random.default_rng(4)
    canaries = []
    for seed in range(20):
        one, other = draws.choice(10, 2, replace=False)
        canaries.append(Canary(seed, Behaviour(swapped=(int(one), int(other))), gates=LABELS_ONLY))

    states = [canary.run(3600).state for canary in canaries]

    exposed = sorted(canary.evidence.exposed for canary in canaries)
    print(f"\n20 swaps: rolled back after {exposed[10]} exposed requests (median), {exposed[-1]} (most)")
    assert states == [RolloutState.FAILED] * 20


@pytest.mark.parametrize(("points", "most"), [(1, 60_000), (2, 12_000), (5, 2_000)])
def test_how_many_labels_it_takes_to_stop_a_loss(points: int, most: int) -> None:
    stops = []
    for seed in range(21):
        new = Behaviour(accuracy=0.95 - points / 100)
        canary = held(Canary(seed, new, gates=LABELS_ONLY), Step(50, 1e5, 1), Step(100, 0.0, 1))
        canary.run(1500)
        stops.append(canary.labels if canary.failed else 10**9)

    median = sorted(stops)[10]
    print(f"\na loss of {points} point(s) at 95 %: stopped after {median} labels of the new version (median)")
    assert median < most


@pytest.mark.parametrize(
    ("new", "gate"),
    [
        (Behaviour(error_rate=0.1), "errors"),
        (Behaviour(error_rate=1.0), "errors"),
        (Behaviour(median_ms=12.0), "latency"),
        (Behaviour(accuracy=0.75), "quality"),
    ],
)
def test_each_kind_of_trouble_is_found_by_its_gate(new: Behaviour, gate: str) -> None:
    canaries = [Canary(seed, new) for seed in range(5)]

    ended = [canary.run(3600) for canary in canaries]

    assert [one.state for one in ended] == [RolloutState.FAILED] * 5
    assert all(f"{gate}: " in one.state_reason for one in ended)


def test_a_version_that_favours_one_class_is_found_by_the_shift_alone() -> None:
    only_shift = replace(LABELS_ONLY, quality=OFF, shift=Gate(margin=0.1, min_count=10))
    canary = Canary(1, Behaviour(accuracy=0.4), gates=only_shift, classes=3)
    rows = canary._rows

    def favours(version: Behaviour, count: int, swing: float) -> domain.Rows:
        made = rows(version, count, swing)
        return replace(made, by_class={"c0": made.count}) if version.accuracy < 0.5 else made

    canary._rows = favours  # type: ignore[method-assign]
    ended = canary.run(600)

    assert ended.state is RolloutState.FAILED
    assert "shift" in ended.state_reason


def test_without_labels_no_live_step_is_passed_however_long() -> None:
    ended = Canary(1, label_share=0.0).run(1200)

    assert (ended.state, ended.step) == (RolloutState.RUNNING, 1)
    assert "quality: 0 of 10 observations" in ended.verdict.reason  # type: ignore[union-attr]


def test_without_traffic_nothing_is_passed_and_the_hold_ends_as_configured() -> None:
    silent = Canary(1, requests_per_s=0.0)
    silent.rollout = replace(silent.rollout, steps=tuple(replace(s, max_hold_s=30.0) for s in DEFAULT_STEPS))

    ended = silent.run(600)

    assert (ended.state, ended.step) == (RolloutState.PAUSED, 0)
    assert ended.state_reason.startswith("held at 0 % for 30 s: 0 of 50 requests")
