"""Third act, (4): the scanner's lamp fades, and the platform learns to read what it sees, by itself.

From `fade` on, the story sends traffic and annotators' answers and calls nothing else; all that happens is
set off by an alert of monitoring.
"""

import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from data import Picture, faded, tensor
from flow import Flow, flow, short
from google.protobuf.field_mask_pb2 import FieldMask
from labelling import OVERLAP, PEOPLE, Labels
from people import Worker
from slipway.client import pages
from slipway.labeling.v1 import labeling_pb2 as lab
from slipway.monitoring.v1 import monitoring_pb2 as mon
from slipway.pipelines.v1 import pipelines_pb2 as pip

if TYPE_CHECKING:
    from story import Story

PIPELINE = "pipelines/relearn"
LIGHT = (0.30, 0.45)
LEARNT_WITHIN_S = 300.0
SETTLED_S = 3
ENDED_WITHIN_S = 120.0  # a window that is not full ends after 60
ANNOTATORS_CALLS = {
    f"/slipway.labeling.v1.LabelingService/{rpc}" for rpc in ("ClaimTasks", "SubmitAnnotation")
}


def prepare(story: "Story", labels: Labels) -> None:
    """Say once what shall happen: which drift is an alert, which pipeline it starts, who labels."""
    with story.steps.step("watch the endpoint") as step:
        client = story.client
        schema = lab.LabelSchema(classification=lab.Classification(labels=labels.classes))
        project = lab.Project(
            dataset=story.dataset,
            schema=schema,
            overlap=OVERLAP,
            pause_rule=lab.PauseRule(
                report_only=True
            ),  # the careless one goes on: his trail is the next step
        )
        client.labeling.CreateProject(
            lab.CreateProjectRequest(project_id=f"{story.plot.name}-live", project=project)
        )
        pushed = client.upload_pipeline(Path(__file__).parent, entry_point="pipeline.py:relearn")
        monitor = mon.Monitor(
            name=story.endpoint.replace("endpoints/", "monitors/"),
            drift=mon.DriftSettings(
                window_rows=300, min_rows=100, max_window_s=60, min_effect=0.3, raise_after=2, clear_after=2
            ),
            actions=[mon.AlertAction(rule="input-drift", pipeline=PIPELINE)],
        )
        mask = FieldMask(paths=["drift", "actions"])
        client.monitoring.UpdateMonitor(mon.UpdateMonitorRequest(monitor=monitor, update_mask=mask))
        step.figures |= {"pipeline_steps": len(pushed.steps)}
        step.headline = f"input drift starts {PIPELINE}: {len(pushed.steps)} steps"


def fade(story: "Story", labels: Labels) -> str:
    """(4) Lower the light; wait until a version that reads the faded images answers everybody.

    Returns one of its predictions.
    """
    with story.steps.step("the lamp fades") as step:
        light = random.uniform(*LIGHT)
        kept_back = story.keys("test")
        stream = [faded(p, light) for p in story.plot.pictures if p.key not in kept_back]
        exam = [faded(p, light) for p in story.plot.pictures if p.key in kept_back]
        before = _accuracy(story, exam, short(story.versions[1].name))
        begin, done = time.time(), threading.Event()
        with flow(story, stream, rate=story.plot.rate, labels_after=-1) as traffic:
            workers = [
                Worker(
                    person,
                    labels.tokens[person.name],
                    f"labelingProjects/{story.plot.name}-live",
                    story.shown,
                    labels.classes,
                    seed=9,
                    until=done,
                )
                for person in PEOPLE
            ]
            for worker in workers:
                worker.start()
            try:
                version = _until_another_answers(story, traffic, workers)
            finally:
                done.set()
            end = time.time()
            report = traffic.end()
        after = _accuracy(story, exam, version)
        step.figures |= {
            "light": light,
            "accuracy_before": before,
            "accuracy_after": after,
            "exam": len(exam),
            "answers": sum(worker.answers for worker in workers),
            "requests": sum(report["answers"].values()),
            "failed_requests": sum(report["errors"].values()),
            "begin": begin,
            "end": end,
        }
        step.headline = (
            f"{100 * light:.0f} % of the light: accuracy {before:.4f}; {end - begin:.0f} s and "
            f"{step.figures['answers']} answers later version {version} reads {after:.4f} of {len(exam)}"
        )
        if after <= before or report["errors"]:
            raise AssertionError(f"nothing was learnt, or requests failed: {report['errors']}")
        return str(report["last_prediction"])


def told(story: "Story") -> None:
    """(4) Read afterwards what the platform did: the alert, and each step of the pipeline with its time.

    The traces say that nobody helped: from outside came requests and annotators' answers alone.
    """
    with story.steps.step("what the platform did") as step:
        monitor = story.endpoint.replace("endpoints/", "monitors/")
        alerts = story.client.monitoring.ListAlerts(mon.ListAlertsRequest(monitor=monitor)).alerts
        drifted = [a for a in alerts if (a.rule, a.model_version) == ("input-drift", story.versions[1].name)]
        alert = drifted[0]  # the newest: what the canaries saw may have raised one before
        runs = story.client.pipelines.ListPipelineRuns(pip.ListPipelineRunsRequest(parent=PIPELINE))
        run = _ended(story, next(run for run in runs.pipeline_runs if run.trigger_source == alert.name).name)
        parts = story.client.pipelines.ListStepRuns(
            pip.ListStepRunsRequest(parent=run.name, page_size=100)
        ).step_runs
        for part in parts:
            took = (part.end_time.ToDatetime() - part.ready_time.ToDatetime()).total_seconds()
            step.figures |= {f"{part.step}_s": took}
            made = [
                *part.output_names[:1],
                *([f"and {more} more"] if (more := len(part.output_names) - 1) > 0 else []),
            ]
            story.steps.console.print(f"   {took:6.1f} s  {part.step}  {' '.join(made)}")
        asked = _asked_from_outside(story)
        step.figures |= {"runs_of_the_alert": len([r for r in runs.pipeline_runs if r.trigger_source])}
        step.figures |= {f"asked_{call.rpartition('/')[2]}": count for call, count in asked.items()}
        step.headline = (
            f"{alert.name} ({alert.summary}) started {run.name}; from outside came, beside the traffic, "
            + ", ".join(f"{count} {call}" for call, count in sorted(asked.items()))
        )
        if set(asked) != ANNOTATORS_CALLS:
            raise AssertionError(f"only annotators' calls are expected from outside, not {dict(asked)}")


def _ended(story: "Story", name: str) -> pip.PipelineRun:
    """Wait until a run has ended: its last steps go on for a moment after the new version answers all."""
    stop_at = time.monotonic() + ENDED_WITHIN_S
    while time.monotonic() < stop_at:
        run = story.client.pipelines.GetPipelineRun(pip.GetPipelineRunRequest(name=name))
        if run.HasField("end_time"):
            return run
        time.sleep(0.5)
    raise TimeoutError(f"{name} has not ended after {ENDED_WITHIN_S:.0f} s")


def _asked_from_outside(story: "Story") -> Counter[str]:
    """Return what was asked of the services through the door while the light was low, by their traces."""
    lowered = next(step for step in story.steps.done if step.name == "the lamp fades")
    request = mon.ListTracesRequest(root_service="ingress")
    request.start_time.FromNanoseconds(int(1e9 * lowered.figures["begin"]))
    request.end_time.FromNanoseconds(int(1e9 * lowered.figures["end"]))
    asked: Counter[str] = Counter()
    for service in ("training-worker", "registry", "rollout", "pipelines", "labeling"):
        request.service = service
        for trace in pages(story.client.monitoring.ListTraces, request, "traces"):
            spans = story.client.trace(trace.name).spans
            asked[next(s.operation for s in spans if (s.service, s.kind) == (service, "server"))] += 1
    return asked


def _until_another_answers(story: "Story", traffic: Flow, workers: list[Worker]) -> str:
    """Wait until one other version than v2 answered everybody for some seconds; return its number."""
    stop_at = time.monotonic() + LEARNT_WITHIN_S
    old = short(story.versions[1].name)
    while time.monotonic() < stop_at:
        for worker in workers:
            if worker.failure is not None:
                raise worker.failure
        recent: list[Any] = [set(second["recent"]) for second in traffic.seconds[-SETTLED_S:]]
        if len(recent) == SETTLED_S and all(seen == recent[0] and len(seen) == 1 for seen in recent):
            (version,) = recent[0]
            if version != old:
                return str(version)
        if traffic.process.poll() is not None:
            raise AssertionError("the traffic ended by itself; its message is above")
        time.sleep(0.5)
    raise TimeoutError(f"after {LEARNT_WITHIN_S:.0f} s version {old} still answers")


def _accuracy(story: "Story", pictures: list[Picture], version: str) -> float:
    """Return the share of pictures that a version reads rightly, asked as testers do: it is no traffic."""
    classes = story.plot.classes
    right = 0
    for start in range(0, len(pictures), 32):
        part = pictures[start : start + 32]
        images = np.concatenate([tensor(picture) for picture in part])
        answer = story.client.infer(story.endpoint, {"image": images}, version=version)
        best = answer.outputs["probabilities"].argmax(axis=1)
        right += sum(classes[i] == p.label for i, p in zip(best, part, strict=True))
    return right / len(pictures)
