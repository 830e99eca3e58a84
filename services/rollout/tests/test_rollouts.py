"""Steps, states and limits of a rollout."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from slipway_rollout import domain
from slipway_rollout.domain import (
    Arrivals,
    Decision,
    Endpoint,
    Gate,
    Gates,
    OnHold,
    Outcomes,
    PausedBy,
    Rollout,
    RolloutState,
    Rows,
    ServedVersion,
    State,
    Step,
    Verdict,
)
from slipway_rollout.usecases.judging import rows_by_step
from slipway_runtime.errors import FailedPrecondition, InvalidArgument

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
STEPS = (Step(0, 1, 1), Step(10, 1, 1), Step(100, 1, 1))


def rollout(step: int = 0, state: RolloutState = RolloutState.RUNNING, **fields: object) -> Rollout:
    times = tuple(NOON + timedelta(minutes=number) for number in range(step + 1))
    made = Rollout("e", "models/m/versions/2", "models/m/versions/1", 1, STEPS, state=state, step=step)
    return replace(made, step_times=times, **fields)  # type: ignore[arg-type]


def verdict(decision: Decision) -> Verdict:
    return Verdict(decision, 0, 0, "because")


def served(number: int, weight: int, state: State = State.READY) -> ServedVersion:
    return ServedVersion(f"models/m/versions/{number}", weight, state, routed=True)


@pytest.mark.parametrize(
    ("step", "decision", "state", "weight", "settled"),
    [
        (0, Decision.PASS, RolloutState.RUNNING, 10, False),
        (1, Decision.PASS, RolloutState.RUNNING, 100, False),
        (2, Decision.PASS, RolloutState.SUCCEEDED, 100, False),
        (1, Decision.HOLD, RolloutState.RUNNING, 10, True),
        (1, Decision.FAIL, RolloutState.FAILED, 0, False),
        (2, Decision.FAIL, RolloutState.FAILED, 0, False),
    ],
)
def test_a_verdict_moves_a_rollout(
    step: int, decision: Decision, state: RolloutState, weight: int, settled: bool
) -> None:
    after = domain.moved(rollout(step), verdict(decision), 5.0)

    assert (after.state, after.weight, after.settled) == (state, weight, settled)


def test_a_pause_stops_the_way_up_and_not_the_way_down() -> None:
    paused = domain.paused(rollout(1), "", "users/ann")

    assert domain.moved(paused, verdict(Decision.PASS), 5.0).step == 1
    assert domain.moved(paused, verdict(Decision.FAIL), 5.0).state is RolloutState.FAILED


@pytest.mark.parametrize(
    ("on_hold", "state"), [(OnHold.PAUSE, RolloutState.PAUSED), (OnHold.FAIL, RolloutState.FAILED)]
)
def test_a_step_that_is_held_for_too_long_ends_as_configured(on_hold: OnHold, state: RolloutState) -> None:
    held = replace(rollout(), steps=tuple(replace(s, max_hold_s=60.0, on_hold=on_hold) for s in STEPS))

    assert domain.moved(held, verdict(Decision.HOLD), 59.0).state is RolloutState.RUNNING
    assert domain.moved(held, verdict(Decision.HOLD), 61.0).state is state


def test_the_endpoint_follows_the_step() -> None:
    before = Endpoint("e", "models/m", versions=(served(1, 100), served(2, 0)))
    shadow = domain.placed(before, rollout(0))

    tenth = domain.placed(shadow, rollout(1))
    back = domain.placed(tenth, rollout(1, RolloutState.FAILED))

    assert (shadow.weights, shadow.shadow, shadow.shadow_percent) == ({"v1": 100, "v2": 0}, "v2", 100)
    assert (tenth.weights, tenth.shadow) == ({"v1": 90, "v2": 10}, "")
    assert (back.weights, back.shadow) == ({"v1": 100, "v2": 0}, "")


def test_a_version_that_is_not_ready_gets_no_traffic_and_loses_it_all_the_same() -> None:
    before = Endpoint("e", "models/m", versions=(served(1, 90), served(2, 10, State.FAILED)))

    with pytest.raises(InvalidArgument, match="not READY"):
        domain.placed(before, rollout(1))
    assert domain.placed(before, rollout(1, RolloutState.FAILED)).weights == {"v1": 100, "v2": 0}


def test_a_move_that_cannot_be_done_is_withdrawn() -> None:
    moving = domain.moved(rollout(0), verdict(Decision.PASS), 5.0)

    withdrawn = domain.withdrawn(moving)

    assert (withdrawn.step, withdrawn.settled, withdrawn.state) == (0, True, RolloutState.RUNNING)


def test_an_observation_belongs_to_the_step_of_its_time() -> None:
    moments = (NOON - timedelta(seconds=1), NOON, NOON + timedelta(seconds=61), NOON + timedelta(hours=1))

    assert [rollout(2).step_at(moment) for moment in moments] == [None, 0, 1, 2]


def test_what_was_answered_before_the_first_route_was_noted_belongs_to_the_first_step() -> None:
    running = rollout(0, steps=STEPS[1:], create_time=NOON - timedelta(seconds=9))
    moments = [NOON - timedelta(seconds=seconds) for seconds in (20, 5)]
    new, stable = (
        [Outcomes(moment, name, False, Rows(3)) for moment in moments]
        for name in (running.model_version, running.stable_version)
    )

    found = rows_by_step(running, Arrivals((*new, *stable)))

    assert found == {0: (Rows(), Rows(3))}


def test_a_resume_after_an_edit_overwrites_what_the_person_saw_and_nothing_else() -> None:
    edited = domain.edited(rollout(1), "v2=40")

    resumed = domain.resumed(edited, "digest")

    assert edited.paused_by is PausedBy.EDIT
    assert (resumed.state, resumed.settled, resumed.accepted_route) == (RolloutState.RUNNING, False, "digest")


def test_what_has_ended_is_neither_paused_nor_finished() -> None:
    ended = rollout(1, RolloutState.FAILED)

    for verb in (domain.paused, domain.aborted, domain.finished):
        with pytest.raises(FailedPrecondition, match="has ended"):
            verb(ended, "why", "users/ann")
    with pytest.raises(FailedPrecondition, match="has ended"):
        domain.resumed(ended)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"steps": (Step(5, 1, 1),)}, "rollout.steps"),
        ({"steps": (Step(50, 1, 1), Step(20, 1, 1), Step(100, 1, 1))}, "rollout.steps"),
        ({"steps": (Step(100, 1, 0),)}, "rollout.steps[0].min_count"),
        ({"steps": (Step(100, -1, 1),)}, "rollout.steps[0].min_duration_s"),
        ({"steps": (Step(100, float("nan"), 1),)}, "rollout.steps[0].min_duration_s"),
        ({"alpha": 0.9}, "rollout.alpha"),
        ({"gates": Gates(shift=Gate(margin=2.0))}, "rollout.gates.shift.margin"),
        ({"gates": Gates(quality=Gate(margin=0.1, tolerance=0.05))}, "rollout.gates.quality.tolerance"),
        ({"gates": Gates(min_accuracy=1.0)}, "rollout.gates.min_accuracy"),
    ],
)
def test_what_is_out_of_range_names_the_field(asked: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        domain.checked_rollout(replace(rollout(), **asked))  # type: ignore[arg-type]

    assert caught.value.violations[0].field == field


def test_the_defaults_are_allowed() -> None:
    usual = Rollout("e", "models/m/versions/2", "models/m/versions/1")

    assert domain.checked_rollout(usual) == usual
