"""A spool as a front keeps it: events with sequences, sent again until they are acknowledged."""

import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import numpy as np
from slipway.monitoring.v1 import monitoring_pb2 as pb

WITHIN_S = 120.0
_AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def insist(call: Callable[[], Any], within_s: float = WITHIN_S) -> Any:
    """Repeat a call while the server is away, as one does whose effect must happen once."""
    stop_at = time.monotonic() + within_s
    while True:
        try:
            return call()
        except grpc.RpcError as error:
            if error.code() not in _AGAIN or time.monotonic() > stop_at:
                raise
        time.sleep(0.05)


class Spool:
    """Events of one front, in order.

    Args:
        endpoint: `endpoints/{endpoint}`.
        version: `models/{model}/versions/{number}`.
        classes: Scores that each row has.
    """

    def __init__(self, endpoint: str, version: str, classes: int = 2) -> None:
        self.id = str(uuid.uuid4())
        self.predictions: list[str] = []
        self._endpoint = endpoint
        self._version = version
        self._classes = classes
        self._kept: list[pb.SequencedEvent] = []
        self._acknowledged = 0

    def add(self, chosen: int = 0, image: bytes = b"", **fields: Any) -> str:
        """Make an event of one row that was answered with a class; return its prediction's name."""
        scores = np.full(self._classes, 0.3 / max(self._classes - 1, 1), "<f4")
        scores[chosen] = 0.7
        output = pb.TensorBytes(datatype="FP32", shape=[self._classes], data=scores.tobytes())
        row = pb.PredictedRow(outputs={"probabilities": output})
        if image:
            row.inputs["image"].CopyFrom(pb.TensorBytes(datatype="UINT8", shape=[4, 4, 1], data=image))
        event = pb.PredictionEvent(
            prediction_id=f"{uuid.uuid4()}-abcdef12",
            endpoint=self._endpoint,
            model_version=self._version,
            rows=[row],
            **{"role": pb.PredictionEvent.LIVE, **fields},
        )
        event.time.FromNanoseconds(time.time_ns())
        self.predictions.append(f"predictions/{event.prediction_id}.0")
        self._kept.append(pb.SequencedEvent(sequence=len(self.predictions), event=event))
        return self.predictions[-1]

    def batch(self, closed: bool = False) -> pb.ReportEventsRequest:
        """Return what is not acknowledged yet."""
        return pb.ReportEventsRequest(
            spool=self.id,
            first_sequence=self._acknowledged + 1,
            events=self._kept,
            produced_sequence=len(self.predictions),
            endpoint=self._endpoint,
            model_version=self._version,
            closed=closed,
        )

    def deliver(self, stub: Any, closed: bool = False) -> None:
        """Send until all is acknowledged, and forget it."""
        answer = insist(lambda: stub.ReportEvents(self.batch(closed), timeout=10))
        self._acknowledged = answer.acknowledged_sequence
        self._kept = [one for one in self._kept if one.sequence > self._acknowledged]


def outcomes(stub: Any, endpoint: str) -> tuple[int, int, int]:
    """Return rows, labelled and correct ones of an endpoint, as a cursor from the beginning counts them."""
    counts: Sequence[int] = (0, 0, 0)
    cursor = ""
    while True:
        page = stub.ListOutcomes(pb.ListOutcomesRequest(endpoint=endpoint, cursor=cursor))
        for one in page.outcomes:
            found = (one.row_count, one.labelled_count, one.correct_count)
            counts = [total + more for total, more in zip(counts, found, strict=True)]
        cursor = page.cursor
        if not page.more:
            rows, labelled, correct = counts
            return rows, labelled, correct
