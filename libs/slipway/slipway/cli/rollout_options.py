"""Steps and gates of a rollout as people write them."""

from collections.abc import Iterable, Mapping
from typing import Any

from slipway.cli.accounts import parse_duration
from slipway.client import SlipwayError
from slipway.rollout.v1 import rollout_pb2 as rol

GATES = ("errors", "latency", "shift", "quality", "disagreement")
STEP_TIME, STEP_COUNT = "3s", "50"
ON_HOLD = {"pause": rol.RolloutStep.PAUSE, "fail": rol.RolloutStep.FAIL}


def parse_steps(texts: Iterable[str], *, max_hold_s: float, on_hold: str) -> list[rol.RolloutStep]:
    """Return steps of `PERCENT`, `PERCENT:TIME` or `PERCENT:TIME:COUNT`; `shadow` is 0 %.

    Raises:
        SlipwayError: One is written otherwise, or there is none that could be held.
    """
    if on_hold not in {"", *ON_HOLD}:
        raise _refused(f"--on-hold {on_hold!r} is not known; say one of {', '.join(ON_HOLD)}")
    held = ON_HOLD.get(on_hold, rol.RolloutStep.ON_HOLD_UNSPECIFIED)
    steps = [_step(text, max_hold_s, held) for text in texts]
    if not steps and (max_hold_s or on_hold):
        raise _refused("--max-hold and --on-hold are of the steps that you name: name them with --step")
    return steps


def _step(text: str, max_hold_s: float, on_hold: Any) -> rol.RolloutStep:
    weight, *rest = text.removesuffix("%").split(":")
    weight = "0" if weight == "shadow" else weight.removesuffix("%")
    duration, count, *more = [*rest, *(STEP_TIME, STEP_COUNT)[len(rest) :]]
    if not weight.isdecimal() or int(weight) > 100 or more or not count.isdecimal():
        raise _refused(f"{text!r} is no step; write shadow, PERCENT, PERCENT:TIME or PERCENT:TIME:COUNT")
    return rol.RolloutStep(
        weight=int(weight),
        min_duration_s=parse_duration(duration),
        min_count=int(count),
        max_hold_s=max_hold_s,
        on_hold=on_hold,
    )


def parse_gates(
    off: Iterable[str], changes: Mapping[str, Iterable[str]], guardrails: Mapping[str, float | None]
) -> rol.RolloutGates:
    """Return gates: those switched off, `GATE=VALUE` by field, and guardrails by field.

    Raises:
        SlipwayError: A gate is unknown, or a value is no number.
    """
    gates = rol.RolloutGates()
    for rail, bound in guardrails.items():
        if bound is not None:
            setattr(gates, rail, bound)
    for name in off:
        _gate(gates, name, name).off = True
    for field, texts in changes.items():
        for text in texts:
            name, _, value = text.partition("=")
            gate = _gate(gates, name, text)
            try:
                setattr(gate, field, int(value) if field == "min_count" else float(value))
            except ValueError as error:
                raise _refused(f"{text!r} has no number; write GATE=VALUE, as in quality=0.05") from error
    return gates


def _gate(gates: rol.RolloutGates, name: str, text: str) -> Any:
    if name not in GATES:
        raise _refused(f"{text!r} names no gate; the gates are {', '.join(GATES)}")
    return getattr(gates, name)


def _refused(message: str) -> SlipwayError:
    return SlipwayError("INVALID_ARGUMENT", "INVALID_FIELD", message)


__all__ = ["GATES", "ON_HOLD", "parse_gates", "parse_steps"]
