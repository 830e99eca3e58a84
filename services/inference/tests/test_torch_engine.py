"""The engine `torch` with an archive as the trainer writes it: without example inputs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from doubling import SIGNATURE
from slipway_inference.domain import BundleRefused, Signature
from slipway_inference.engine.torch_engine import TorchEngine


class Doubling(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor([2.0, 2.0]))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        return (x * self.factor,)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("program")
    rows = {"x": {0: torch.export.Dim("n", min=1, max=64)}}
    program = torch.export.export(Doubling(), (torch.zeros(2, 2),), dynamic_shapes=rows)
    program._example_inputs = None
    torch.export.save(program, made / "model.pt2")
    return made


@pytest.fixture(autouse=True)
def _weights_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine sets it for its whole process."""
    monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1")


def test_a_program_of_the_trainer_is_taken_and_answers_batches_of_any_size(folder: Path) -> None:
    engine = TorchEngine(folder, SIGNATURE, 1)

    for rows in (1, 2, 5):
        x = np.arange(rows * 2, dtype=np.float32).reshape(rows, 2)
        (y,) = engine.run({"x": x})
        np.testing.assert_array_equal(y, x * 2)


def test_a_program_of_fewer_outputs_than_the_signature_fails_its_batch(folder: Path) -> None:
    both = Signature(SIGNATURE.inputs, SIGNATURE.outputs * 2, SIGNATURE.max_rows)

    with pytest.raises(BundleRefused, match="gives 1 outputs"):
        TorchEngine(folder, both, 1).run({"x": np.zeros((1, 2), np.float32)})
