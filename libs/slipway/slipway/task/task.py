"""The task: what a user writes, in one file, to train a model on a data set's images.

A task knows its data only by shape: classes are the data's labels in sorted order, size and channels
are those of its images. So the same file trains on any labelled images.
"""

import inspect
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from slipway.task.hyper import KINDS, Hyper, hyper, resolve
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class DataShape:
    """What a task may know of its data. Images are uint8 (N, height, width, channels)."""

    classes: tuple[str, ...]
    height: int
    width: int
    channels: int


class ScaleImages(nn.Module):
    """uint8 (N, H, W, C) in 0..255 to float32 (N, C, H, W) in 0..1."""

    def forward(self, images: Tensor) -> Tensor:
        """Scale and put channels first."""
        return images.permute(0, 3, 1, 2).to(torch.float32) / 255.0


class Task:
    """A classification task; subclass it, declare hyperparameters, and write `model`.

    Everything else has a default: override `transform`, `augment`, `loss`, `metrics` or `optimizer`
    where the task needs another one.
    """

    epochs: int = hyper(10, low=1, high=100_000)
    batch_size: int = hyper(64, low=1, high=65_536)
    lr: float = hyper(1e-3, low=1e-7, high=10.0)
    weight_decay: float = hyper(0.0, low=0.0, high=1.0)

    declared: ClassVar[dict[str, Hyper]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Collect what this class and its parents declare."""
        super().__init_subclass__(**kwargs)
        cls.declared = dict(_declared(cls))

    def __init__(self, data: DataShape, hyperparameters: Mapping[str, object] | None = None) -> None:
        """Set each declared hyperparameter as an attribute, checked.

        Raises:
            HyperparameterError: one is unknown, of another type, or out of its range.
        """
        self.data = data
        self.hyperparameters = resolve(self.declared, hyperparameters or {})
        for name, value in self.hyperparameters.items():
            setattr(self, name, value)

    def model(self) -> nn.Module:
        """Return the model: (N, C, H, W) float32, as `transform` gives it, to logits (N, classes).

        An `nn.Sequential` serves the input of its last layer as the embedding; any other module may
        return `(logits, embedding)`; one that returns logits alone serves these as the embedding.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a model() that returns an nn.Module")

    def transform(self) -> nn.Module:
        """Return what turns uint8 (N, H, W, C) into the model's input; exported with the model."""
        return ScaleImages()

    def augment(self, images: Tensor) -> Tensor:
        """Change a batch of the train split, and no other, after `transform`. (N, C, H, W)."""
        return images

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of a batch; targets are class indices (N,) int64."""
        return nn.functional.cross_entropy(logits, targets)

    def metrics(self, logits: Tensor, targets: Tensor) -> dict[str, float]:
        """Return figures of a whole split, by name; `loss` is added to them."""
        return {"accuracy": (logits.argmax(dim=1) == targets).float().mean().item()}

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """Return the optimizer of the model's parameters."""
        return torch.optim.AdamW(model.parameters(), lr=self.lr, weight_decay=self.weight_decay)

    def schedule(self, done: float) -> float:
        """Return the factor on the learning rates when this share (0 to 1) of the steps is done.

        Warm-up over the first 5 %, then half a cosine (Loshchilov and Hutter, arXiv:1608.03983).
        """
        return min(1.0, 0.1 + 18.0 * done) * 0.5 * (1.0 + math.cos(math.pi * done))


def _declared(cls: type[Task]) -> Iterator[tuple[str, Hyper]]:
    """Give each `Hyper` of the class its type from the annotation, parents first."""
    for parent in reversed(cls.__mro__):
        for name, kind in inspect.get_annotations(parent).items():
            value = vars(parent).get(name)
            if isinstance(value, Hyper):
                kind_name = kind if isinstance(kind, str) else kind.__name__
                if kind_name not in KINDS:
                    raise TypeError(f"{cls.__name__}.{name}: {kind_name} is no bool, int, float or str")
                yield name, replace(value, kind=kind_name)
