"""What is decided at a look, and what each gate had to say."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Decision(StrEnum):
    """PASS: on to the next step. FAIL: the traffic goes back. HOLD: neither yet."""

    PASS = "PASS"
    FAIL = "FAIL"
    HOLD = "HOLD"


@dataclass(frozen=True)
class Reading:
    """What one gate had to say; the fields are those of the API's GateReading."""

    gate: str
    decision: Decision
    reason: str = ""
    value: float = 0.0
    bound: float = 0.0
    count: int = 0
    stable_count: int = 0
    e_value: float = 1.0
    fail_at: float = 0.0
    pass_e_value: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """A decision at a step, with its reasons."""

    decision: Decision
    step: int
    weight: int
    reason: str
    readings: tuple[Reading, ...] = ()
    number: int = 0
    create_time: datetime | None = None
    update_time: datetime | None = None

    def repeats(self, other: "Verdict | None") -> bool:
        """Return whether it says the same as another one, values aside: then the log keeps one entry."""
        if other is None or self.decision is not Decision.HOLD:
            return False
        return (self.decision, self.step, _said(self)) == (other.decision, other.step, _said(other))


def _said(verdict: Verdict) -> list[tuple[str, Decision]]:
    return [(reading.gate, reading.decision) for reading in verdict.readings]


@dataclass(frozen=True)
class Traffic:
    """Requests that one version answered since the look before, from the mesh's counters.

    `errors` leaves out what callers cancelled; `server_errors` also what callers did wrong. `by_latency`
    counts by the upper bound of a bucket in milliseconds (infinity for the last), each bucket alone.
    """

    count: int = 0
    errors: int = 0
    server_errors: int = 0
    by_latency: Mapping[float, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Rows:
    """Predicted rows of one version that arrived since the look before."""

    count: int = 0
    by_class: Mapping[str, int] = field(default_factory=dict)
    labelled: int = 0
    correct: int = 0

    def with_more(self, other: "Rows") -> "Rows":
        """Return these and the other's."""
        names = {*self.by_class, *other.by_class}
        return Rows(
            count=self.count + other.count,
            by_class={name: self.by_class.get(name, 0) + other.by_class.get(name, 0) for name in names},
            labelled=self.labelled + other.labelled,
            correct=self.correct + other.correct,
        )


@dataclass(frozen=True)
class Counters:
    """The mesh's counters at a moment: they only grow, until their process starts again.

    `started` is when it started, in Unix seconds, or 0 where each series tells by itself. Keys are
    `{arm} {kind} {series}`: the arm is `stable`, `new` or `shadow`, the kind a grpc-status (`grpc-14`) or the
    upper bound of a cumulative bucket in milliseconds (`le-25`, `le-inf`).
    """

    values: Mapping[str, float]
    started: float = 0.0


@dataclass(frozen=True)
class Outcomes:
    """What arrived at monitoring for one version and one second.

    `shadow` says that nobody saw the answers.
    """

    moment: datetime
    model_version: str
    shadow: bool
    rows: Rows


@dataclass(frozen=True)
class Arrivals:
    """What arrived at monitoring since a cursor."""

    outcomes: tuple[Outcomes, ...] = ()
    cursor: str = ""
    pairs: int = 0
    disagreements: int = 0


@dataclass(frozen=True)
class Serving:
    """A version's weight over a stretch of time; `end_time` is None while it is in force."""

    model_version: str
    weight: int
    start_time: datetime
    end_time: datetime | None
    actor: str
    reason: str
