"""Pipelines for tests: a folder in, a packed folder out; and what their runs left behind."""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from slipway.client.packing import pack_folder
from slipway.pipelines.v1 import pipelines_pb2 as pb

State = pb.PipelineRun.State
ENDED = {State.SUCCEEDED, State.FAILED, State.CANCELLED}
CALL_S = 60

# A fan-out, a condition and a sensor. Every step leaves a file of its request_id's name: what it makes.
WHOLE = '''
import os
import time
from pathlib import Path

from slipway.pipeline import Context, pipeline, sensor, step


def made(folder, context):
    (Path(folder) / context.request_id).touch()


@step(retries=3, backoff_s=0.1)
def planned(folder: str, token: str, context: Context) -> list:
    made(folder, context)
    return [1, 2, 3]


@step
def squared(number: int, folder: str, context: Context) -> int:
    made(folder, context)
    time.sleep(0.1)
    return number * number


@sensor(poll_s=0.3, timeout_s=300)
def settled(numbers: list, folder: str, context: Context) -> int | None:
    """Answers at the second look."""
    seen = Path(folder) / f"seen-{context.request_id}"
    if not seen.exists():
        seen.touch()
        return None
    made(folder, context)
    return sum(numbers)


@step
def enough(total: int, folder: str, context: Context) -> bool:
    made(folder, context)
    return total > 100


@step
def released(total: int, folder: str, context: Context) -> str:
    made(folder, context)
    return "models/flowers/versions/1"


@step
def told(total: int, folder: str, context: Context) -> str:
    made(folder, context)
    return "datasets/flowers"


@pipeline()
def whole(folder: str, token: str):
    """A fan-out, a sensor, and a condition that is false."""
    total = settled(squared.map(planned(folder, token), folder=folder), folder)
    released(total, folder, when=enough(total, folder))
    told(total, folder)
'''
EFFECTS_OF_WHOLE = 7  # planned, 3 × squared, settled, enough, told; released is skipped without an attempt


def push(stub: Any, source: str, entry_point: str, folder: Path) -> pb.PipelineVersion:
    """Upload a pipeline of one file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "flow.py").write_text(source)
    archive = pack_folder(folder)
    header = pb.PipelineHeader(size_bytes=len(archive), entry_point=f"flow.py:{entry_point}")
    parts = [pb.UploadPipelineRequest(header=header), pb.UploadPipelineRequest(chunk=archive)]
    return stub.UploadPipeline(iter(parts), timeout=CALL_S)


def start(stub: Any, pipeline: str, request_id: str = "", **parameters: Any) -> pb.PipelineRun:
    """Start a run."""
    request = pb.CreatePipelineRunRequest(parent=f"pipelines/{pipeline}", request_id=request_id)
    request.parameters.update(parameters)
    return stub.CreatePipelineRun(request, timeout=CALL_S)


def ended(stub: Any, name: str, within_s: float = 180) -> pb.PipelineRun:
    """Return a run once it has ended."""
    stop_at = time.monotonic() + within_s
    while True:
        run = stub.GetPipelineRun(pb.GetPipelineRunRequest(name=name), timeout=CALL_S)
        if run.state in ENDED:
            return run
        if time.monotonic() > stop_at:
            raise AssertionError(f"{name} does not end: {run}\n{steps(stub, name)}")
        time.sleep(0.1)


def steps(stub: Any, name: str) -> dict[str, pb.StepRun]:
    """Return the steps of a run by their names in it."""
    answer = stub.ListStepRuns(pb.ListStepRunsRequest(parent=name, page_size=1000), timeout=CALL_S)
    return {step.name.rpartition("/")[2]: step for step in answer.step_runs}


def recorded(database_url: str, run: str) -> Counter[str]:
    """Return how often each step of a run has an effect on record, by `step.index`."""
    query = sa.text(
        "SELECT step, index, outcome FROM attempts WHERE run = :run AND outcome IN ('SUCCEEDED', 'SKIPPED')"
    )
    engine = sa.create_engine(database_url)
    with engine.connect() as connection:
        rows = connection.execute(query, {"run": run.rpartition("/")[2]}).all()
    engine.dispose()
    return Counter(f"{step}.{index}" for step, index, _ in rows)


def runs(stub: Any) -> Iterator[pb.PipelineRun]:
    """Yield every run there is."""
    token = ""
    while True:
        page = stub.ListPipelineRuns(
            pb.ListPipelineRunsRequest(parent="pipelines/-", page_size=1000, page_token=token)
        )
        yield from page.pipeline_runs
        token = page.next_page_token
        if not token:
            return
