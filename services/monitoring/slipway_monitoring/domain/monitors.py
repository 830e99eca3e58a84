"""Monitors: what is watched at an endpoint, and what alerts set off there."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from slipway_runtime.errors import InvalidArgument

from slipway_monitoring.domain.alerts import RULES
from slipway_monitoring.domain.drift import DriftReference, DriftSettings

CHANGEABLE = frozenset({"drift", "objectives", "actions"})
MAX_LISTED = 50
_PIPELINE = re.compile(r"pipelines/[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_WEBHOOK = re.compile(r"https?://[^\s/]+(/\S*)?")


class ObjectiveKind(StrEnum):
    """What an objective bounds; the values are the proto's."""

    AVAILABILITY = "AVAILABILITY"
    LATENCY = "LATENCY"
    QUALITY = "QUALITY"

    @property
    def rule(self) -> str:
        """Rule of its alerts."""
        return f"{self.lower()}-burn"


@dataclass(frozen=True)
class BurnRate:
    """An error budget that burns `factor` times too fast over both windows."""

    factor: float
    long_window_s: float
    short_window_s: float


# The Site Reliability Workbook (2018), chapter 5, table 5-8: budgets of 30 days.
WORKBOOK = (BurnRate(14.4, 3600, 300), BurnRate(6, 6 * 3600, 1800), BurnRate(1, 3 * 86_400, 6 * 3600))
WORKBOOK_DAYS = 30


@dataclass(frozen=True)
class Objective:
    """An objective of the service level: a share of calls or rows that must be good."""

    kind: ObjectiveKind
    target: float
    threshold_ms: float = 0.0
    period_days: int = WORKBOOK_DAYS
    burn_rates: tuple[BurnRate, ...] = ()

    @property
    def key(self) -> str:
        """What tells apart what is counted for objectives."""
        return f"latency/{self.threshold_ms:g}" if self.kind is ObjectiveKind.LATENCY else self.kind.lower()

    @property
    def windows(self) -> Sequence[BurnRate]:
        """Return the burn rates that raise an alert: its own, or the workbook's."""
        if self.burn_rates:
            return self.burn_rates
        scale = self.period_days / WORKBOOK_DAYS
        return [BurnRate(w.factor * scale, w.long_window_s, w.short_window_s) for w in WORKBOOK]


@dataclass(frozen=True)
class AlertAction:
    """What an alert of a rule sets off; one of `pipeline` and `webhook` is set. An empty rule means all."""

    rule: str = ""
    pipeline: str = ""
    webhook: str = ""

    @property
    def target(self) -> str:
        """What is called."""
        return self.pipeline or self.webhook


@dataclass(frozen=True)
class MonitorSpec:
    """What can be set."""

    drift: DriftSettings = field(default_factory=DriftSettings)
    objectives: tuple[Objective, ...] = ()
    actions: tuple[AlertAction, ...] = ()


@dataclass(frozen=True)
class Monitor:
    """What is watched at an endpoint; `revision` 0 is the defaults.

    `references` are the accepted ones in force, one per version, the newest first.
    """

    endpoint: str
    spec: MonitorSpec
    revision: int = 0
    update_time: datetime | None = None
    references: Sequence[DriftReference] = ()

    @property
    def name(self) -> str:
        """Resource name."""
        return f"monitors/{self.endpoint}"

    @property
    def etag(self) -> str:
        """Changes with every update."""
        return f"r{self.revision}"


def check_spec(spec: MonitorSpec) -> MonitorSpec:
    """Return it, checked.

    Raises:
        InvalidArgument: A value is not allowed; the text names it and what to write.
    """
    for name, listed in (("objectives", spec.objectives), ("actions", spec.actions)):
        if len(listed) > MAX_LISTED:
            raise InvalidArgument.field(f"monitor.{name}", f"has {len(listed)}; at most {MAX_LISTED}")
    for index, objective in enumerate(spec.objectives):
        _check_objective(f"monitor.objectives[{index}]", objective)
    for index, action in enumerate(spec.actions):
        _check_action(f"monitor.actions[{index}]", action)
    _check_pipelines(spec.actions)
    return spec


def _check_objective(at: str, objective: Objective) -> None:
    if not 0 < objective.target < 1:
        description = f"is {objective.target:g}; give a share between 0 and 1, such as 0.999"
        raise InvalidArgument.field(f"{at}.target", description)
    latency = objective.kind is ObjectiveKind.LATENCY
    if latency != (objective.threshold_ms > 0):
        description = (
            "is for LATENCY, which needs one above 0" if latency else "is for LATENCY alone; leave it 0"
        )
        raise InvalidArgument.field(f"{at}.threshold_ms", description)
    if not 1 <= objective.period_days <= 365:
        raise InvalidArgument.field(
            f"{at}.period_days", f"is {objective.period_days}; give 1 to 365, or 0 for 30"
        )
    for index, rate in enumerate(objective.burn_rates):
        if not (rate.factor > 0 and 0 < rate.short_window_s <= rate.long_window_s <= 30 * 86_400):
            description = "needs factor > 0 and 0 < short_window_s <= long_window_s <= 30 days"
            raise InvalidArgument.field(f"{at}.burn_rates[{index}]", description)


def _check_action(at: str, action: AlertAction) -> None:
    if action.rule and action.rule not in RULES:
        raise InvalidArgument.field(
            f"{at}.rule", f"is {action.rule!r}; rules: {', '.join(RULES)}; empty: all"
        )
    if action.pipeline and not _PIPELINE.fullmatch(action.pipeline):
        raise InvalidArgument.field(f"{at}.pipeline", f"is {action.pipeline!r}; write pipelines/{{pipeline}}")
    if action.webhook and (not _WEBHOOK.fullmatch(action.webhook) or len(action.webhook) > 2000):
        raise InvalidArgument.field(
            f"{at}.webhook", f"is {action.webhook[:200]!r}; write an http or https URL"
        )
    if not action.target:
        raise InvalidArgument.field(at, "does nothing; give a pipeline or a webhook")


def _check_pipelines(actions: Sequence[AlertAction]) -> None:
    """An alert's id is the request_id of the run that it starts, so it can start one."""
    rules = [action.rule for action in actions if action.pipeline]
    if len(rules) > 1 and ("" in rules or len(set(rules)) < len(rules)):
        description = "start two pipelines for one alert; give each rule one pipeline, which may do both"
        raise InvalidArgument.field("monitor.actions", description)
