"""Rollouts: the steps, what they are judged by, and what may happen to them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from slipway_runtime.errors import FailedPrecondition, InvalidArgument, NotFound

from slipway_rollout.domain.endpoints import Endpoint, State, shadow, split
from slipway_rollout.domain.verdicts import Decision, Verdict

_ROLLOUT = re.compile(r"endpoints/([^/]+)/rollouts/([1-9][0-9]{0,8})")


class RolloutState(StrEnum):
    """How far a rollout is."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    ABORTED = "ABORTED"

    @property
    def ended(self) -> bool:
        """Whether nothing comes after it."""
        return self in (RolloutState.SUCCEEDED, RolloutState.FAILED, RolloutState.ABORTED)


class OnHold(StrEnum):
    """What follows when a step was held for too long."""

    PAUSE = "PAUSE"
    FAIL = "FAIL"


class PausedBy(StrEnum):
    """Who stopped the way up: a FAIL still goes down unless the route is somebody else's."""

    NOBODY = ""
    HAND = "HAND"
    HOLD = "HOLD"
    EDIT = "EDIT"


@dataclass(frozen=True)
class Step:
    """A weight, and what it takes to leave it."""

    weight: int
    min_duration_s: float
    min_count: int
    max_hold_s: float = 3600.0
    on_hold: OnHold = OnHold.PAUSE
    shadow_percent: int = 0


@dataclass(frozen=True)
class Gate:
    """One comparison: margin and tolerance are shares, `evidence_weight` is per cent."""

    off: bool = False
    margin: float = 0.0
    min_count: int = 0
    tolerance: float = 0.0
    evidence_weight: int = 50


@dataclass(frozen=True)
class Gates:
    """What a rollout is judged by; a guardrail of 0 is off, and an error rate of 1."""

    errors: Gate = Gate(margin=0.01, min_count=10)
    latency: Gate = Gate(margin=0.05, min_count=10)
    shift: Gate = Gate(margin=0.1, min_count=10)
    quality: Gate = Gate(margin=0.0, min_count=10, tolerance=0.05)
    disagreement: Gate = Gate()
    max_error_rate: float = 0.2
    max_p99_ms: float = 0.0
    min_accuracy: float = 0.0


DEFAULT_STEPS = (
    Step(0, 2.0, 50),
    Step(1, 3.0, 10),
    Step(5, 3.0, 50),
    Step(25, 3.0, 100),
    Step(50, 3.0, 200),
    Step(100, 2.0, 50),
)


@dataclass(frozen=True)
class Rollout:
    """The way of an endpoint's traffic from its stable version to another one.

    `step_times` says when each step was in force (the database's clock). `settled` is False between a
    decision, which is committed first, and the write of the route that follows it. The step is held since
    `since`. `accepted_route` is the digest of somebody else's route that a person let it overwrite.
    """

    endpoint: str
    model_version: str
    stable_version: str
    number: int = 0
    steps: tuple[Step, ...] = DEFAULT_STEPS
    gates: Gates = field(default_factory=Gates)
    alpha: float = 0.05
    ready_timeout_s: float = 300.0
    state: RolloutState = RolloutState.PENDING
    state_reason: str = ""
    paused_by: PausedBy = PausedBy.NOBODY
    settled: bool = True
    step: int = 0
    step_times: tuple[datetime, ...] = ()
    since: datetime | None = None
    accepted_route: str = ""
    verdict: Verdict | None = None
    exposed: int = 0
    create_time: datetime | None = None
    update_time: datetime | None = None
    end_time: datetime | None = None
    creator: str = ""

    @property
    def name(self) -> str:
        """The resource name."""
        return f"endpoints/{self.endpoint}/rollouts/{self.number}"

    @property
    def active(self) -> bool:
        """Whether it still moves the endpoint's traffic."""
        return not (self.state.ended and self.settled)

    @property
    def subset(self) -> str:
        """Subset of the new version."""
        return "v" + self.model_version.rsplit("/", 1)[1]

    @property
    def stable_subset(self) -> str:
        """Subset of the stable version."""
        return "v" + self.stable_version.rsplit("/", 1)[1]

    @property
    def weight(self) -> int:
        """Per cent of the traffic that the new version shall have now."""
        if self.state is RolloutState.SUCCEEDED:
            return 100
        if self.state in (RolloutState.PENDING, RolloutState.FAILED, RolloutState.ABORTED):
            return 0
        return self.steps[self.step].weight if self.begun else 0

    @property
    def begun(self) -> bool:
        """Whether it came to its first step, or is on the way there."""
        return bool(self.step_times) or (self.state is RolloutState.RUNNING and not self.settled)

    @property
    def shadow_percent(self) -> int:
        """Per cent of the live requests to mirror to the new version now."""
        at_step = self.state in (RolloutState.RUNNING, RolloutState.PAUSED) and self.begun
        step = self.steps[self.step]
        return (step.shadow_percent or 100) if at_step and step.weight == 0 else 0

    def step_at(self, moment: datetime) -> int | None:
        """Return the step in force at a moment; None before the first."""
        reached = [index for index, time in enumerate(self.step_times) if time <= moment]
        return reached[-1] if reached else None


def moved(rollout: Rollout, verdict: Verdict, held_s: float) -> Rollout:
    """Return the rollout after a verdict at a look.

    Args:
        rollout: At a step whose route is in force.
        verdict: On that step.
        held_s: Seconds that the step has been in force.
    """
    rollout = replace(rollout, verdict=verdict)
    if verdict.decision is Decision.FAIL:
        return _ended(rollout, RolloutState.FAILED, verdict.reason)
    if rollout.state is RolloutState.PAUSED:
        return rollout
    step = rollout.steps[rollout.step]
    if verdict.decision is Decision.HOLD:
        if held_s < step.max_hold_s:
            return rollout
        reason = f"held at {step.weight} % for {held_s:.0f} s: {verdict.reason}"
        if step.on_hold is OnHold.FAIL:
            return _ended(rollout, RolloutState.FAILED, reason)
        return replace(rollout, state=RolloutState.PAUSED, paused_by=PausedBy.HOLD, state_reason=reason)
    if rollout.step + 1 == len(rollout.steps):
        return _ended(rollout, RolloutState.SUCCEEDED, verdict.reason)
    return replace(rollout, step=rollout.step + 1, settled=False, state_reason=verdict.reason)


def _ended(rollout: Rollout, state: RolloutState, reason: str) -> Rollout:
    return replace(rollout, state=state, state_reason=reason, paused_by=PausedBy.NOBODY, settled=False)


def placed(endpoint: Endpoint, rollout: Rollout) -> Endpoint:
    """Return the endpoint with weights and mirror as a rollout wants them now.

    Raises:
        InvalidArgument: The version that shall get traffic is not ready.
        NotFound: A version is not served.
    """
    percent = rollout.shadow_percent
    unmirrored = replace(endpoint, shadow="", shadow_percent=0)
    weights = {rollout.stable_subset: 100 - rollout.weight, rollout.subset: rollout.weight}
    if rollout.weight in (0, 100):
        weights = {name: weight for name, weight in weights.items() if weight}
    ready = endpoint.version(rollout.subset).state is State.READY
    placed = split(unmirrored, weights) if rollout.weight else unmirrored.with_weights(weights)
    return shadow(placed, rollout.subset, percent) if percent and ready else placed


def in_force(rollout: Rollout, now: datetime) -> Rollout:
    """Return the rollout whose route was written: as decided, since now."""
    done = replace(rollout, settled=True, since=now, accepted_route="")
    if rollout.state.ended:
        return replace(done, end_time=now)
    if len(rollout.step_times) <= rollout.step:
        return replace(done, step_times=(*rollout.step_times, now))
    return done


def withdrawn(rollout: Rollout) -> Rollout:
    """Return the rollout before its last decision: that cannot be done, its version is not ready any more."""
    if not rollout.step_times:
        return replace(rollout, state=RolloutState.PENDING, settled=True)
    step = min(rollout.step, len(rollout.step_times) - 1)
    return replace(rollout, state=RolloutState.RUNNING, step=step, settled=True)


def begun(rollout: Rollout) -> Rollout:
    """Return the rollout on its way to the first step: its version is ready."""
    return replace(rollout, state=RolloutState.RUNNING, settled=False, state_reason="")


def never_ready(rollout: Rollout, why: str) -> Rollout:
    """Return the rollout as failed because its version did not come up."""
    reason = (
        f"{rollout.model_version} was not ready within {rollout.ready_timeout_s:g} s: {why or 'it starts'}"
    )
    return _ended(rollout, RolloutState.FAILED, reason)


def edited(rollout: Rollout, differs: str) -> Rollout:
    """Return the rollout as paused by somebody else's edit of the route."""
    reason = f"the route was changed by somebody else ({differs}); resume with the endpoint's etag, or abort"
    state = RolloutState.PAUSED
    return replace(rollout, state=state, paused_by=PausedBy.EDIT, state_reason=reason, settled=True)


def paused(rollout: Rollout, reason: str, who: str) -> Rollout:
    """Return the rollout paused by hand.

    Raises:
        FailedPrecondition: It has ended.
    """
    check_running(rollout)
    said = f"paused by {who}" + (f": {reason}" if reason else "")
    by = rollout.paused_by if rollout.paused_by is PausedBy.EDIT else PausedBy.HAND
    return replace(rollout, state=RolloutState.PAUSED, paused_by=by, state_reason=said)


def resumed(rollout: Rollout, accepted_route: str = "") -> Rollout:
    """Return the rollout going on at its step, whose hold time begins anew.

    Args:
        rollout: That is paused.
        accepted_route: Digest of somebody else's route that may be overwritten.

    Raises:
        FailedPrecondition: It has ended, or is not paused.
    """
    check_running(rollout)
    if rollout.state is not RolloutState.PAUSED:
        message = f"{rollout.name} is {rollout.state}, not PAUSED; there is nothing to resume"
        raise FailedPrecondition("ROLLOUT_NOT_PAUSED", message, metadata={"state": rollout.state})
    state = RolloutState.RUNNING if rollout.step_times else RolloutState.PENDING
    settled = not rollout.step_times
    going = replace(rollout, state=state, paused_by=PausedBy.NOBODY, state_reason="", settled=settled)
    return replace(going, accepted_route=accepted_route)


def aborted(rollout: Rollout, reason: str, who: str) -> Rollout:
    """Return the rollout ended with the stable version."""
    check_running(rollout)
    said = f"aborted by {who}" + (f": {reason}" if reason else "")
    return _ended(rollout, RolloutState.ABORTED, said)


def finished(rollout: Rollout, reason: str, who: str) -> Rollout:
    """Return the rollout ended with the new version, whatever the evidence.

    Raises:
        InvalidArgument: No reason is given.
        FailedPrecondition: It has ended, or its version never served.
    """
    check_running(rollout)
    if not reason:
        raise InvalidArgument.field("reason", "is empty; say why the evidence is passed over")
    if not rollout.step_times:
        message = f"{rollout.model_version} is not ready yet; wait until {rollout.name} is RUNNING"
        raise FailedPrecondition("VERSION_NOT_READY", message)
    return _ended(rollout, RolloutState.SUCCEEDED, f"finished by {who}: {reason}")


def check_running(rollout: Rollout) -> None:
    """Refuse verbs on a rollout that has ended.

    Raises:
        FailedPrecondition: It has.
    """
    if rollout.state.ended:
        message = f"{rollout.name} has ended: {rollout.state} ({rollout.state_reason}); create another one"
        raise FailedPrecondition("ROLLOUT_ENDED", message, metadata={"state": rollout.state})


def check_free(running: Rollout | None, what: str) -> None:
    """Refuse what would cross a running rollout.

    Raises:
        FailedPrecondition: One runs.
    """
    if running is None:
        return
    message = (
        f"{running.name} moves the traffic to {running.model_version} (at {running.weight} %), so {what} is "
        "refused; wait until it has ended, or abort or finish it"
    )
    raise FailedPrecondition("ROLLOUT_RUNNING", message, metadata={"rollout": running.name})


def stable_of(endpoint: Endpoint, candidate: str) -> str:
    """Return the version that has all the traffic.

    Raises:
        FailedPrecondition: There is none, or it is the candidate.
    """
    whole = next((version for version in endpoint.versions if version.weight == 100), None)
    if whole is not None and whole.model_version != candidate:
        return whole.model_version
    shares = ", ".join(f"{v.subset}={v.weight}" for v in endpoint.versions if v.weight) or "none"
    remedy = "give one other version 100 first (SetSplit); the first version of an endpoint needs no rollout"
    message = f"{endpoint.name} has no other version with all the traffic (weights: {shares}); {remedy}"
    raise FailedPrecondition("NO_STABLE_VERSION", message)


def parse_rollout(name: str, *, field: str = "name") -> tuple[str, int]:
    """Return endpoint and number in `endpoints/{endpoint}/rollouts/{number}`."""
    match = _ROLLOUT.fullmatch(name)
    if match is None:
        form = "endpoints/{endpoint}/rollouts/{number}"
        raise InvalidArgument.field(field, f"{name!r} is not of the form {form!r}")
    return match[1], int(match[2])


def rollout_not_found(name: str, known: Iterable[str]) -> NotFound:
    """Return the error for an unknown rollout, with near matches."""
    return NotFound.of("ROLLOUT_NOT_FOUND", "rollout", name, known)
