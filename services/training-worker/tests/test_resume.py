"""A training killed anywhere goes on to the same bits as one that nobody disturbed.

Each run is a forked process, so that torch is loaded once. A point is a step after which the process
gets SIGKILL, or the n-th write, fsync or rename of a checkpoint in whose middle it does.
"""

import json
import multiprocessing
import random
import signal
from pathlib import Path
from typing import Any

import pytest
from halves_task import TASK
from killable import train
from neighbours import examples
from slipway_training.engine import checkpoint
from slipway_training.engine.data import Row, check_out
from slipway_training.engine.events import Metrics, Resumed

STEPS = 5 * 9  # five epochs of 72 train rows in batches of 8
forked = multiprocessing.get_context("forkserver")
forked.set_forkserver_preload(
    ["slipway_training.engine.loop", "torch._dynamo", "safetensors.torch", "PIL.PngImagePlugin"]
)


def _points() -> list[tuple[str, int]]:
    """Ten points: seven random steps, and three inside a checkpoint's write."""
    steps = random.Random(7).sample(range(1, STEPS), 7)
    return [("step", step) for step in sorted(steps)] + [("write", 9), ("fsync", 31), ("rename", 20)]


def run(folder: Path, kill: tuple[str, int] = ("", 0)) -> tuple[int, list[list[Any]]]:
    """Run to the end or the kill; return exit code and events of this run."""
    log = folder / "events.log"
    log.unlink(missing_ok=True)
    process = forked.Process(target=train, args=(folder, log, kill))
    process.start()
    process.join(120)
    assert process.exitcode is not None
    return process.exitcode, [json.loads(line) for line in log.read_text().splitlines()]


def prepared(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "task.py").write_text(TASK)
    rows = (Row(e.key, e.label, e.split, e.blob, data) for e, data in examples())
    check_out(folder / "checkout", rows)
    return folder


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[Any]]]:
    folder = prepared(tmp_path_factory.mktemp("undisturbed") / "run")
    code, events = run(folder)
    assert code == 0
    return folder, events


@pytest.mark.parametrize("point", _points(), ids=lambda point: f"{point[0]}-{point[1]}")
def test_a_killed_training_ends_with_the_same_bits(
    undisturbed: tuple[Path, list[list[Any]]], tmp_path: Path, point: tuple[str, int]
) -> None:
    import torch

    folder = prepared(tmp_path / "run")

    killed, _ = run(folder, point)
    code, events = run(folder)

    assert (killed, code) == (-signal.SIGKILL, 0)
    resumed = next(fields["step"] for kind, fields in events if kind == Resumed.__name__)
    assert resumed > 0
    if point[0] == "step":
        assert resumed == point[1]
    wanted = torch.load(undisturbed[0] / "weights.pt", weights_only=True)
    got = torch.load(folder / "weights.pt", weights_only=True)
    assert wanted.keys() == got.keys()
    assert all(torch.equal(wanted[name], got[name]) for name in wanted)
    assert _series(events) == _series(undisturbed[1])


def _series(events: list[list[Any]]) -> dict[tuple[str, int], float]:
    points = [fields for kind, fields in events if kind == Metrics.__name__]
    return {(key, point["step"]): value for point in points for key, value in point["values"].items()}


def test_a_checkpoint_with_one_wrong_bit_is_passed_over_for_the_one_before(tmp_path: Path) -> None:
    older = checkpoint.write(tmp_path, 1, b"older")
    newer = checkpoint.write(tmp_path, 2, b"newer")
    newer.write_bytes(b"newez")

    assert checkpoint.newest(tmp_path) == older


def test_two_checkpoints_are_kept(tmp_path: Path) -> None:
    for step in range(5):
        checkpoint.write(tmp_path, step, b"data")

    assert sorted(checkpoint.step_of(path.name) for path in tmp_path.iterdir()) == [3, 4]
