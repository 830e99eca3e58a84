"""`slipway reproduce`: a run trained again from its record, on a real training-worker."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from running import Keys, Service
from slipway.cli.main import app
from slipway.registry.v1 import registry_pb2 as reg
from slipway.registry.v1 import registry_pb2_grpc as reg_grpc
from slipway.training.v1 import training_pb2 as pb
from test_training import asked, create, packed, upload  # noqa: F401 - a fixture
from typer.testing import CliRunner

MEMBERS = {"weights.safetensors", "model.onnx", "model.pt2", "signature.json", "golden.npz", "profile.json"}
OWN_MODULE = """
import torch
from slipway.task import Task
from torch import nn


class Halved(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(18, 2)

    def forward(self, images):
        hidden = torch.relu(images.flatten(1)[:, ::2] - 0.1)
        return self.head(nn.functional.dropout(hidden, 0.1, self.training)), hidden


class Halves(Task):
    def model(self):
        return Halved()
"""
RESTLESS = """
import os

import torch
from slipway.task import Task
from torch import nn


class Restless(Task):
    def model(self):
        torch.manual_seed(int.from_bytes(os.urandom(4), "little"))
        return nn.Sequential(nn.Flatten(), nn.Linear(36, 2))
"""


@pytest.fixture
def reproduce(
    keys: Keys, training: Service, registry: Service, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    monkeypatch.setenv("SLIPWAY_GRPC", f"training={training.address},registry={registry.address}")
    monkeypatch.setenv("SLIPWAY_TOKEN", keys.user())

    def call(run: str, code: int) -> Any:
        result = CliRunner().invoke(app, ["reproduce", run, "--json"])
        assert result.exit_code == code, result.output
        return json.loads(result.stdout or result.stderr)

    return call


def trained(stub: Any, job: pb.TrainingJob) -> pb.TrainingJob:
    *_, last = stub.WatchTrainingJob(pb.WatchTrainingJobRequest(name=job.name), timeout=240)
    assert last.error == ""
    return last


def test_a_run_trained_again_from_its_record_gives_the_same_bytes_in_every_file(
    stub: Any,
    asked: pb.TrainingJob,  # noqa: F811
    start_worker: Callable[..., Service],
    reproduce: Callable[..., Any],
) -> None:
    start_worker()
    asked.seed = 7
    asked.task_code = upload(stub, packed({"task.py": OWN_MODULE})).name
    first = trained(stub, create(stub, asked, epochs=3, lr=0.01))

    found = reproduce(first.run, 0)

    assert found["equal"]
    assert found["repeated_bundle"] == found["bundle"]
    assert {member["file"] for member in found["files"]} >= MEMBERS
    assert found["repeated_run"] != first.run
    assert found["repeated_version"] == f"{asked.model}-reproduced/versions/1"


def test_a_task_that_the_seed_does_not_reach_differs_by_name_and_what_changed_around_it_is_told(
    stub: Any,
    asked: pb.TrainingJob,  # noqa: F811
    start_worker: Callable[..., Service],
    reproduce: Callable[..., Any],
) -> None:
    worker = start_worker(attempt_threads=1)
    asked.task_code = upload(stub, packed({"task.py": RESTLESS})).name
    asked.entry_point = "task.py:Restless"
    first = trained(stub, create(stub, asked, epochs=2, lr=0.01))
    worker.stop()
    start_worker(attempt_threads=2)

    found = reproduce(first.run, 1)

    equal = {member["file"]: member["recorded"] == member["repeated"] for member in found["files"]}
    assert not found["equal"]
    assert not equal["weights.safetensors"]
    assert not equal["model.onnx"]
    assert equal["signature.json"]
    assert found["conditions"] == {"threads": ["1", "2"]}
    assert "threads 1 → 2" in found["why"]


def test_a_run_that_no_job_made_or_that_is_not_there_is_refused_by_reason(
    keys: Keys, registry: Service, commit: str, reproduce: Callable[..., Any]
) -> None:
    with registry.channel(keys.user()) as opened:
        stubs = reg_grpc.RegistryServiceStub(opened)
        stubs.CreateExperiment(reg.CreateExperimentRequest(experiment_id="by-hand"))
        run = reg.Run(dataset_commit=commit, code_digest="taskCode/" + "0" * 64)
        made = stubs.CreateRun(reg.CreateRunRequest(parent="experiments/by-hand", run=run))

    by_hand = reproduce(made.name, 4)["error"]
    unknown = reproduce("by-hand/nothing", 3)["error"]

    assert by_hand["reason"] == "NOTHING_TO_REPRODUCE"
    assert unknown["reason"] == "RUN_NOT_FOUND"
