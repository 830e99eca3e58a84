"""The loop, closed: from an alert about drifted inputs to a version in service that has learnt them.

    slipway pipeline push examples/digits --entry-point pipeline.py:relearn

What the endpoint saw becomes examples; people are asked for the labels that the serving version is least
sure of; a version is trained on them as the serving one was, judged by the gate beside it, and rolled out in
steps. The only thing that people do is to answer the tasks. What the new version sees is accepted as what it
should see, so that a changed world is learnt once.

Things are named after the endpoint: `endpoints/flowers` serves `models/flowers`, trained on
`datasets/flowers`, and its images are labelled in `labelingProjects/flowers-live`.
"""

import time
from typing import Any

from slipway.client import pages
from slipway.ingestion.v1 import ingestion_pb2 as ing
from slipway.labeling.v1 import labeling_pb2 as lab
from slipway.monitoring.v1 import monitoring_pb2 as mon
from slipway.pipeline import Context, Skipped, pipeline, sensor, step
from slipway.registry.v1 import registry_pb2 as reg
from slipway.rollout.v1 import rollout_pb2 as rol
from slipway.training.v1 import training_pb2 as trn

VERDICT_WITHIN_S = 600.0  # of all traffic
ENDED = (trn.TrainingJob.SUCCEEDED, trn.TrainingJob.FAILED, trn.TrainingJob.CANCELLED)
STEPS = (
    (0, 2.0, 5),
    (5, 4.0, 20),
    (25, 4.0, 50),
    (50, 4.0, 50),
    (100, 0.0, 1),
)  # per cent, seconds, requests


@pipeline(name="relearn")
def relearn(
    endpoint: str, model_version: str, start_time: str, most: int = 600, ask: int = 60
) -> None:  # the alert gives the first three
    """Learn what the endpoint sees now."""
    branch = branched(endpoint, model_version)
    capture = capturing(endpoint, branch, start_time, most)
    commit = captured(capture)
    scoring_job = scoring(model_version, commit)
    scores = scored(scoring_job)
    tasks = asking(endpoint, model_version, commit, scores, ask)
    project = answered(tasks)
    snapshot = agreed(project, branch)
    labelled = committed(snapshot)
    training_job = training(model_version, labelled)
    candidate = trained(training_job)
    evaluation_job = evaluating(candidate, model_version, labelled)
    evaluation = evaluated(evaluation_job)
    approved = judged(candidate, evaluation)
    rollout = releasing(endpoint, candidate, when=approved)
    serving = released(rollout)
    champion(serving)
    settled(endpoint, candidate, rollout)


@step(retries=3)
def branched(context: Context, endpoint: str, model_version: str) -> str:
    """Branch off the commit that the serving version was trained on; return the branch's id."""
    run = _run_of(context, model_version)
    branch = f"live-{context.run.rpartition('/')[2]}"
    context.client.ingestion.CreateBranch(
        ing.CreateBranchRequest(
            parent=_of(endpoint, "datasets"),
            branch_id=branch,
            commit=run.dataset_commit,
            request_id=context.request_id,
        )
    )
    return branch


@step(retries=3)
def capturing(context: Context, endpoint: str, branch: str, start_time: str, most: int) -> str:
    """Ask monitoring to make examples of the inputs that it captured since the drift began."""
    wanted = mon.CaptureImport(
        endpoint=endpoint, dataset=_of(endpoint, "datasets"), branch=branch, max_count=most
    )
    wanted.start_time.FromJsonString(start_time)
    request = mon.CreateCaptureImportRequest(capture_import=wanted, request_id=context.request_id)
    return str(context.client.monitoring.CreateCaptureImport(request).name)


@sensor(poll_s=1, timeout_s=600)
def captured(context: Context, capture: str) -> str | None:
    """Wait for the commit of the captured images."""
    found = context.client.monitoring.GetCaptureImport(mon.GetCaptureImportRequest(name=capture))
    if found.state == mon.CaptureImport.FAILED:
        raise RuntimeError(f"{capture} failed: {found.error}")
    return str(found.commit) if found.state == mon.CaptureImport.SUCCEEDED else None


@step(retries=3)
def scoring(context: Context, model_version: str, commit: str) -> str:
    """Score what has no label with the serving version."""
    job = context.client.score(model_version, commit, unlabelled_only=True, request_id=context.request_id)
    return str(job.name)


@sensor(poll_s=1, timeout_s=1800)
def scored(context: Context, scoring_job: str) -> str | None:
    """Wait for the scores."""
    request = trn.GetScoringJobRequest(name=scoring_job)
    return _ended(context.client.training.GetScoringJob(request)).name or None


@step(retries=3)
def asking(
    context: Context, endpoint: str, model_version: str, commit: str, scores: str, ask: int
) -> list[str]:
    """Open tasks for images that the version is unsure of and that are not like one another; return them."""
    project, labeling = f"{_of(endpoint, 'labelingProjects')}-live", context.client.labeling
    labeling.CreateTasks(
        lab.CreateTasksRequest(
            parent=project,
            dataset_commit=commit,
            unlabelled_only=True,
            hold=True,
            request_id=context.request_id_for("tasks"),
        )
    )
    context.client.import_scores(project, scores)
    ordered = labeling.OrderTasks(
        lab.OrderTasksRequest(
            parent=project,
            order=lab.OrderTasksRequest.HYBRID,
            model_version=model_version,
            open_count=ask,
            request_id=context.request_id_for("order"),
        )
    )
    if not ordered.opened:
        raise Skipped("nothing new was captured that people could be asked about")
    return list(ordered.opened)


@sensor(poll_s=2, timeout_s=604_800)
def answered(context: Context, tasks: list[str]) -> str | None:
    """Wait for people until every task has all its answers; return the project."""
    project = tasks[0].rpartition("/tasks/")[0]
    request = lab.ListTasksRequest(parent=project, state=lab.Task.OPEN)
    still_open = {task.name for task in pages(context.client.labeling.ListTasks, request, "tasks")}
    return None if still_open & set(tasks) else project


@step(retries=3)
def agreed(context: Context, project: str, branch: str) -> str:
    """Make one label of several answers, and a commit of them."""
    labeling = context.client.labeling
    labeling.ComputeConsensus(lab.ComputeConsensusRequest(parent=project))
    snapshot = lab.Snapshot(branch=branch, message=f"labels of what the endpoint saw ({context.run})")
    request = lab.CreateSnapshotRequest(parent=project, snapshot=snapshot, request_id=context.request_id)
    return str(labeling.CreateSnapshot(request).name)


@sensor(poll_s=1, timeout_s=600)
def committed(context: Context, snapshot: str) -> str | None:
    """Wait for the commit of the labels."""
    found = context.client.labeling.GetSnapshot(lab.GetSnapshotRequest(name=snapshot))
    if found.state == lab.Snapshot.FAILED:
        raise RuntimeError(f"{snapshot} failed: {found.error}")
    return str(found.commit) if found.state == lab.Snapshot.SUCCEEDED else None


@step(retries=3)
def training(context: Context, model_version: str, labelled: str) -> str:
    """Train as the serving version was trained, on the new commit."""
    training_jobs, run = context.client.training, _run_of(context, model_version)
    before = training_jobs.GetTrainingJob(trn.GetTrainingJobRequest(name=run.job))
    job = trn.TrainingJob(
        display_name="relearn",
        experiment=before.experiment,
        model=before.model,
        dataset_commit=labelled,
        task_code=before.task_code,
        entry_point=before.entry_point,
        hyperparameters=before.hyperparameters,
        seed=before.seed,
    )
    request = trn.CreateTrainingJobRequest(training_job=job, request_id=context.request_id)
    return str(training_jobs.CreateTrainingJob(request).name)


@sensor(poll_s=2, timeout_s=86_400)
def trained(context: Context, training_job: str) -> str | None:
    """Wait for the version."""
    request = trn.GetTrainingJobRequest(name=training_job)
    return _ended(context.client.training.GetTrainingJob(request)).model_version or None


@step(retries=3)
def evaluating(context: Context, candidate: str, model_version: str, labelled: str) -> str:
    """Evaluate the new version beside the serving one, on examples that neither was trained on."""
    job = context.client.evaluate(
        candidate, labelled, split="test", champion=model_version, request_id=context.request_id
    )
    return str(job.name)


@sensor(poll_s=1, timeout_s=1800)
def evaluated(context: Context, evaluation_job: str) -> str | None:
    """Wait for the evaluation."""
    request = trn.GetScoringJobRequest(name=evaluation_job)
    return _ended(context.client.training.GetScoringJob(request)).evaluation or None


@step(retries=3)
def judged(context: Context, candidate: str, evaluation: str) -> bool:
    """Let the gate decide; what it refuses is not served."""
    request = reg.JudgeModelVersionRequest(
        name=candidate, evaluation=evaluation, request_id=context.request_id
    )
    verdict = context.client.registry.JudgeModelVersion(request)
    for finding in verdict.findings:
        print(finding.message)
    return bool(verdict.verdict == reg.GateVerdict.APPROVED)


@step(retries=3)
def releasing(context: Context, endpoint: str, candidate: str) -> str:
    """Begin to move the traffic.

    No label of live traffic comes while the scanner is being mended, so quality was the gate's to judge; and
    the classes must shift, for the serving version is wrong. Errors and latency decide.
    """
    steps = [rol.RolloutStep(weight=w, min_duration_s=s, min_count=n, max_hold_s=300) for w, s, n in STEPS]
    off = rol.Gate(off=True)
    rollout = rol.Rollout(
        model_version=candidate, steps=steps, gates=rol.RolloutGates(quality=off, shift=off)
    )
    request = rol.CreateRolloutRequest(parent=endpoint, rollout=rollout, request_id=context.request_id)
    return str(context.client.rollout.CreateRollout(request).name)


@sensor(poll_s=1, timeout_s=86_400)
def released(context: Context, rollout: str) -> str | None:
    """Wait until the new version has all traffic; return it."""
    found = context.client.rollout.GetRollout(rol.GetRolloutRequest(name=rollout))
    if found.state in (rol.Rollout.FAILED, rol.Rollout.ABORTED):
        raise RuntimeError(f"{rollout} ended without: {found.state_reason}")
    return str(found.model_version) if found.state == rol.Rollout.SUCCEEDED else None


@step(retries=3)
def champion(context: Context, serving: str) -> str:
    """Name the version that others will be judged beside."""
    name = f"{serving.rpartition('/versions/')[0]}/aliases/champion"
    context.client.registry.SetAlias(reg.SetAliasRequest(name=name, model_version=serving))
    return name


@sensor(poll_s=2, timeout_s=90_000)
def settled(context: Context, endpoint: str, candidate: str, rollout: str) -> str | None:
    """Wait for the first verdict about what the new version sees; return the report's name.

    Most of what it was trained on is of the world before, and so is its reference: it would raise the alert
    that started this run, and that would start another. What it has learnt is accepted as what it should see.
    That cannot wait until it has all traffic: two windows make an alert, and a canary may fill them.
    """
    found = _first_verdict(context, endpoint, candidate)
    if found is None:
        moved = context.client.rollout.GetRollout(rol.GetRolloutRequest(name=rollout))
        if moved.state in (rol.Rollout.FAILED, rol.Rollout.ABORTED):
            raise Skipped(f"{rollout} ended without {candidate}")
        if moved.state == rol.Rollout.SUCCEEDED and time.time() > moved.end_time.seconds + VERDICT_WITHIN_S:
            raise Skipped(f"no window of {candidate} had a verdict in {VERDICT_WITHIN_S:.0f} s")
        return None
    if found.verdict == mon.DriftReport.DRIFTED:
        reason = f"{candidate} was made for what the endpoint sees now ({context.run})"
        context.client.monitoring.AcceptDrift(
            mon.AcceptDriftRequest(name=found.name, reason=reason, request_id=context.request_id)
        )
    return str(found.name)


def _first_verdict(context: Context, endpoint: str, version: str) -> Any:
    request = mon.ListDriftReportsRequest(parent=_of(endpoint, "monitors"), model_version=version)
    reports = pages(context.client.monitoring.ListDriftReports, request, "drift_reports")
    told = [r for r in reports if r.verdict != mon.DriftReport.TOO_FEW]
    return told[-1] if told else None  # they are listed newest first


def _of(endpoint: str, collection: str) -> str:
    return f"{collection}/{endpoint.removeprefix('endpoints/')}"


def _run_of(context: Context, model_version: str) -> Any:
    registry = context.client.registry
    version = registry.GetModelVersion(reg.GetModelVersionRequest(name=model_version))
    return registry.GetRun(reg.GetRunRequest(name=version.run))


def _ended(job: Any) -> Any:
    """Return the job when it succeeded, and an empty one while it goes on.

    Raises:
        RuntimeError: It failed or was cancelled.
    """
    if job.state not in ENDED:
        return type(job)()
    if job.state != trn.TrainingJob.SUCCEEDED:
        raise RuntimeError(f"{job.name} ended as {trn.TrainingJob.State.Name(job.state)}: {job.error}")
    return job
