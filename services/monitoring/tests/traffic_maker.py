"""Traffic of an endpoint whose images can fade and whose model's answers can go soft, with its reference."""

import json
import time
import uuid
from typing import Any

import numpy as np
from event_maker import CLASSES, ENDPOINT, VERSION, batch, event
from slipway.task.profile import reference_profile
from slipway_monitoring.domain.events import Batch, Event, Role, Row, Tensor
from slipway_monitoring.domain.profiles import Profile

EMBEDDING = 16


class Traffic:
    """Makes rows of three flowers, seeded; their ids too, for these say which rows are in a sample."""

    def __init__(self, seed: int = 0) -> None:
        self._random, self._ids = np.random.default_rng(seed), np.random.default_rng([seed, 1])
        self.spool = str(uuid.uuid4())
        self._sequence = 0

    def rows(self, count: int, fade: float = 1.0, soft: float = 0.0) -> tuple[Any, Any, Any]:
        """Return images (N, 8, 8, 1), probabilities (N, 3), embedding (N, 16)."""
        spread = 40 * self._random.uniform(0.7, 1.3, (count, 1, 1, 1))
        images = np.clip(128 + spread * self._random.normal(0, 1, (count, 8, 8, 1)) * fade, 0, 255)
        label = self._random.integers(0, len(CLASSES), count)
        embedding = self._random.normal(0, 1, (count, EMBEDDING)).astype(np.float32)
        embedding[np.arange(count), label] += 4 * fade
        logits = self._random.normal(0, 1, (count, len(CLASSES)))
        logits[np.arange(count), label] += 3 - soft
        odds = np.exp(logits)
        return images.astype(np.uint8), odds / odds.sum(axis=1, keepdims=True), embedding

    def profile(self, version: str = VERSION, rows: int = 600) -> Profile:
        """Return what a version's bundle says of rows like these."""
        images, probabilities, embedding = self.rows(rows)
        made = reference_profile(
            images=images, probabilities=probabilities, embedding=embedding, classes=CLASSES, split="test"
        )
        outputs = [{"name": "probabilities"}, {"name": "embedding"}]
        signature = {"classes": list(CLASSES), "outputs": outputs}
        return Profile(version, signature, json.loads(json.dumps(made)))

    def batch(self, count: int, captured: bool = True, **how: Any) -> Batch:
        """Return the spool's next events, of one row each."""
        fields = {name: how.pop(name) for name in ("role", "model_version", "latency_ms") if name in how}
        events = [self._event(row, fields) for row in self._rows(count, captured, **how)]
        return batch(events, self.spool, first_sequence=events[0].sequence)

    def _rows(self, count: int, captured: bool, **how: float) -> list[Row]:
        images, probabilities, embedding = self.rows(count, **how)
        return [
            Row(
                {"probabilities": _floats(p), "embedding": _floats(e)},
                {"image": Tensor("UINT8", image.shape, image.tobytes())} if captured else {},
            )
            for image, p, e in zip(images, probabilities, embedding, strict=True)
        ]

    def _event(self, row: Row, fields: dict[str, Any]) -> Event:
        self._sequence += 1
        made: dict[str, Any] = {
            "prediction_id": f"{uuid.UUID(bytes=self._ids.bytes(16))}-abcdef12",
            "role": Role.LIVE,
            "endpoint": ENDPOINT,
            "time_us": time.time_ns() // 1000,
        }
        return event(self._sequence, row, **{**made, **fields})


def _floats(values: Any) -> Tensor:
    return Tensor("FP32", values.shape, np.asarray(values, "<f4").tobytes())
