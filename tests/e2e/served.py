"""An endpoint of small models on the running platform, and pictures that they tell apart."""

import io
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from laptop_platform import Platform
from PIL import Image
from slipway.client import Client, Item
from slipway.rollout.v1 import rollout_pb2 as rol

TASK = Path(__file__).parents[1] / "contract/training/halves.py"
WITHIN_S = 120.0


def images(count: int) -> np.ndarray:
    """Return small grey images (N, 6, 6), a bright left or a bright right half in turn."""
    pixels = np.random.default_rng(7).integers(0, 90, (count, 6, 6), dtype=np.uint8)
    pixels[0::2, :, :3] += 120
    pixels[1::2, :, 3:] += 120
    return pixels


def serve(client: Client, platform: Platform, folder: Path, name: str, versions: int = 1) -> None:
    """Train some versions of `models/{name}` and deploy them behind `endpoints/{name}`; v1 answers."""
    shutil.copy(TASK, folder / "task.py")
    items = []
    for index, pixels in enumerate(images(120)):
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, "PNG")
        label = ("left", "right")[index % 2]
        items.append(Item(key=f"{index:03d}.png", data=data.getvalue(), label=label))
    client.ingestion.CreateDataset(client.ingestion.request("CreateDataset", dataset_id=name))
    upload = client.upload_examples(name, items, label_source="imports/halves")
    commit = client.commit(name, "halves", uploads=[upload.name]).name
    for number in range(1, versions + 1):
        job = client.submit_training(
            folder, entry_point="task.py:Halves", dataset_commit=commit, model=name, seed=number
        )
        *_, ended = client.watch(job.name)
        assert ended.error == ""
    wanted = rol.Endpoint(model=f"models/{name}", serving_config=rol.ServingConfig(capture_policy="all"))
    client.rollout.CreateEndpoint(rol.CreateEndpointRequest(endpoint_id=name, endpoint=wanted))
    for number in range(1, versions + 1):
        platform.slipway("endpoint", "deploy", name, f"v{number}")


def until(true: Callable[[], bool]) -> None:
    """Wait until it is true."""
    stop_at = time.monotonic() + WITHIN_S
    while not true():
        assert time.monotonic() < stop_at
        time.sleep(0.2)


def running(platform: Platform, name: str) -> Any:
    """Return the process or pod whose name begins so."""
    found = platform.slipway("status")
    return next(
        (one for one in [*found["processes"], *found["pods"]] if one["name"].startswith(name)), {"pid": 0}
    )


def removed(client: Client, platform: Platform, name: str) -> None:
    """Take the endpoint away, if it is there."""
    if any(pod["name"].rpartition("-v")[0] == name for pod in platform.slipway("status")["pods"]):
        client.rollout.DeleteEndpoint(rol.DeleteEndpointRequest(name=f"endpoints/{name}", force=True))
