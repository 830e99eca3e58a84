"""The bundle: what it holds, that it answers as the network, and that nothing in it is a pickle."""

import json
import pickletools
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from blake3 import blake3
from safetensors.numpy import load_file
from slipway.task import DataShape, Task
from slipway.task.bundle import bundle_digest, write_bundle
from slipway.task.evaluation import evaluation, majority_baseline
from slipway.task.export import ParityError, prove_parity
from slipway.task.network import Network
from torch import nn

CLASSES = ("blue", "green", "red")
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 8, 6, 3), dtype=np.uint8)


class Small(Task):
    def model(self) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(4 * 48, 5),
            nn.Linear(5, len(self.data.classes)),
        )


def small_network() -> Network:
    torch.manual_seed(0)
    shape = DataShape(classes=CLASSES, height=8, width=6, channels=3)
    return Network(Small(shape)).eval()


def write(folder: Path) -> str:
    targets = np.arange(40) % 3
    report = evaluation(
        split="test", classes=CLASSES, targets=targets, predicted=targets, metrics={}, baseline={}
    )
    return write_bundle(
        folder,
        network=small_network(),
        images=IMAGES,
        classes=CLASSES,
        evaluation=report,
        facts={"run": "experiments/e/runs/r"},
    )


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("bundle") / "one"
    return folder, write(folder)


def manifest(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "manifest.json").read_text()))


def test_every_file_has_its_digest_and_their_list_has_the_bundles(bundle: tuple[Path, str]) -> None:
    folder, digest = bundle

    listed = manifest(folder)["files"]

    assert set(listed) == {path.name for path in folder.iterdir()} - {"manifest.json"}
    assert set(listed) >= {
        "model.onnx",
        "weights.safetensors",
        "signature.json",
        "golden.npz",
        "profile.json",
    }
    for name, entry in listed.items():
        data = (folder / name).read_bytes()
        assert entry == {"blake3": blake3(data).hexdigest(), "size": len(data)}
    assert digest == bundle_digest(listed)


def test_the_graph_answers_as_the_network_for_every_batch_size(bundle: tuple[Path, str]) -> None:
    folder, _ = bundle
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))

    for size in (1, 2, 17, 40):
        with torch.inference_mode():
            wanted = [output.numpy() for output in small_network()(torch.from_numpy(IMAGES[:size]))]
        got = session.run(["probabilities", "embedding"], {"image": IMAGES[:size]})
        for want, have in zip(wanted, got, strict=True):
            np.testing.assert_allclose(have, want, atol=1e-5)

    parity = manifest(folder)["parity"]
    assert parity["batches"] == list(range(1, 41))
    assert 0 <= parity["max_abs_diff"] < 1e-4


def test_the_exported_program_answers_the_same(bundle: tuple[Path, str]) -> None:
    folder, _ = bundle

    program = torch.export.load(folder / "model.pt2").module()

    with torch.inference_mode():
        got, _ = program(torch.from_numpy(IMAGES[:5]))
        want, _ = small_network()(torch.from_numpy(IMAGES[:5]))
    assert torch.allclose(got, want, atol=1e-6)
    assert manifest(folder)["engines"] == ["onnx", "torch"]


def test_a_graph_of_another_network_does_not_pass(bundle: tuple[Path, str]) -> None:
    other = small_network()
    with torch.no_grad():
        other.model[-1].bias += torch.tensor([0.0, 1.0, 0.0])  # type: ignore[index]

    with pytest.raises(ParityError, match=r"batch of 1: .* differs by"):
        prove_parity(other, IMAGES, bundle[0], 4)


def test_golden_examples_and_signature_fit_each_other(bundle: tuple[Path, str]) -> None:
    folder, _ = bundle
    signature = json.loads((folder / "signature.json").read_text())
    golden = np.load(folder / "golden.npz", allow_pickle=False)

    assert signature["inputs"][0]["shape"] == [-1, 8, 6, 3]
    assert [output["shape"] for output in signature["outputs"]] == [[-1, 3], [-1, 5]]
    assert signature["classes"] == list(CLASSES)
    assert golden["in.image"].dtype == np.uint8
    np.testing.assert_allclose(golden["out.probabilities"].sum(axis=1), 1, atol=1e-5)


def test_nothing_in_the_bundle_is_a_pickle(bundle: tuple[Path, str]) -> None:
    folder, _ = bundle
    contents = {path.name: path.read_bytes() for path in folder.iterdir()}
    for name in ("model.pt2", "golden.npz"):
        archive = zipfile.ZipFile(folder / name)
        contents |= {f"{name}/{member}": archive.read(member) for member in archive.namelist()}

    for name, data in contents.items():
        assert not is_pickle(data), name


def is_pickle(data: bytes) -> bool:
    """Say whether a pickle begins here: protocol 2 or later, as every writer of today makes it."""
    if not data.startswith(b"\x80"):
        return False
    try:
        return any(opcode.name == "STOP" for opcode, _, _ in pickletools.genops(data))
    except ValueError:
        return False


def test_the_same_network_makes_the_same_bytes(bundle: tuple[Path, str], tmp_path: Path) -> None:
    assert write(tmp_path / "two") == bundle[1]


def test_weights_are_those_of_the_network(bundle: tuple[Path, str]) -> None:
    weights = load_file(bundle[0] / "weights.safetensors")

    assert weights.keys() == small_network().state_dict().keys()


def test_the_evaluation_counts_true_class_by_predicted_class() -> None:
    report = evaluation(
        split="test",
        classes=("a", "b", "c"),
        targets=np.array([0, 0, 0, 1]),
        predicted=np.array([0, 0, 1, 1]),
        metrics={"accuracy": 0.75},
        baseline={},
    )

    assert report["confusion_matrix"] == [2, 1, 0, 0, 1, 0, 0, 0, 0]
    first, second, third = report["per_class"]
    assert (first["support"], first["precision"], first["recall"]) == (3, 1.0, pytest.approx(2 / 3))
    assert (second["precision"], second["recall"], second["f1"]) == (0.5, 1.0, pytest.approx(2 / 3))
    assert third == {"label": "c", "support": 0, "precision": 0.0, "recall": 0.0, "f1": 0.0}


def test_the_baseline_answers_the_train_splits_majority() -> None:
    baseline = majority_baseline(2, np.array([0, 0, 0, 1]), np.array([0, 1]))

    assert baseline["accuracy"] == 0.5
    assert baseline["loss"] == pytest.approx(-(np.log(4 / 6) + np.log(2 / 6)) / 2)
