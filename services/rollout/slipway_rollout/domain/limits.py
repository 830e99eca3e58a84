"""What a rollout may ask for."""

from slipway_runtime.errors import InvalidArgument

from slipway_rollout.domain.endpoints import MAX_TEXT
from slipway_rollout.domain.rollouts import Gate, Rollout, Step

MAX_STEPS = 50
MAX_SECONDS = 90 * 86_400.0


def checked_reason(value: str) -> str:
    """Return the text, checked."""
    if len(value) > MAX_TEXT or "\0" in value:
        raise InvalidArgument.field("reason", f"has {len(value)} characters; at most {MAX_TEXT}, no NUL")
    return value


def checked_rollout(rollout: Rollout) -> Rollout:
    """Return the rollout, its steps, gates and limits checked.

    Raises:
        InvalidArgument: Something is out of range; field, value and remedy are named.
    """
    _check_steps(rollout.steps)
    for name in ("errors", "latency", "shift", "quality"):
        _check_gate(f"rollout.gates.{name}", getattr(rollout.gates, name))
    _within("rollout.alpha", rollout.alpha, 1e-6, 0.5)
    _within("rollout.ready_timeout_s", rollout.ready_timeout_s, 0.1, MAX_SECONDS)
    _within("rollout.gates.max_error_rate", rollout.gates.max_error_rate, 0.001, 1)
    _within("rollout.gates.max_p99_ms", rollout.gates.max_p99_ms, 0, 1e7)
    _within("rollout.gates.min_accuracy", rollout.gates.min_accuracy, 0, 0.999)
    return rollout


def _check_steps(steps: tuple[Step, ...]) -> None:
    weights = [step.weight for step in steps]
    if len(steps) > MAX_STEPS or weights != sorted(set(weights)) or weights[-1] != 100 or weights[0] < 0:
        remedy = f"at most {MAX_STEPS}, ascending from 0 (shadow) or more, the last 100"
        raise InvalidArgument.field("rollout.steps", f"have the weights {weights}; {remedy}")
    for index, step in enumerate(steps):
        where = f"rollout.steps[{index}]"
        _within(f"{where}.min_duration_s", step.min_duration_s, 0, MAX_SECONDS)
        _within(f"{where}.max_hold_s", step.max_hold_s, 0.1, MAX_SECONDS)
        _within(f"{where}.min_count", step.min_count, 1, 1e12)
        _within(f"{where}.shadow_percent", step.shadow_percent, 0, 100)


def _check_gate(where: str, gate: Gate) -> None:
    _within(f"{where}.margin", gate.margin, 0, 0.9)
    _within(f"{where}.min_count", gate.min_count, 0, 1e12)
    _within(f"{where}.tolerance", gate.tolerance, 0, 0.9)
    _within(f"{where}.evidence_weight", gate.evidence_weight, 0, 100)
    if 0 < gate.tolerance <= gate.margin:
        text = f"{gate.tolerance:g} is not above the margin {gate.margin:g}; use a larger one, or 0 for none"
        raise InvalidArgument.field(f"{where}.tolerance", text)


def _within(field: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InvalidArgument.field(field, f"{value:g} is not between {low:g} and {high:g}")
