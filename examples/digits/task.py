"""A small convolutional network for small images, grey or colour, from 8x8 up; and one with a fault."""

from abc import abstractmethod

import torch
from slipway.task import Task, hyper
from torch import Tensor, nn


class SmallImages(Task):
    """Two convolution blocks and a small head; shifted images keep it from learning places by heart."""

    epochs: int = hyper(25, low=1, high=1000)
    lr: float = hyper(3e-3, low=1e-5, high=1.0)
    width: int = hyper(32, low=4, high=512)
    dropout: float = hyper(0.1, low=0.0, high=0.9)
    shift: int = hyper(1, low=0, high=8)

    def model(self) -> nn.Module:
        """Return the network; its last layer's input is what it serves as the embedding."""
        return nn.Sequential(
            _block(self.data.channels, self.width, stride=1 if self.data.height < 16 else 2),
            nn.MaxPool2d(2),
            _block(self.width, 2 * self.width, stride=1),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(8 * self.width, 2 * self.width),
            nn.ReLU(),
            nn.Dropout(self.dropout),
            nn.Linear(2 * self.width, len(self.data.classes)),
        )

    def augment(self, images: Tensor) -> Tensor:
        """Shift each image by up to `shift` pixels each way; what moves in is black."""
        side = self.shift
        padded = nn.functional.pad(images, (side, side, side, side))
        height, width = images.shape[2:]
        moves = torch.randint(0, 2 * side + 1, (len(images), 2)).tolist()
        cut = [image[:, y : y + height, x : x + width] for image, (y, x) in zip(padded, moves, strict=True)]
        return torch.stack(cut)


def _block(inputs: int, outputs: int, *, stride: int) -> nn.Module:
    convolution = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, stride=stride, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


class LosesOneClass(SmallImages):
    """A subtle fault, as a gate must find it: in service a fifth of one class is never recognised.

    It trains as its parent does; the fault shows only in evaluation mode, so also in what is exported.
    """

    lost_class: int = hyper(0, low=0, high=999)

    def model(self) -> nn.Module:
        """Return the parent's network with the fault behind it."""
        return _Faulty(super().model(), self.lost_class)


class SwapsTwoClasses(SmallImages):
    """Fast but wrong: in service two classes answer to each other's name, as after a mixed-up label list."""

    one: int = hyper(0, low=0, high=999)
    other: int = hyper(1, low=0, high=999)

    def model(self) -> nn.Module:
        """Return the parent's network with two of its answers swapped in evaluation mode."""
        return _Swapped(super().model(), self.one, self.other)


class CoarseHead(SmallImages):
    """The same network with a last layer of few bits, as in a cheaper number format: near, not equal."""

    bits: int = hyper(5, low=2, high=16)

    def model(self) -> nn.Module:
        """Return the parent's network with a last layer that is rounded in evaluation mode."""
        return _Coarse(super().model(), self.bits)


class _Headed(nn.Module):
    """A network in two parts, so that what serves may differ from what trains."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        *body, self.head = network.children()
        self.body = nn.Sequential(*body)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.body(images)  # (N, D)
        return (self.head(hidden) if self.training else self.served(images, hidden)), hidden

    @abstractmethod
    def served(self, images: Tensor, hidden: Tensor) -> Tensor:
        """Return the logits (N, classes) in evaluation mode."""


class _Faulty(_Headed):
    def __init__(self, network: nn.Module, lost_class: int) -> None:
        super().__init__(network)
        self.lost_class = lost_class

    def served(self, images: Tensor, hidden: Tensor) -> Tensor:
        logits: Tensor = self.head(hidden)  # (N, classes)
        ink = (images.sum(dim=(1, 2, 3)) * 255.0).round()  # (N,): its remainder is as good as a draw
        hit = (torch.remainder(ink, 5.0) < 0.5).to(logits.dtype)
        lost = torch.zeros_like(logits[:1])
        lost[:, self.lost_class] = 100.0
        return logits - hit[:, None] * lost


class _Swapped(_Headed):
    def __init__(self, network: nn.Module, one: int, other: int) -> None:
        super().__init__(network)
        self.one, self.other = one, other

    def served(self, images: Tensor, hidden: Tensor) -> Tensor:
        logits: Tensor = self.head(hidden)  # (N, classes)
        order = list(range(logits.shape[1]))
        order[self.one], order[self.other] = self.other, self.one
        return logits[:, order]


class _Coarse(_Headed):
    def __init__(self, network: nn.Module, bits: int) -> None:
        super().__init__(network)
        self.levels = 2.0 ** (bits - 1)

    def served(self, images: Tensor, hidden: Tensor) -> Tensor:
        step = self.head.weight.abs().max() / self.levels
        weight = (self.head.weight / step).round() * step  # (classes, D)
        return nn.functional.linear(hidden, weight, self.head.bias)
