"""One trace id from REST through the mesh, gRPC and the queue to the last span of a training job."""

import io
import secrets
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from laptop_platform import Platform
from PIL import Image
from slipway.client import Client, Item
from slipway.client.packing import pack_folder

pytestmark = [pytest.mark.xdist_group("platform"), pytest.mark.timeout(900)]
TASK = Path(__file__).parents[1] / "contract/training/halves.py"
WITHIN_S = 180.0


def halves() -> list[Item]:
    """Return small grey images: a bright left or a bright right half."""
    random = np.random.default_rng(0)
    items = []
    for index in range(120):
        pixels = random.integers(0, 90, (6, 6), dtype=np.uint8)
        pixels[:, 3 * (index % 2) : 3 * (index % 2) + 3] += 120
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, "PNG")
        items.append(Item(key=f"{index:04d}.png", data=data.getvalue(), label=("left", "right")[index % 2]))
    return items


def submit(client: Client, code: str, commit: str, trace_id: str) -> str:
    """Submit a job over REST in a trace of our own; return the job's name."""
    job = {
        "model": "models/traced",
        "experiment": "experiments/traced",
        "datasetCommit": commit,
        "taskCode": code,
        "entryPoint": "task.py:Halves",
    }
    headers = {
        "Authorization": f"Bearer {client.token()}",
        "traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01",
    }
    url = f"{client.places.rest}/v1/trainingJobs"
    answer = httpx.post(url, json={"trainingJob": job}, headers=headers, timeout=120)
    return str(answer.raise_for_status().json()["name"])


def loose(spans: list[Any]) -> list[str]:
    """Return the spans whose parent is not there."""
    known = {span.span_id for span in spans}
    return [f"{span.service}: {span.operation}" for span in spans if span.parent_span_id not in known]


def spans_once_ended(client: Client, trace_id: str) -> list[Any]:
    """Return the spans once the last one, FinishRun in the registry, and all above it have come."""
    stop_at = time.monotonic() + WITHIN_S
    while True:
        spans = list(client.trace(trace_id).spans)
        ended = any(span.service == "registry" and span.operation.endswith("/FinishRun") for span in spans)
        if (ended and len(loose(spans)) == 1) or time.monotonic() > stop_at:
            return spans
        time.sleep(0.5)


def test_a_training_job_is_one_trace_from_rest_to_its_last_span(platform: Platform, tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text(TASK.read_text())
    trace_id = secrets.token_hex(16)
    with Client.local() as client:
        platform.slipway("dataset", "create", "traced")
        upload = client.upload_examples("traced", halves())
        commit = client.commit("traced", "halves", uploads=[upload.name]).name
        code = client.upload_task_code(pack_folder(tmp_path)).name

        job = submit(client, code, commit, trace_id)
        assert [seen.state for seen in client.watch(job)][-1] == 3, "the job did not succeed"
        spans = spans_once_ended(client, trace_id)
        printed = platform.slipway("trace", trace_id)

    kinds = {(span.service, span.kind) for span in spans}
    assert {"ingress", "gateway", "training-worker", "ingestion", "registry"} <= {s.service for s in spans}
    assert ("training-worker", "producer") in kinds
    assert ("training-worker", "consumer") in kinds
    assert loose(spans) == ["ingress: /v1/trainingJobs"]  # its parent is ours; all others hang together
    assert {span.span_id for span in spans} <= {span["span_id"] for span in printed["spans"]}
