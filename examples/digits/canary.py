"""Third act, (1) to (3): a better version is rolled out, a wrong one rolled back; no traffic, no decision."""

import random
import time
from typing import TYPE_CHECKING, Any

from flow import Flow, flow, of_split, short
from gates import expect, judge, name_champion
from labelling import Labels
from learning import train
from slipway.registry.v1 import registry_pb2 as reg
from slipway.rollout.v1 import rollout_pb2 as rol

if TYPE_CHECKING:
    from story import Story

POLICY = """\
evaluation: {split: test, minimum_examples: 100}
thresholds: {accuracy: {min: 0.5}}
regression: {alias: champion, alpha: 0.05, by_label: true, minimum_slice: 5}
latency: {max_ratio: 3.0}
"""
# Per cent, seconds at least, requests of the new version at least.
STEPS = ((0, 2.0, 5), (5, 3.0, 20), (25, 3.0, 50), (50, 3.0, 100), (100, 0.0, 1))
HOLD_S = 6.0
SETTLED_S = 2.0
ROLLED_WITHIN_S = 150.0
ROLLED = (rol.Rollout.SUCCEEDED, rol.Rollout.FAILED, rol.Rollout.ABORTED)


def rolled_out(story: "Story", labels: Labels) -> None:
    """(1) v2 is judged, goes through the canary on live traffic with late labels, and gets all of it."""
    with story.steps.step("canary: a better version") as step:
        candidate, champion = story.versions[1].name, labels.active.version.name
        story.client.registry.SetGatePolicy(
            reg.SetGatePolicyRequest(parent=f"models/{story.plot.name}", yaml=POLICY)
        )
        approve(story, candidate, champion)
        with flow(story, of_split(story, "validation"), rate=story.plot.rate) as traffic:
            ended, shares = _roll(story, candidate, rol.RolloutGates(), traffic)
            report = traffic.end()
        verdicts = list(reversed(_verdicts(story, ended.name)))
        passed = [v for v in verdicts if v.decision == rol.Verdict.PASS]
        for weight, (share, n) in shares.items():
            step.figures |= {f"measured_at_{weight}": share, f"n_at_{weight}": n}
        step.figures |= {
            "verdicts_passed": len(passed),
            "failed_requests": sum(report["errors"].values()),
            "requests": sum(report["answers"].values()),
        }
        step.headline = f"{candidate} has all traffic; " + ", ".join(
            f"{weight} %: {100 * share:.1f} % of {n}" for weight, (share, n) in shares.items()
        )
        for verdict in passed:
            story.steps.console.print(f"   {verdict.weight:3d} % PASS: {_told(verdict)}")
        if ended.state != rol.Rollout.SUCCEEDED or step.figures["failed_requests"]:
            raise AssertionError(
                f"{rol.Rollout.State.Name(ended.state)}: {ended.state_reason}; {report['errors']}"
            )
        name_champion(story, candidate)


def rolled_back(story: "Story", labels: Labels) -> None:
    """(2) v3 swaps two classes, drawn by lot; an override lets it pass the gate; late labels end it."""
    with story.steps.step("canary: a wrong version") as step:
        one, other = random.sample(range(len(labels.classes)), 2)
        wrong = train(
            story,
            {**story.plot.second, "one": one, "other": other},
            "v3",
            entry_point="task.py:SwapsTwoClasses",
        )
        approve(story, wrong.name, story.versions[1].name, override=True)
        off = rol.Gate(off=True)  # late labels alone shall find it
        gates = rol.RolloutGates(errors=off, latency=off, shift=off, disagreement=off)
        with flow(story, of_split(story, "validation"), rate=story.plot.rate) as traffic:
            ended, _ = _roll(story, wrong.name, gates, traffic)
            at_zero = _no_more_of(traffic, wrong.name)
            report = traffic.end()
        verdict = next(v for v in _verdicts(story, ended.name) if v.decision == rol.Verdict.FAIL)
        quality = next(gate for gate in verdict.gates if gate.gate == "quality")
        exposed = report["answers"].get(short(wrong.name), 0)
        to_zero = max(0.0, at_zero - verdict.create_time.ToMilliseconds() / 1e3)
        step.figures |= {
            "exposed_requests": exposed,
            "labels_of_it": quality.count,
            "e_value": quality.e_value,
            "seconds_from_verdict_to_no_traffic": round(_weight_zero_s(story, wrong.name, verdict), 3),
            "seconds_until_no_caller_saw_it": round(to_zero, 2),
        }
        step.headline = (
            f"{labels.classes[one]} and {labels.classes[other]} swapped: FAIL at {verdict.weight} % by "
            f"{quality.count} late labels (e = {quality.e_value:.0f}); {exposed} requests saw it, "
            f"weight 0 after {step.figures['seconds_from_verdict_to_no_traffic']} s"
        )
        if ended.state != rol.Rollout.FAILED:
            raise AssertionError(f"a wrong version ended as {rol.Rollout.State.Name(ended.state)}")


def held(story: "Story", labels: Labels) -> None:
    """(3) Without traffic there is no evidence, and so no decision: HOLD, until somebody aborts."""
    with story.steps.step("canary: no traffic") as step:
        candidate = labels.active.version.name
        made = _create(story, candidate, rol.RolloutGates())
        stop_at = time.monotonic() + HOLD_S
        while time.monotonic() < stop_at or not _get(story, made.name).verdict.number:
            time.sleep(0.5)
            if time.monotonic() > stop_at + ROLLED_WITHIN_S:
                raise TimeoutError("there was no verdict")
        found = _get(story, made.name)
        story.client.rollout.AbortRollout(rol.AbortRolloutRequest(name=made.name, reason="the story goes on"))
        decision = rol.Verdict.Decision.Name(found.verdict.decision)
        step.figures |= {"held": decision == "HOLD", "weight": found.weight}
        step.headline = f"{decision} at {found.weight} %: {found.verdict.reason}"
        if decision != "HOLD":
            raise AssertionError("a decision was made without evidence")


def approve(story: "Story", version: str, champion: str, *, override: bool = False) -> None:
    """Evaluate a version on the test split beside the champion, judge it, and override a refusal if told to.

    Raises:
        AssertionError: It was refused, or was to be overridden and was not refused.
    """
    client = story.client
    for _ in client.watch_scoring_job(
        client.evaluate(version, story.commits[-1], split="test", champion=champion).name
    ):
        pass
    verdict = judge(story, version)
    if not override:
        expect(verdict, reg.GateVerdict.APPROVED)
    elif verdict.verdict == reg.GateVerdict.APPROVED:
        raise AssertionError(f"{version} was approved: there is nothing to override")
    else:
        client.registry.OverrideGate(
            reg.OverrideGateRequest(
                name=version,
                verdict=reg.GateVerdict.APPROVED,
                reason="the story wants to see what a canary does with it",
            )
        )


def _roll(
    story: "Story", version: str, gates: Any, traffic: Flow
) -> tuple[Any, dict[int, tuple[float, int]]]:
    """Roll a version out; return how it ended, and its share of the answers seen at each weight with n."""
    made = _create(story, version, gates)
    shares: dict[int, tuple[int, int]] = {}
    stop_at, seen, weight, since = time.monotonic() + ROLLED_WITHIN_S, 0, 0, time.time()
    while True:
        found = _get(story, made.name)
        fresh, seen = traffic.seconds[seen:], len(traffic.seconds)
        if found.weight != weight:
            weight, since = found.weight, time.time()
        for second in fresh:
            if second["time"] > since + SETTLED_S:  # it lies wholly in this step, and the route is in force
                mine, n = shares.get(weight, (0, 0))
                got = second["recent"].get(short(version), 0)
                shares[weight] = (mine + got, n + sum(second["recent"].values()))
        if found.state in ROLLED:
            return found, {w: (mine / max(n, 1), n) for w, (mine, n) in shares.items() if 0 < w < 100 and n}
        if time.monotonic() > stop_at:
            raise TimeoutError(f"{made.name} is still at {found.weight} %: {found.verdict.reason}")
        time.sleep(0.3)


def _create(story: "Story", version: str, gates: Any) -> Any:
    steps = [rol.RolloutStep(weight=w, min_duration_s=s, min_count=n, max_hold_s=600) for w, s, n in STEPS]
    rollout = rol.Rollout(model_version=version, steps=steps, gates=gates)
    return story.client.rollout.CreateRollout(
        rol.CreateRolloutRequest(parent=story.endpoint, rollout=rollout)
    )


def _get(story: "Story", name: str) -> Any:
    return story.client.rollout.GetRollout(rol.GetRolloutRequest(name=name))


def _verdicts(story: "Story", name: str) -> list[Any]:
    request = rol.ListVerdictsRequest(parent=name, page_size=1000)
    return list(story.client.rollout.ListVerdicts(request).verdicts)


def _told(verdict: Any) -> str:
    counted = [gate for gate in verdict.gates if gate.count]
    return ", ".join(f"{g.gate} {g.value:+.3f} (e = {g.e_value:.2g}, n = {g.count})" for g in counted)


def _weight_zero_s(story: "Story", version: str, verdict: Any) -> float:
    """Return the seconds from the verdict until the version's weight was 0, by what served when."""
    request = rol.ListServingsRequest(parent=story.endpoint, page_size=100)
    servings = story.client.rollout.ListServings(request).servings
    ended = [
        s.end_time.ToDatetime() for s in servings if s.model_version == version and s.HasField("end_time")
    ]
    return (max(ended) - verdict.create_time.ToDatetime()).total_seconds()


def _no_more_of(traffic: Flow, version: str) -> float:
    """Wait until two seconds in a row were answered without the version; return when the first began."""
    stop_at = time.monotonic() + 30.0
    while time.monotonic() < stop_at:
        last = traffic.seconds[-2:]
        if len(last) == 2 and all(s["recent"] and short(version) not in s["recent"] for s in last):
            return float(last[0]["time"]) - 1.0
        time.sleep(0.2)
    raise AssertionError(f"{version} still answers after its weight was 0")
