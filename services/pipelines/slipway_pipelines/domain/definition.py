"""What a definition says: steps, their inputs, parameters and a schedule; and its checks."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from slipway_pipelines.domain.errors import definition_refused, parameter_refused

MAX_STEPS = 200


class Kind(Enum):
    """What kind of function a step is."""

    STEP = "STEP"
    SENSOR = "SENSOR"


@dataclass(frozen=True, kw_only=True)
class Input:
    """What one parameter of a step's function is given: a step's output, a parameter or a constant."""

    name: str
    step: str = ""
    parameter: str = ""
    constant: Any = None
    mapped: bool = False

    @property
    def source(self) -> str:
        """Name of the step or parameter that it comes from; empty for a constant."""
        return self.step or self.parameter


@dataclass(frozen=True, kw_only=True)
class Step:
    """A node of the graph.

    Attributes:
        after: Steps that it is told to run after, beside those whose outputs it takes.
        when: Step or parameter that must be true.
    """

    name: str
    kind: Kind = Kind.STEP
    description: str = ""
    inputs: tuple[Input, ...] = ()
    after: tuple[str, ...] = ()
    when: Input | None = None
    retries: int = 0
    backoff_s: float = 1.0
    timeout_s: float = 3600.0
    poll_s: float = 0.0
    cache: bool = False
    version: str = ""
    line: int = 0

    @property
    def needed(self) -> tuple[str, ...]:
        """Steps whose outputs it needs, each once: it is skipped when one of them was."""
        sources = [*self.inputs, *([self.when] if self.when else [])]
        return tuple(dict.fromkeys(given.step for given in sources if given.step))

    @property
    def upstream(self) -> tuple[str, ...]:
        """Steps that must have ended before it runs, each once."""
        return tuple(dict.fromkeys([*self.needed, *self.after]))

    @property
    def mapped(self) -> Input | None:
        """The input whose list it runs over; None for no fan-out."""
        return next((given for given in self.inputs if given.mapped), None)


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """What a run may be given; `default` counts when it is not `required`."""

    name: str
    required: bool
    default: Any = None


class CatchUp(Enum):
    """What becomes of times that passed while the platform was away."""

    NONE = "NONE"
    LATEST = "LATEST"
    ALL = "ALL"


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """When a pipeline runs by itself."""

    cron: str
    time_zone: str = "UTC"
    catch_up: CatchUp = CatchUp.NONE


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A graph with its parameters. Steps stand in an order in which each comes after what it needs."""

    pipeline: str
    description: str
    steps: tuple[Step, ...]
    parameters: tuple[Parameter, ...]
    schedule: Schedule | None = None

    def step(self, name: str) -> Step:
        """Return a step by name."""
        return next(step for step in self.steps if step.name == name)


@dataclass(frozen=True, kw_only=True)
class Version:
    """A definition as it was uploaded.

    Attributes:
        digest: Of paths, bytes and entry point.
        code_digest: Of paths and bytes.
    """

    digest: str
    code_digest: str
    entry_point: str
    size_bytes: int
    files: tuple[str, ...]
    definition: Definition
    creator: str
    create_time: datetime | None = None

    @property
    def name(self) -> str:
        """Its resource name."""
        return f"pipelines/{self.definition.pipeline}/versions/{self.digest}"


def in_order(steps: Mapping[str, Step]) -> tuple[Step, ...]:
    """Return the steps in an order in which each comes after what it needs, else as they stand.

    Raises:
        InvalidArgument: steps need each other in a ring, which is named.
    """
    ordered: dict[str, Step] = {}
    while len(ordered) < len(steps):
        ready = [
            step
            for name, step in steps.items()
            if name not in ordered and all(needed in ordered for needed in step.upstream)
        ]
        if not ready:
            ring = _ring({name: step.upstream for name, step in steps.items() if name not in ordered})
            message = f"steps need each other in a ring: {' → '.join(ring)}; take one of these inputs out"
            raise definition_refused(message, steps[ring[0]].line)
        ordered |= {step.name: step for step in ready}
    return tuple(ordered.values())


def _ring(needs: Mapping[str, Iterable[str]]) -> list[str]:
    walked = [next(iter(needs))]
    while True:
        nearest = next(name for name in needs[walked[-1]] if name in needs)
        if nearest in walked:
            ring = [*walked[walked.index(nearest) :], nearest]
            return ring[::-1]
        walked.append(nearest)


def resolved(definition: Definition, given: Mapping[str, Any], *, strict: bool) -> dict[str, Any]:
    """Return the value of every parameter: the given one, else the default.

    Args:
        definition: What declares them.
        given: Values by name.
        strict: Refuses names that are not declared; else they are left out.

    Raises:
        InvalidArgument: a name is unknown, or a parameter without default got no value.
    """
    known = {parameter.name: parameter for parameter in definition.parameters}
    for name in given:
        if strict and name not in known:
            near = ", ".join(difflib.get_close_matches(name, known, n=3) or sorted(known)) or "none"
            raise parameter_refused(name, f"{definition.pipeline} declares no such parameter; near: {near}")
    for name, parameter in known.items():
        if parameter.required and name not in given:
            raise parameter_refused(name, f"{definition.pipeline} has no default for it; send a value")
    return {name: given.get(name, parameter.default) for name, parameter in known.items()}
