"""A task that learns which half of an image is lighter; small enough to train in a second."""

from pathlib import Path

TASK = """
from torch import nn
from slipway.task import Task, hyper

class Halves(Task):
    epochs: int = hyper(2, low=1, high=5000)
    batch_size: int = hyper(8, low=1, high=64)
    lr: float = hyper(0.01, low=1e-5, high=1.0)
    width: int = hyper(8, low=1, high=64)
    activation: str = hyper("relu", choices=["relu", "tanh"])

    def model(self):
        size = self.data.height * self.data.width * self.data.channels
        act = nn.ReLU() if self.activation == "relu" else nn.Tanh()
        return nn.Sequential(nn.Flatten(), nn.Linear(size, self.width), act, nn.Dropout(0.2),
                             nn.Linear(self.width, len(self.data.classes)))
"""

CRAWL = """
    losses = 0

    def loss(self, logits, targets):
        import os, time
        Halves.losses += 1
        if Halves.losses > 250 and not os.path.exists(GO):
            time.sleep(0.2)
        return super().loss(logits, targets)
"""


def crawling(task: str, go: Path) -> str:
    """Return the task of a class `Halves`, which soon trains slowly until a file is there."""
    return task + CRAWL.replace("GO", repr(str(go)))
