"""Second act, (d) and (e): gates that approve or refuse with a reason; what a careless annotator reached."""

from typing import TYPE_CHECKING, Any

import serving
from labelling import CARELESS, Labels, evaluate, paired_difference
from learning import train
from slipway.client import SlipwayError
from slipway.client import lineage as lin
from slipway.registry.v1 import registry_pb2 as reg
from slipway.rollout.v1 import rollout_pb2 as rol

if TYPE_CHECKING:
    from story import Story

POLICY = """\
evaluation: {split: "", minimum_examples: 300}
thresholds: {accuracy: {min: 0.5}}
regression: {alias: champion, alpha: 0.05, by_label: true, minimum_slice: 20}
latency: {max_ratio: 3.0}
size: {max_bytes: 20000000}
golden: {max_abs_diff: 0.001}
"""


def no_policy(story: "Story", labels: Labels) -> None:
    """(d) Without a policy the verdict is REFUSED; with one, the seed model becomes the first champion."""
    with story.steps.step("the first champion") as step:
        seed = labels.seed_version.name
        bare = judge(story, seed)
        if bare.verdict != reg.GateVerdict.REFUSED:
            raise AssertionError("a model without a gate policy was approved")
        model = f"models/{story.plot.name}"
        story.client.registry.SetGatePolicy(reg.SetGatePolicyRequest(parent=model, yaml=POLICY))
        evaluate(story, labels, seed)
        first = judge(story, seed)
        expect(first, reg.GateVerdict.APPROVED)
        name_champion(story, seed)
        step.figures |= {"refused_without_policy": True, "checks": len(first.findings)}
        step.headline = f"no policy: refused; with one: {seed} approved by {len(first.findings)} checks"


def approve(story: "Story", labels: Labels) -> None:
    """(d) The version of the active arm is judged beside the champion, approved, and given all traffic."""
    with story.steps.step("gate: v-next") as step:
        version = labels.active.version
        found = evaluate(story, labels, version.name, labels.seed_version.name)
        verdict = judge(story, version.name)
        expect(verdict, reg.GateVerdict.APPROVED)
        name_champion(story, version.name)
        story.versions.append(version)
        _serve(story, version.name)
        step.figures |= {
            "accuracy": found.metrics["accuracy"],
            "champion_accuracy": found.champion_metrics["accuracy"],
            "latency_ratio": found.latency_ratio,
            "checks": len(verdict.findings),
        }
        step.headline = (
            f"{version.name} approved: {found.metrics['accuracy']:.4f} beside the champion's "
            f"{found.champion_metrics['accuracy']:.4f}, latency x {found.latency_ratio:.2f}; it serves"
        )


def refuse(story: "Story", labels: Labels) -> None:
    """(d) A version that loses a fifth of one class, two points of all, is refused by the slice's name."""
    with story.steps.step("gate: one class worse") as step:
        champion = labels.active.version.name
        lost = _best_known_class(story, labels)
        faulty = train(
            story,
            {**story.plot.few, "lost_class": labels.classes.index(lost)},
            "faulty",
            commit=labels.active.commit,
            entry_point="task.py:LosesOneClass",
        )
        found = evaluate(story, labels, faulty.name, champion)
        verdict = judge(story, faulty.name)
        expect(verdict, reg.GateVerdict.REFUSED)
        failed = [f for f in verdict.findings if f.outcome == reg.GateFinding.FAILED]
        named = {finding.slice: finding for finding in failed}
        step.figures |= {
            "points_lost": 100 * (found.champion_metrics["accuracy"] - found.metrics["accuracy"]),
            "failed_checks": len(failed),
            "slice_named": f"label={lost}" in named,
            "p_value": named[f"label={lost}"].p_value if f"label={lost}" in named else 1.0,
            "deploy_refused": _deploy_is_refused(story, faulty.name),
        }
        told = named.get(f"label={lost}", failed[0])
        step.headline = f"{step.figures['points_lost']:.1f} points worse: {told.message}"
        if not step.figures["slice_named"] or not step.figures["deploy_refused"]:
            raise AssertionError(
                f"the gate named {sorted(named)}, not label={lost}, or the version was deployed"
            )


def noise(story: "Story", labels: Labels) -> None:
    """(d) The champion with a coarser last layer differs from it by noise alone, and is not refused."""
    with story.steps.step("gate: noise alone") as step:
        other = train(
            story,
            story.plot.few,
            "coarse",
            commit=labels.active.commit,
            entry_point="task.py:CoarseHead",
        )
        found = evaluate(story, labels, other.name, labels.active.version.name)
        verdict = judge(story, other.name)
        difference, half = paired_difference(found)
        step.figures |= {
            "accuracy": found.metrics["accuracy"],
            "champion_accuracy": found.champion_metrics["accuracy"],
            "difference": difference,
            "difference_half_width_95": half,
            "refused": verdict.verdict == reg.GateVerdict.REFUSED,
        }
        step.headline = (
            f"{100 * difference:+.2f} points (± {100 * half:.2f}): "
            f"{reg.GateVerdict.Verdict.Name(verdict.verdict).lower()}"
        )
        if step.figures["refused"]:
            raise AssertionError("; ".join(finding.message for finding in verdict.findings[:3]))


def impact(story: "Story", labels: Labels) -> None:
    """(e) From the careless annotator forward to live traffic."""
    with story.steps.step("impact") as step:
        graph = lin.impact(story.client, f"annotators/{CARELESS.name}")
        counts = {kind: len(graph.of_kind(kind)) for kind in lin.KINDS[1:-1]}
        step.figures |= counts
        told = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
        step.headline = f"annotators/{CARELESS.name} reached {told}"
        story.steps.console.print(f"   look: slipway impact annotators/{CARELESS.name}")
        if story.endpoint not in graph.names or labels.active.version.name not in graph.names:
            raise AssertionError("the walk does not reach the endpoint that serves what he labelled")


def judge(story: "Story", version: str) -> Any:
    """Let the gate decide on a version by its newest evaluation; return the verdict."""
    return story.client.registry.JudgeModelVersion(reg.JudgeModelVersionRequest(name=version))


def expect(verdict: Any, wanted: int) -> None:
    """Fail with the gate's own words unless it decided so."""
    if verdict.verdict != wanted:
        said = "; ".join(finding.message for finding in verdict.findings[:4])
        raise AssertionError(f"{verdict.name} is {reg.GateVerdict.Verdict.Name(verdict.verdict)}: {said}")


def name_champion(story: "Story", version: str) -> None:
    """Name the version that others are judged beside."""
    name = f"models/{story.plot.name}/aliases/champion"
    story.client.registry.SetAlias(reg.SetAliasRequest(name=name, model_version=version))


def _serve(story: "Story", version: str) -> None:
    """Deploy an approved version beside the others, and give it all traffic."""
    serving.deploy_version(story, story.endpoint, version)
    weights = {f"v{version.rpartition('/')[2]}": 100}
    story.client.rollout.SetSplit(rol.SetSplitRequest(name=story.endpoint, weights=weights))


def _deploy_is_refused(story: "Story", version: str) -> bool:
    try:
        request = rol.DeployVersionRequest(name=story.endpoint, model_version=version)
        story.client.rollout.DeployVersion(request)
    except SlipwayError as error:
        return error.reason == "VERSION_NOT_APPROVED"
    return False


def _best_known_class(story: "Story", labels: Labels) -> str:
    """Return the class of which the champion knows most examples: a fifth of it is two points of all."""
    found = story.client.registry.ListVersionEvaluations(
        reg.ListVersionEvaluationsRequest(parent=labels.active.version.name)
    ).evaluations[0]
    by_label = [s for s in found.slices if s.slice.startswith("label=")]
    return str(max(by_label, key=lambda s: s.accuracy * s.example_count).slice.partition("=")[2])
