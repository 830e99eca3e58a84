"""The tests of a trained model as commands, on a version that a platform trained."""

import io
import json
import uuid
from pathlib import Path

import numpy as np
import pytest
from laptop_platform import Platform
from PIL import Image
from slipway.checks import Cases, functionality
from slipway.client import Client, Item

pytestmark = [pytest.mark.xdist_group("platform"), pytest.mark.timeout(900)]

LABELS = ("left", "right")
COUNT = 80
POLICY = """\
evaluation: {minimum_examples: 1}
thresholds: {accuracy: {min: 0.0}}
golden: {max_abs_diff: 0.001}
"""
TASK = """\
from slipway.task import Task, hyper
from torch import nn


class Halves(Task):
    epochs: int = hyper(1, low=1, high=10)

    def model(self) -> nn.Module:
        size = self.data.channels * self.data.height * self.data.width
        head = nn.Linear(4, len(self.data.classes))
        return nn.Sequential(nn.Flatten(), nn.Linear(size, 4), nn.ReLU(), head)
"""


def items() -> list[Item]:
    random = np.random.default_rng(0)
    made = []
    for index in range(COUNT):
        pixels = random.integers(0, 60, (6, 6), dtype=np.uint8)
        side = index % 2
        pixels[:, 3 * side : 3 * side + 3] += 180
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, "PNG")
        made.append(Item(key=f"{index:03d}.png", data=data.getvalue(), label=LABELS[side]))
    return made


@pytest.fixture(scope="module")
def model(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the id of a model with one version and a policy that asks for little."""
    name = f"halves-{uuid.uuid4().hex[:8]}"
    folder = tmp_path_factory.mktemp("halves")
    (folder / "task.py").write_text(TASK)
    with Client.local() as client:
        client.ingestion.CreateDataset(client.ingestion.request("CreateDataset", dataset_id=name))
        upload = client.upload_examples(name, items())
        commit = client.commit(name, "halves", uploads=[upload.name])
        job = client.submit_training(
            folder, entry_point="task.py:Halves", dataset_commit=commit.name, model=name, seed=3
        )
        *_, ended = client.watch(job.name)
        assert ended.model_version == f"models/{name}/versions/1", ended.error
        client.registry.SetGatePolicy(
            client.registry.request("SetGatePolicy", parent=f"models/{name}", yaml=POLICY)
        )
    return name


def failures(report: dict[str, list[dict[str, str]]]) -> list[str]:
    return [
        f"{check['name']}: {check['message']}" for check in report["checks"] if check["outcome"] == "failed"
    ]


def test_a_trained_version_passes_its_functionality(platform: Platform, model: str, tmp_path: Path) -> None:
    junit = tmp_path / "junit.xml"

    report = platform.slipway("test", "functionality", model, "--budget", "4m", "--junit", str(junit))

    assert (report["subject"], failures(report)) == (f"models/{model}/versions/1", [])
    assert {"bundle", "engine", "signature", "golden"} <= {check["name"] for check in report["checks"]}
    assert "<testsuite " in junit.read_text()


def test_an_important_example_passes_with_the_label_that_it_gets_and_no_other(
    model: str, tmp_path: Path
) -> None:
    (tmp_path / "odd.png").write_bytes(items()[1].content())

    with Client.local() as client:
        outcomes = [
            [check.outcome for check in report.checks if check.name.startswith("example ")]
            for label in (*LABELS, "middle")
            for report in [
                functionality(
                    client,
                    f"models/{model}/versions/1",
                    cases=Cases(keys={"001.png": label}, files={tmp_path / "odd.png": label}, at="main"),
                )
            ]
        ]

    assert sorted(outcomes) == [["failed", "failed"], ["failed", "failed"], ["passed", "passed"]]
    assert outcomes[-1] == ["failed", "failed"]


def test_a_trained_version_is_evaluated_and_judged(platform: Platform, model: str) -> None:
    report = platform.slipway("test", "validation", model, "--budget", "4m")

    values = {check["name"]: check["value"] for check in report["checks"]}
    assert (failures(report), values["verdict"]) == ([], "APPROVED")
    assert [row["verdict"] for row in platform.slipway("model", "verdicts", f"{model}/v1")] == ["APPROVED"]


def test_training_again_gives_what_it_gave(platform: Platform, model: str) -> None:
    report = platform.slipway("test", "training-system", f"{model}/v1", "--budget", "8m")

    assert failures(report) == []
    assert {"metric accuracy", "metric loss", "weights"} <= {check["name"] for check in report["checks"]}
    again = platform.slipway("model", "versions", f"{model}-training-test")
    assert len(again) == 1


def test_scores_of_a_trained_version_are_read_as_lines(
    platform: Platform, model: str, tmp_path: Path
) -> None:
    platform.slipway("score", "submit", model, "--split", "test")
    (job,) = [
        row for row in platform.slipway("score", "list", "--version", f"{model}/v1") if not row["evaluate"]
    ]
    with Client.local() as client:
        *_, ended = client.watch_scoring_job(job["name"])

    told = platform.slipway("score", "read", job["name"], str(tmp_path / "scores.jsonl"))

    lines = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    assert (told["scores"], len(lines)) == (int(ended.done_count), int(ended.done_count))
    assert set(lines[0]["probabilities"]) == set(LABELS)
