"""A task small enough for tests: a perceptron on tiny images."""

from slipway.task import Task, hyper
from torch import nn


class Halves(Task):
    """Says which half of an image is bright."""

    epochs: int = hyper(2, low=1, high=5000)
    batch_size: int = hyper(8, low=1, high=64)
    lr: float = hyper(0.01, low=1e-5, high=1.0)
    activation: str = hyper("relu", choices=["relu", "tanh"])

    def model(self) -> nn.Module:
        """Return one hidden layer."""
        size = self.data.height * self.data.width * self.data.channels
        act = nn.ReLU() if self.activation == "relu" else nn.Tanh()
        return nn.Sequential(nn.Flatten(), nn.Linear(size, 8), act, nn.Linear(8, len(self.data.classes)))
