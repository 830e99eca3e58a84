"""The training loop, top to bottom: smoke stage, baseline, training with checkpoints, scores.

In the manner of karpathy/nanoGPT's train.py. A run is a function of (task, data, seed, thread count): it
may be killed anywhere and goes on from its newest checkpoint to the same bits (on CPU).
"""

import copy
import io
import math
import pickle
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from blake3 import blake3
from numpy.typing import NDArray
from slipway.task import Task
from slipway.task.evaluation import evaluation, majority_baseline
from slipway.task.images import Images
from slipway.task.network import Network
from torch import Tensor

from slipway_training.engine import checkpoint
from slipway_training.engine.events import Event, Metrics, Progress, Resumed, Saved, Stage

SMOKE_ROWS = 32
SMOKE_STEPS = 100
LOGGED_POINTS = 2000  # per series and run, so that a long run logs every n-th step
PROGRESS_S = 0.25

Emit = Callable[[Event], None]


class TrainingError(RuntimeError):
    """The training cannot succeed as it is; the text says why and what to look at."""


@dataclass(frozen=True)
class Trained:
    """What a run ends with; the network is in evaluation mode, on the CPU."""

    network: Network
    evaluation: dict[str, Any]


@dataclass(kw_only=True)
class Loop:
    """One run of a task on images.

    Args:
        task: What to train.
        images: What to train on.
        seed: Of everything random.
        folder: Where checkpoints are written and looked for.
        config: Digest of all that makes the run what it is; a checkpoint of another one is not used.
        checkpoint_s: Seconds between two checkpoints; 0 writes one after every step.
        emit: Tells the parent.
    """

    task: Task
    images: Images
    seed: int
    folder: Path
    config: str
    checkpoint_s: float
    emit: Emit

    def __post_init__(self) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.rows = self.images.split("train")
        self.batch_size = min(self.task.batch_size, len(self.rows))
        self.steps_per_epoch = len(self.rows) // self.batch_size  # the rest comes in another epoch's order
        self.total_steps = self.steps_per_epoch * self.task.epochs
        self.history: list[Metrics] = []
        self.log_every = max(1, self.total_steps // LOGGED_POINTS)

    def run(self) -> Trained:
        """Train to the end, from the newest checkpoint when there is one.

        Raises:
            TrainingError: the smoke stage or the loss says that it cannot work.
        """
        _seed_all(self.seed, "weights")
        network = Network(self.task).to(self.device)
        optimizer = self.task.optimizer(network.model)
        rates = [float(group["lr"]) for group in optimizer.param_groups]
        start = self._restore(network, optimizer)
        self.emit(Resumed(start))
        for point in self.history:  # the parent that heard it may have died before it passed it on
            self.emit(point)
        if start == 0:
            self.emit(Stage("smoke"))
            self._smoke(network)
            _seed_all(self.seed, "training")
        self._train(network, optimizer, rates, start)
        return self._scored(network)

    def _smoke(self, network: Network) -> None:
        """Overfit one batch with a copy: a loss that does not fall there will fall nowhere."""
        _seed_all(self.seed, "smoke")
        trial = copy.deepcopy(network).train()
        optimizer = self.task.optimizer(trial.model)
        batch = self._batch(self.rows[_order(self.seed, -1, len(self.rows))[:SMOKE_ROWS]])
        first = last = math.nan
        for step in range(SMOKE_STEPS):
            last = self._step(trial, optimizer, *batch, augment=False)
            first = last if step == 0 else first
            if not math.isfinite(last) or last < 0.5 * first:
                break
        if not last < 0.98 * first:
            raise TrainingError(
                f"smoke stage: the loss of one batch of {len(batch[1])} went from {first:.4g} to {last:.4g} "
                f"in {step + 1} steps, so the task cannot learn it; check model(), loss() and lr"
            )

    def _train(
        self, network: Network, optimizer: torch.optim.Optimizer, rates: list[float], start: int
    ) -> None:
        self.emit(Stage("train"))
        saved_at, told_at = time.monotonic(), 0.0
        latest: dict[str, float] = {}
        order = np.empty(0, dtype=np.int64)
        for step in range(start, self.total_steps):
            epoch, position = divmod(step, self.steps_per_epoch)
            if position == 0 or step == start:
                order = self.rows[_order(self.seed, epoch, len(self.rows))]
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * self.task.schedule(step / self.total_steps)
            batch = self._batch(order[position * self.batch_size : (position + 1) * self.batch_size])
            loss = self._step(network.train(), optimizer, *batch, augment=True)
            done = step + 1
            if not math.isfinite(loss):
                raise TrainingError(
                    f"the loss is {loss} at step {done}; lower lr, or check loss() and the data"
                )
            latest["train/loss"] = loss
            if done % self.log_every == 0:
                self._measured(done, {"train/loss": loss})
            if done % self.steps_per_epoch == 0:
                latest |= self._validate(network, done)
            if time.monotonic() - told_at >= PROGRESS_S or done == self.total_steps:
                self.emit(Progress(done, self.total_steps, done // self.steps_per_epoch, latest))
                told_at = time.monotonic()
            if time.monotonic() - saved_at >= self.checkpoint_s or done == self.total_steps:
                self._save(network, optimizer, done)
                saved_at = time.monotonic()

    def _measured(self, step: int, values: dict[str, float]) -> None:
        self.history.append(Metrics(step, values))
        self.emit(self.history[-1])

    def _step(
        self,
        network: Network,
        optimizer: torch.optim.Optimizer,
        images: Tensor,
        targets: Tensor,
        *,
        augment: bool,
    ) -> float:
        inputs = network.transform(images)  # (B, C, H, W) float32
        if augment:
            inputs = self.task.augment(inputs)
        logits, _ = network.logits(inputs)  # (B, classes)
        loss = self.task.loss(logits, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    def _batch(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        images = torch.from_numpy(self.images.batch(rows)).to(self.device)  # (B, H, W, C) uint8
        return images, torch.from_numpy(self.images.targets[rows]).to(self.device)  # (B,) int64

    def _validate(self, network: Network, step: int) -> dict[str, float]:
        rows = self.images.split("validation")
        if len(rows) == 0:
            return {}
        scores, _ = self._score(network, rows)
        values = {f"validation/{name}": value for name, value in scores.items()}
        self._measured(step, values)
        return values

    def _score(self, network: Network, rows: NDArray[np.int64]) -> tuple[dict[str, float], NDArray[np.int64]]:
        """Return the task's figures and the predicted classes (N,) of these rows; leaves no trace in RNGs."""
        network.eval()
        parts = []
        with torch.inference_mode():
            for start in range(0, len(rows), 256):
                images, _ = self._batch(rows[start : start + 256])
                parts.append(network.logits(network.transform(images))[0])
            logits = torch.cat(parts)  # (N, classes)
            targets = torch.from_numpy(self.images.targets[rows]).to(self.device)
            loss = float(self.task.loss(logits, targets).item())
            scores = {"loss": loss, **self.task.metrics(logits, targets)}
        return scores, logits.argmax(dim=1).cpu().numpy()

    def _scored(self, network: Network) -> Trained:
        split = self.images.held_out()
        rows = self.images.split(split)
        targets = self.images.targets
        self.emit(Stage("baseline"))
        baseline = majority_baseline(len(self.images.classes), targets[self.rows], targets[rows])
        self.emit(Metrics(self.total_steps, {f"baseline/{name}": value for name, value in baseline.items()}))
        self.emit(Stage("evaluate"))
        scores, predicted = self._score(network, rows)
        self.emit(Metrics(self.total_steps, {f"{split}/{name}": value for name, value in scores.items()}))
        report = evaluation(
            split=split,
            classes=self.images.classes,
            targets=targets[rows],
            predicted=predicted,
            metrics=scores,
            baseline=baseline,
        )
        return Trained(network.to("cpu").eval(), report)

    def _save(self, network: Network, optimizer: torch.optim.Optimizer, step: int) -> None:
        epoch, position = divmod(step, self.steps_per_epoch)
        version, words, *rest = random.getstate()
        name, keys, *numbers = np.random.get_state()
        state = {
            "config": self.config,
            "step": step,
            "history": [[point.step, point.values] for point in self.history],
            "position": {"epoch": epoch, "batch": position},
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
            "python": [version, list(words), *rest],
            "numpy": [name, keys.tolist(), *numbers],  # type: ignore[union-attr, attr-defined]
        }
        data = io.BytesIO()
        torch.save(state, data)
        path = checkpoint.write(self.folder, step, data.getvalue())
        self.emit(Saved(step, str(path)))

    def _restore(self, network: Network, optimizer: torch.optim.Optimizer) -> int:
        """Put everything back as it was; return the step to go on from."""
        path = checkpoint.newest(self.folder)
        if path is None:
            return 0
        try:
            state = torch.load(path, weights_only=True, map_location="cpu")
        except (RuntimeError, pickle.UnpicklingError):
            return 0
        if state["config"] != self.config:
            return 0
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["torch"])
        if state["cuda"] and self.device.type == "cuda":
            torch.cuda.set_rng_state_all(state["cuda"])
        self.history = [Metrics(step, values) for step, values in state["history"]]
        version, words, *rest = state["python"]
        random.setstate((version, tuple(words), *rest))
        np.random.set_state(tuple(state["numpy"]))
        return int(state["step"])


def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """Return the order of the rows in an epoch: a function of (seed, epoch) and nothing else."""
    return np.random.default_rng([abs(seed), int(seed < 0), epoch + 1]).permutation(count)


def _seed_all(seed: int, purpose: str) -> None:
    """Seed every generator; a purpose of its own keeps one stage's draws out of another's."""
    digest = blake3(f"{seed}/{purpose}".encode()).digest()
    number = int.from_bytes(digest[:4], "little")
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)
