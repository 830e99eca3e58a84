"""What a run does next: a pure function of its definition and of how far its steps are."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slipway_pipelines.domain.definition import Definition, Input, Step
from slipway_pipelines.domain.runs import MAX_ITEMS, RunState, StepState

FAILED = {StepState.FAILED, StepState.UPSTREAM_FAILED, StepState.CANCELLED}
States = Mapping[str, Mapping[int, StepState]]  # step → index → state
Outputs = Callable[[str], Any]  # step → its output, a list in the order of the items for a fan-out


@dataclass(frozen=True)
class Moves:
    """What is due.

    Attributes:
        expand: Steps whose list is there, with its length: the one blocked row becomes as many.
        ready: Rows whose inputs are there.
        end: Rows that end without running, with state and why.
    """

    expand: dict[str, int] = field(default_factory=dict)
    ready: list[tuple[str, int]] = field(default_factory=list)
    end: dict[tuple[str, int], tuple[StepState, str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether anything is due."""
        return bool(self.expand or self.ready or self.end)


def moves(definition: Definition, states: States, parameters: Mapping[str, Any], outputs: Outputs) -> Moves:
    """Return what is due now. The caller makes it so and asks again, until nothing is."""
    due = Moves()
    for step in definition.steps:
        blocked = [index for index, state in states[step.name].items() if state is StepState.BLOCKED]
        if blocked and all(_ended(states[name]) for name in step.upstream):
            _move(step, blocked, states, _Values(parameters, outputs), due)
    return due


def _move(step: Step, blocked: list[int], states: States, values: "_Values", due: Moves) -> None:
    end = _end_without_running(step, states, values)
    mapped = step.mapped
    if end is None and mapped is not None and blocked == [-1]:
        items = values.of(mapped)
        if isinstance(items, list) and len(items) <= MAX_ITEMS:
            due.expand[step.name] = len(items)
            return
        end = StepState.FAILED, _no_list(mapped, items)
    if end is None:
        due.ready.extend((step.name, index) for index in blocked)
    else:
        due.end.update({(step.name, index): end for index in blocked})


def _end_without_running(step: Step, states: States, values: "_Values") -> tuple[StepState, str] | None:
    for name in step.upstream:
        if FAILED & set(states[name].values()):
            return StepState.UPSTREAM_FAILED, f"'{name}' failed"
    for name in step.needed:
        if set(states[name].values()) == {StepState.SKIPPED}:
            return StepState.SKIPPED, f"'{name}' was skipped"
    if step.when is not None and not values.of(step.when):
        return StepState.SKIPPED, f"'{step.when.source}' is not true"
    return None


def _ended(items: Mapping[int, StepState]) -> bool:
    return all(state.ended for state in items.values())


def _no_list(mapped: Input, items: Any) -> str:
    if isinstance(items, list):
        return f"'{mapped.source}' has {len(items)} items, at most {MAX_ITEMS} are run; make fewer"
    return f"'{mapped.source}' is {json.dumps(items)[:80]} and no list; .map runs over a list"


@dataclass(frozen=True)
class _Values:
    parameters: Mapping[str, Any]
    outputs: Outputs

    def of(self, given: Input) -> Any:
        if given.step:
            return self.outputs(given.step)
        return self.parameters[given.parameter] if given.parameter else given.constant


def inputs(step: Step, index: int, parameters: Mapping[str, Any], outputs: Outputs) -> dict[str, Any]:
    """Return what a step's function is given; `index` picks the item of a fan-out."""
    values = _Values(parameters, outputs)
    given = {one.name: values.of(one) for one in step.inputs}
    if step.mapped is not None:
        given[step.mapped.name] = given[step.mapped.name][index]
    return given


def cache_key(code_digest: str, step: Step, given: Mapping[str, Any]) -> str:
    """Return the digest of all that an output depends on: code, step, inputs and declared version."""
    parts = [code_digest, step.name, step.version, dict(given)]
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=32).hexdigest()


def outcome(definition: Definition, states: States, cancelled: bool) -> RunState | None:
    """Return how a run has ended; None while it goes on."""
    found: Sequence[StepState] = [state for items in states.values() for state in items.values()]
    if not all(state.ended for state in found):
        return None
    if cancelled:
        return RunState.CANCELLED
    return RunState.FAILED if FAILED & set(found) else RunState.SUCCEEDED
