"""Events as a front makes them: rows with probabilities over three flowers, and an embedding."""

import time
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
from slipway_monitoring.domain.events import Batch, Event, Role, Row, Tensor
from slipway_monitoring.domain.profiles import Profile
from slipway_runtime.errors import NotFound

CLASSES = ("rose", "tulip", "daisy")
ENDPOINT, VERSION, OTHER_VERSION = (
    "endpoints/flowers",
    "models/flowers/versions/1",
    "models/flowers/versions/2",
)


class FakeRegistry:
    """Knows the versions of the model `flowers`, and can be away."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.error: Exception | None = None

    def profile(self, model_version: str) -> Profile:
        self.asked.append(model_version)
        if self.error is not None:
            raise self.error
        if not model_version.startswith("models/flowers/"):
            raise NotFound.of("VERSION_NOT_FOUND", "version", model_version)
        outputs = [{"name": "probabilities"}, {"name": "embedding"}]
        return Profile(model_version, {"classes": list(CLASSES), "outputs": outputs}, {})


def scores(label: str, confidence: float = 0.8) -> Tensor:
    """Return probabilities whose largest is that of a label."""
    rest = (1 - confidence) / (len(CLASSES) - 1)
    values = [confidence if name == label else rest for name in CLASSES]
    return Tensor("FP32", (len(CLASSES),), np.array(values, "<f4").tobytes())


def image(value: int = 7) -> Tensor:
    """Return a grey image of 4 x 4, all of one brightness."""
    return Tensor("UINT8", (4, 4, 1), bytes([value] * 16))


def row(label: str = "rose", confidence: float = 0.8, captured: Tensor | None = None) -> Row:
    """Return one row that was answered with a label."""
    embedding = Tensor("FP32", (2,), np.array([1.5, -2.5], "<f4").tobytes())
    inputs = {"image": captured} if captured else {}
    return Row({"probabilities": scores(label, confidence), "embedding": embedding}, inputs)


def event(sequence: int, *rows: Row, **fields: Any) -> Event:
    """Return an event of one row, or of those given."""
    made: dict[str, Any] = {
        "sequence": sequence,
        "prediction_id": f"{uuid.uuid4()}-abcdef12",
        "endpoint": ENDPOINT,
        "model_version": VERSION,
        "role": Role.LIVE,
        "time_us": time.time_ns() // 1000,
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "request_id": "",
        "latency_ms": 2.5,
        "rows": rows or (row(),),
    }
    return Event(**{**made, **fields})


def batch(events: Sequence[Event], spool: str = "", **fields: Any) -> Batch:
    """Return a batch of a spool, from its first event to its last."""
    made: dict[str, Any] = {
        "spool": spool or str(uuid.uuid4()),
        "first_sequence": events[0].sequence if events else 1,
        "events": events,
        "produced_sequence": events[-1].sequence if events else 0,
        "endpoint": ENDPOINT,
        "model_version": VERSION,
        "closed": False,
    }
    return Batch(**{**made, **fields})
