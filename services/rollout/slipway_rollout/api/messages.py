"""Rollouts, verdicts and servings between proto and domain."""

from dataclasses import replace

from slipway.rollout.v1 import rollout_pb2 as pb
from slipway_runtime.errors import InvalidArgument
from slipway_runtime.rpc import timestamp

from slipway_rollout.domain import (
    DEFAULT_STEPS,
    Gate,
    Gates,
    OnHold,
    Reading,
    Rollout,
    Serving,
    Step,
    Verdict,
)

_COMPARISONS = ("errors", "latency", "shift", "quality", "disagreement")
_ON_HOLD = {pb.RolloutStep.ON_HOLD_UNSPECIFIED: OnHold.PAUSE, pb.RolloutStep.PAUSE: OnHold.PAUSE,
            pb.RolloutStep.FAIL: OnHold.FAIL}  # fmt: skip


def asked_rollout(asked: pb.Rollout, ready_timeout_s: float) -> Rollout:
    """Return what was asked for; what is unset takes its default.

    Raises:
        InvalidArgument: An enum has a value that there is not.
    """
    return Rollout(
        endpoint="",
        model_version=asked.model_version,
        stable_version="",
        steps=tuple(_asked_step(step) for step in asked.steps) or DEFAULT_STEPS,
        gates=_asked_gates(asked.gates),
        alpha=asked.alpha or Rollout.alpha,
        ready_timeout_s=asked.ready_timeout_s or ready_timeout_s,
    )


def _asked_step(step: pb.RolloutStep) -> Step:
    if step.on_hold not in _ON_HOLD:
        raise InvalidArgument.field("rollout.steps.on_hold", f"{step.on_hold} is unknown; use PAUSE or FAIL")
    return Step(
        weight=step.weight,
        min_duration_s=step.min_duration_s,
        min_count=step.min_count,
        max_hold_s=step.max_hold_s or Step.max_hold_s,
        on_hold=_ON_HOLD[step.on_hold],
        shadow_percent=step.shadow_percent,
    )


def _asked_gates(asked: pb.RolloutGates) -> Gates:
    usual = Gates()
    gates = {name: _asked_gate(getattr(asked, name), getattr(usual, name)) for name in _COMPARISONS}
    return replace(
        usual,
        **gates,
        max_error_rate=asked.max_error_rate or usual.max_error_rate,
        max_p99_ms=asked.max_p99_ms,
        min_accuracy=asked.min_accuracy,
    )


def _asked_gate(asked: pb.Gate, usual: Gate) -> Gate:
    names = ("margin", "min_count", "tolerance", "evidence_weight")
    given = {name: getattr(asked, name) for name in names if asked.HasField(name)}
    return replace(usual, off=asked.off, **given)


def rollout(one: Rollout) -> pb.Rollout:
    """Return a rollout as proto."""
    return pb.Rollout(
        name=one.name,
        model_version=one.model_version,
        stable_version=one.stable_version,
        steps=[_step(step) for step in one.steps],
        gates=_gates(one.gates),
        alpha=one.alpha,
        ready_timeout_s=one.ready_timeout_s,
        state=one.state.value,
        state_reason=one.state_reason,
        settled=one.settled,
        step=one.step,
        weight=one.weight,
        verdict=verdict(one.verdict) if one.verdict else None,
        create_time=timestamp(one.create_time),
        step_time=timestamp(one.step_times[-1] if one.step_times else None),
        end_time=timestamp(one.end_time),
        creator=one.creator,
        exposed_count=one.exposed,
    )


def _step(step: Step) -> pb.RolloutStep:
    return pb.RolloutStep(
        weight=step.weight,
        min_duration_s=step.min_duration_s,
        min_count=step.min_count,
        max_hold_s=step.max_hold_s,
        on_hold=step.on_hold.value,
        shadow_percent=step.shadow_percent,
    )


def _gates(gates: Gates) -> pb.RolloutGates:
    compared = {name: _gate(getattr(gates, name)) for name in _COMPARISONS}
    return pb.RolloutGates(
        **compared,
        max_error_rate=gates.max_error_rate,
        max_p99_ms=gates.max_p99_ms,
        min_accuracy=gates.min_accuracy,
    )


def _gate(gate: Gate) -> pb.Gate:
    return pb.Gate(
        off=gate.off,
        margin=gate.margin,
        min_count=gate.min_count,
        tolerance=gate.tolerance,
        evidence_weight=gate.evidence_weight,
    )


def verdict(one: Verdict) -> pb.Verdict:
    """Return a verdict as proto."""
    return pb.Verdict(
        number=one.number,
        decision=one.decision.value,
        step=one.step,
        weight=one.weight,
        reason=one.reason,
        gates=[_reading(reading) for reading in one.readings],
        create_time=timestamp(one.create_time),
        update_time=timestamp(one.update_time),
    )


def _reading(reading: Reading) -> pb.GateReading:
    return pb.GateReading(
        gate=reading.gate,
        decision=reading.decision.value,
        value=reading.value,
        bound=reading.bound,
        count=reading.count,
        stable_count=reading.stable_count,
        e_value=reading.e_value,
        fail_at=reading.fail_at,
        pass_e_value=reading.pass_e_value,
        reason=reading.reason,
    )


def serving(one: Serving) -> pb.Serving:
    """Return a serving as proto."""
    return pb.Serving(
        model_version=one.model_version,
        weight=one.weight,
        start_time=timestamp(one.start_time),
        end_time=timestamp(one.end_time),
        actor=one.actor,
        reason=one.reason,
    )
