"""Steps under faults: a stalled worker, a killed process, a step that dies after its effect."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from flows import CALL_S, State, ended, push, recorded, start, steps
from opentelemetry import context as otel
from opentelemetry import propagate
from running import Keys, Service
from slipway.pipelines.v1 import pipelines_pb2 as pb
from slipway.training.v1 import training_pb2 as trn
from slipway.training.v1 import training_pb2_grpc as trn_grpc

SLOW = """
import time
from pathlib import Path

from slipway.pipeline import Context, pipeline, step


@step
def slow(go: str, context: Context) -> int:
    while context.attempt == 1 and not Path(go).exists():
        time.sleep(0.05)
    return context.attempt


@pipeline()
def stalls(go: str):
    slow(go)
"""


def running(stub: Any, name: str, step: str) -> pb.StepRun:
    """Return a step once an attempt holds it."""
    stop_at = time.monotonic() + 120
    while time.monotonic() < stop_at:
        found = steps(stub, name)[step]
        if found.state == pb.StepRun.RUNNING:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{step} does not begin")


def outcome(worker: Service) -> str:
    """Return how a worker's only attempt ended, once it has."""
    stop_at = time.monotonic() + 120
    while time.monotonic() < stop_at:
        said = httpx.get(f"http://127.0.0.1:{worker.http_port}/metrics", timeout=60).text
        if found := re.search(r'slipway_pipelines_attempts_total{outcome="(\w+)"} 1', said):
            return found[1]
        time.sleep(0.05)
    raise AssertionError("the attempt does not end")


def stalled(
    stub: Any, start_worker: Callable[..., Service], url: str, module: str, tmp_path: Path
) -> tuple[pb.PipelineRun, str]:
    """Run a step whose first worker is stopped in the middle, and goes on after another took the step.

    Returns the run and how the first worker's attempt ended.
    """
    push(stub, SLOW, "stalls", tmp_path / "code")
    first = start_worker(module)
    run = start(stub, "stalls", go=str(tmp_path / "go"))
    running(stub, run.name, "slow")
    first.halt(url)
    database = sa.create_engine(url)
    with database.begin() as connection:
        connection.execute(sa.text("UPDATE steps SET lease_until = now() WHERE state = 'RUNNING'"))
    database.dispose()
    second = start_worker()
    try:
        done = ended(stub, run.name)
    finally:
        (tmp_path / "go").touch()
        first.go_on()
    late = outcome(first)
    second.stop()
    return done, late


def test_a_worker_that_was_stalled_has_no_effect_when_it_goes_on(
    stub: Any,
    start_worker: Callable[..., Service],
    pipelines_settings: dict[str, Any],
    tmp_path: Path,
) -> None:
    url = pipelines_settings["database_url"]

    run, late = stalled(stub, start_worker, url, "slipway_pipelines.main", tmp_path)

    assert (run.state, late) == (State.SUCCEEDED, "FENCED")
    assert recorded(url, run.name) == {"slow.-1": 1}
    assert steps(stub, run.name)["slow"].output_json == "2"


def test_without_the_fence_the_stalled_worker_writes_a_second_end(
    stub: Any,
    start_worker: Callable[..., Service],
    pipelines_settings: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    url = pipelines_settings["database_url"]

    run, late = stalled(stub, start_worker, url, "unfenced_pipelines", tmp_path)

    assert late == "SUCCEEDED"
    assert recorded(url, run.name) == {"slow.-1": 2}


DIES = """
import os
import signal

from slipway.pipeline import Context, pipeline, step
from slipway.training.v1 import training_pb2 as trn


@step(retries=2, backoff_s=0.1)
def submitted(commit: str, code: str, how: str, context: Context) -> str:
    job = trn.TrainingJob(
        display_name=context.run,
        experiment="experiments/steps",
        model="models/steps",
        dataset_commit=commit,
        task_code=code,
        entry_point="task.py:Nothing",
    )
    request = trn.CreateTrainingJobRequest(training_job=job, request_id=context.request_id)
    made = context.client.training.CreateTrainingJob(request)
    if context.attempt == 1:
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError("after the effect")
    return made.name


@pipeline()
def submits(commit: str, code: str, how: str):
    submitted(commit, code, how)
"""


@pytest.mark.parametrize("how", ["killed", "raised"])
def test_a_step_that_dies_after_its_effect_makes_one_job(
    how: str,
    stub: Any,
    keys: Keys,
    start_worker: Callable[..., Service],
    training_api: Service,
    a_commit: str,
    a_task: bytes,
    tmp_path: Path,
) -> None:
    with training_api.channel(keys.user()) as opened:
        training = trn_grpc.TrainingServiceStub(opened)
        header = trn.TaskCodeHeader(size_bytes=len(a_task))
        parts = [trn.UploadTaskCodeRequest(header=header), trn.UploadTaskCodeRequest(chunk=a_task)]
        code = training.UploadTaskCode(iter(parts)).name
        push(stub, DIES, "submits", tmp_path / "code")
        start_worker(training=training_api.address)

        run = ended(stub, start(stub, "submits", commit=a_commit, code=code, how=how).name)

        listed = training.ListTrainingJobs(trn.ListTrainingJobsRequest(page_size=1000)).training_jobs
    mine = [job for job in listed if job.display_name == run.name]
    assert run.state == State.SUCCEEDED, run
    assert steps(stub, run.name)["submitted"].attempt_count == 2
    assert [job.creator for job in mine] == ["services/pipelines"]
    assert list(steps(stub, run.name)["submitted"].output_names) == [mine[0].name]
    children = stub.ListChildren(pb.ListChildrenRequest(name=run.name))
    assert list(children.names) == [mine[0].name]


def test_a_stopped_worker_gives_its_step_back_and_that_costs_no_retry(
    stub: Any, start_worker: Callable[..., Service], tmp_path: Path
) -> None:
    push(stub, SLOW, "stalls", tmp_path / "code")
    first = start_worker()
    run = start(stub, "stalls", go=str(tmp_path / "never"))
    running(stub, run.name, "slow")

    first.stop()
    start_worker()
    run = ended(stub, run.name)

    assert run.state == State.SUCCEEDED
    assert steps(stub, run.name)["slow"].failure_count == 0
    assert steps(stub, run.name)["slow"].output_json == "2"


TRACED = """
import os

from slipway.pipeline import pipeline, step


@step
def first() -> str:
    return os.environ["SLIPWAY_TRACEPARENT"]


@step
def second(one: str) -> str:
    return os.environ["SLIPWAY_TRACEPARENT"]


@pipeline()
def traced():
    second(first())
"""


def test_the_calls_of_all_steps_belong_to_the_trace_that_started_the_run(
    stub: Any, start_worker: Callable[..., Service], tmp_path: Path
) -> None:
    push(stub, TRACED, "traced", tmp_path / "code")
    start_worker()
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    request = pb.CreatePipelineRunRequest(parent="pipelines/traced")
    carrier = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    token = otel.attach(propagate.extract(carrier))  # where calls of this process are traced, it goes on
    try:
        run = stub.CreatePipelineRun(request, timeout=CALL_S, metadata=list(carrier.items()))
    finally:
        otel.detach(token)

    done = ended(stub, run.name)

    found = [json.loads(step.output_json) for step in steps(stub, done.name).values()]
    assert [text.split("-")[1] for text in found] == [trace, trace]
