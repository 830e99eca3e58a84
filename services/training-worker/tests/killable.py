"""A training that kills itself at a chosen point; imported by name in forked processes."""

import json
import os
import signal
from pathlib import Path
from typing import Any

from slipway_training.engine import checkpoint
from slipway_training.engine.events import Event, Saved


def train(folder: Path, log: Path, kill: tuple[str, int]) -> None:
    """Run the loop as the training process does, and die at the point; events go to the log."""
    import torch
    from slipway.task import DataShape
    from slipway.task.images import Images
    from slipway_training.engine.child import load_task
    from slipway_training.engine.data import labelled_images
    from slipway_training.engine.loop import Loop

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    _arm(kill)
    images = Images(labelled_images(folder / "checkout"))
    shape = DataShape(classes=images.classes, height=images.height, width=images.width, channels=1)
    task = load_task(folder, "task.py:Halves")(shape, {"epochs": 5})
    with open(log, "a", buffering=1) as out:

        def emit(event: Event) -> None:
            out.write(json.dumps([type(event).__name__, vars(event)]) + "\n")
            if isinstance(event, Saved) and kill == ("step", event.step):
                os.kill(os.getpid(), signal.SIGKILL)

        loop = Loop(task=task, images=images, seed=3, folder=folder, config="c", checkpoint_s=0.0, emit=emit)
        trained = loop.run()
    torch.save(trained.network.state_dict(), folder / "weights.pt")


def _arm(kill: tuple[str, int]) -> None:
    """Make the n-th write, fsync or rename of a checkpoint the process's last act, half done."""
    kind, count = kill
    calls = {"write": 0, "fsync": 0, "rename": 0}

    def die_at(name: str, real: Any) -> Any:
        def call(*args: Any) -> Any:
            calls[name] += 1
            if (name, calls[name]) == (kind, count):
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args)

        return call

    class HalfWritten:
        """A file whose n-th write stops in the middle."""

        def __init__(self, path: Path, mode: str) -> None:
            self.file = open(path, mode)  # noqa: SIM115 - closed by __exit__

        def __enter__(self) -> "HalfWritten":
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def write(self, data: bytes) -> None:
            calls["write"] += 1
            if ("write", calls["write"]) == (kind, count):
                self.file.write(data[: len(data) // 2])
                self.file.flush()
                os.kill(os.getpid(), signal.SIGKILL)
            self.file.write(data)

        def flush(self) -> None:
            self.file.flush()

        def fileno(self) -> int:
            return self.file.fileno()

    checkpoint.open = HalfWritten  # type: ignore[attr-defined]
    checkpoint.os = _Os(die_at("fsync", os.fsync), die_at("rename", os.rename))  # type: ignore[assignment]


class _Os:
    """The os module with two calls replaced."""

    def __init__(self, fsync: Any, rename: Any) -> None:
        self.fsync, self.rename = fsync, rename

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)
