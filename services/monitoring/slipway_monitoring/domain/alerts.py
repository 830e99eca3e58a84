"""Alerts, silences, and what alerts set off."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from slipway_runtime.errors import InvalidArgument

INPUT_DRIFT, MODEL_DRIFT = "input-drift", "model-drift"
DOWNTIME, EVENTS_LOST = "downtime", "events-lost"
RULES = (
    INPUT_DRIFT,
    MODEL_DRIFT,
    "availability-burn",
    "latency-burn",
    "quality-burn",
    DOWNTIME,
    EVENTS_LOST,
)
FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 300.0


class AlertState(StrEnum):
    """Where an alert stands; the values are the proto's."""

    FIRING = "FIRING"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    RESOLVED = "RESOLVED"


@dataclass(frozen=True)
class Finding:
    """Whether a rule holds now, for a version of an endpoint or (empty) for the endpoint.

    `start_time` and `end_time` bound the predictions that it is about.
    """

    endpoint: str
    rule: str
    holds: bool
    model_version: str = ""
    summary: str = ""
    evidence: str = ""
    start_time: datetime | None = None
    end_time: datetime | None = None


@dataclass(frozen=True)
class ActionOutcome:
    """What became of an action; `result` is empty while it is tried."""

    target: str
    result: str
    error: str
    attempt_count: int


@dataclass(frozen=True)
class Alert:
    """Something that people should know."""

    id: str
    serial: int
    endpoint: str
    rule: str
    model_version: str
    state: AlertState
    summary: str
    evidence: str
    create_time: datetime
    last_seen_time: datetime
    seen_count: int
    acknowledged_by: str
    comment: str
    resolve_time: datetime | None
    start_time: datetime | None
    end_time: datetime | None
    silenced: bool = False
    actions: Sequence[ActionOutcome] = ()

    @property
    def name(self) -> str:
        """Resource name."""
        return f"alerts/{self.id}"

    @property
    def runbook(self) -> str:
        """Page of the repository that says what to do."""
        return f"docs/runbooks/{self.rule}.md"


@dataclass(frozen=True)
class DueAction:
    """An action that is to be tried now; every try sends the same payload."""

    alert: str
    kind: str
    target: str
    payload: Mapping[str, object]
    attempt: int


@dataclass(frozen=True)
class Silence:
    """Quiet for a rule of an endpoint; empty means all."""

    endpoint: str
    rule: str
    end_time: datetime
    comment: str
    id: str = ""
    serial: int = 0
    creator: str = ""
    create_time: datetime = field(default_factory=lambda: datetime.min)

    @property
    def name(self) -> str:
        """Resource name."""
        return f"silences/{self.id}"

    @property
    def monitor(self) -> str:
        """`monitors/{endpoint}`, or nothing for all."""
        return f"monitors/{self.endpoint}" if self.endpoint else ""


def check_rule(field_name: str, rule: str) -> str:
    """Return the rule, which may be empty.

    Raises:
        InvalidArgument: There is no such rule.
    """
    if rule and rule not in RULES:
        raise InvalidArgument.field(field_name, f"is {rule!r}; rules: {', '.join(RULES)}; empty: all")
    return rule


def retry_after_s(attempt: int) -> float:
    """Return how long to wait after so many tries without success."""
    return float(min(FIRST_RETRY_S * 2 ** min(attempt - 1, 16), LONGEST_RETRY_S))
