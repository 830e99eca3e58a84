"""The network as it is trained and as it is served: transform, model, probabilities, embedding."""

from typing import cast

import torch
from slipway.task.task import Task
from torch import Tensor, nn


class Network(nn.Module):
    """A task's transform and model. Called, it maps uint8 (N, H, W, C) to what a server answers."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.transform = task.transform()
        self.model = task.model()

    def logits(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Map transformed inputs to logits (N, classes) and embedding (N, D)."""
        if isinstance(self.model, nn.Sequential) and len(self.model) > 1:
            *body, head = self.model
            embedding = inputs
            for layer in body:
                embedding = layer(embedding)
            return head(embedding), embedding.flatten(1)
        answer = self.model(inputs)
        if isinstance(answer, tuple):
            logits, embedding = cast(tuple[Tensor, Tensor], answer)
            return logits, embedding.flatten(1)
        return answer, answer.flatten(1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map images to probabilities (N, classes) and embedding (N, D), both float32."""
        logits, embedding = self.logits(self.transform(image))
        return torch.softmax(logits, dim=1), embedding
