"""What platforms of tests were taught: two versions of a model of small images, and who labelled them."""

import io
import shutil
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from laptop_platform import Platform
from people import Person, Worker, hire, work
from PIL import Image
from slipway.client import Client, Item
from slipway.labeling.v1 import labeling_pb2 as lab
from slipway.rollout.v1 import rollout_pb2 as rol

TASK = Path(__file__).parents[1] / "contract/training/halves.py"
LABELS = ["left", "right"]
PEOPLE = (Person("lia", 0.0), Person("mio", 0.0))
WITHIN_S = 120.0


@dataclass(frozen=True)
class Taught:
    """Two versions that learnt the same images.

    Attributes:
        name: Id of the data set and the model.
        commit: The snapshot of two people's labels that both versions were trained on.
        versions: Two.
        images: Grey ones (120, 6, 6).
    """

    name: str
    commit: str
    versions: tuple[str, ...]
    images: np.ndarray


def teach(client: Client, folder: Path) -> Taught:
    """Let two people label images, and train two versions on what they say."""
    name = f"halves-{uuid.uuid4().hex[:8]}"
    shutil.copy(TASK, folder / "task.py")
    images = halves(120)
    commit = labelled(client, name, [item for item, _ in images])
    versions = tuple(trained(client, folder, name, commit, seed) for seed in (1, 2))
    return Taught(name, commit, versions, np.stack([pixels for _, pixels in images]))


def halves(count: int) -> list[tuple[Item, np.ndarray]]:
    """Return small grey images, a bright left or a bright right half; every second one has no label."""
    draw = np.random.default_rng(3)
    made = []
    for index in range(count):
        pixels = draw.integers(0, 90, (6, 6), dtype=np.uint8)
        side = index % 2
        pixels[:, 3 * side : 3 * side + 3] += 120
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, "PNG")
        label = "" if index % 4 < 2 else LABELS[side]
        made.append((Item(key=f"{index:03d}.png", data=data.getvalue(), label=label), pixels))
    return made


def labelled(client: Client, name: str, items: list[Item]) -> str:
    """Let two people label what has no label; return the snapshot's commit."""
    client.ingestion.CreateDataset(client.ingestion.request("CreateDataset", dataset_id=name))
    upload = client.upload_examples(name, items, label_source="imports/halves")
    first = client.commit(name, "half of it labelled", uploads=[upload.name]).name
    schema = lab.LabelSchema(classification=lab.Classification(labels=LABELS), instructions="Which half?")
    project = client.labeling.CreateProject(
        lab.CreateProjectRequest(
            project_id=name, project=lab.Project(dataset=f"datasets/{name}", schema=schema, overlap=2)
        )
    ).name
    asked_for = lab.CreateTasksRequest(parent=project, dataset_commit=first, unlabelled_only=True)
    client.labeling.CreateTasks(asked_for)
    truth = {item.key: LABELS[index % 2] for index, item in enumerate(items)}
    work([Worker(one, hire(client, one), project, truth, LABELS, seed=1) for one in PEOPLE])
    client.labeling.ComputeConsensus(lab.ComputeConsensusRequest(parent=project))
    wanted = lab.Snapshot(branch="main", message="labels of people")
    snapshot = client.labeling.CreateSnapshot(lab.CreateSnapshotRequest(parent=project, snapshot=wanted))
    *_, ended = client.watch_snapshot(snapshot.name)
    assert ended.error == ""
    return str(ended.commit)


def trained(client: Client, folder: Path, name: str, commit: str, seed: int) -> str:
    """Train a version; return its name."""
    job = client.submit_training(
        folder, entry_point="task.py:Halves", dataset_commit=commit, model=name, seed=seed
    )
    *_, ended = client.watch(job.name)
    assert ended.error == ""
    return str(ended.model_version)


def images(count: int) -> np.ndarray:
    """Return small grey images (N, 6, 6), a bright left or a bright right half in turn."""
    return np.stack([pixels for _, pixels in halves(count)])


def serve(client: Client, platform: Platform, name: str, model: str, versions: int = 1) -> None:
    """Deploy versions of a model behind `endpoints/{name}`, which captures all; v1 answers."""
    wanted = rol.Endpoint(model=f"models/{model}", serving_config=rol.ServingConfig(capture_policy="all"))
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
