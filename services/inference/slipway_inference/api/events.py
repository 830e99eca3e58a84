"""The event of a prediction, with all its rows: made after the reply, by the spool's writer."""

import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from slipway.monitoring.v1 import monitoring_pb2 as pb

from slipway_inference.domain import CapturePolicy, TensorSpec
from slipway_inference.usecases.slots import Answer

_Role = pb.PredictionEvent
_MOST_REQUEST_ID = 200  # characters that monitoring takes; whoever calls past the mesh may send any number


@dataclass(frozen=True, slots=True)
class Call:
    """What the event says about the call that was answered."""

    role: Any
    request_id: str
    trace_id: str
    latency_ms: float

    @classmethod
    def of(cls, metadata: Iterable[tuple[str, Any]], trace_id: str, began_ns: int) -> "Call":
        """Return a call that ends now: a shadow's when mirrored, a tester's when a header names a version."""
        found = dict(metadata)
        role = _Role.TESTER if found.get("slipway-version") else _Role.LIVE
        if found.get("slipway-role") == "shadow":
            role = _Role.SHADOW
        request_id = str(found.get("x-request-id", ""))[:_MOST_REQUEST_ID]
        latency_ms = (time.monotonic_ns() - began_ns) / 1e6
        return cls(role, request_id, trace_id, latency_ms)


@dataclass(frozen=True)
class EventMaker:
    """Makes events by a capture policy; inputs above `max_bytes` are left out."""

    policy: CapturePolicy
    max_bytes: int

    def __call__(self, answer: Answer, call: Call) -> Callable[[int], bytes]:
        """Return what makes the record of a sequence: a ReportEventsRequest with this event, serialized."""
        now_ns, draw = time.time_ns(), random.random()
        return lambda sequence: self._record(answer, call, now_ns, draw, sequence)

    def _record(self, answer: Answer, call: Call, now_ns: int, draw: float, sequence: int) -> bytes:
        request = pb.ReportEventsRequest()
        event = request.events.add(sequence=sequence).event
        event.prediction_id = answer.prediction_id
        event.endpoint = f"endpoints/{answer.model}"
        event.model_version = answer.model_version
        event.role = call.role
        event.time.FromNanoseconds(now_ns)
        event.trace_id, event.request_id = call.trace_id, call.request_id
        event.latency_ms = call.latency_ms
        specs, parts = answer.signature.outputs, answer.outcome.outputs
        kept = self._kept(answer, draw)
        for row in range(answer.rows):
            made = event.rows.add()
            for spec, part in zip(specs, parts, strict=True):
                _put(made.outputs[spec.name], spec, part, row)
            if row in kept:
                for spec, part in zip(answer.signature.inputs, answer.parts, strict=True):
                    _put(made.inputs[spec.name], spec, part, row)
        return request.SerializeToString()

    def _kept(self, answer: Answer, draw: float) -> list[int]:
        """Return the rows whose inputs are kept."""
        if self.policy.kind == "none" or sum(map(len, answer.parts)) > self.max_bytes:
            return []
        spec = answer.signature.outputs[0]
        scores = np.frombuffer(answer.outcome.outputs[0], spec.dtype).reshape(answer.rows, -1)
        return self.policy.rows(scores.astype(np.float32), draw)


def _put(tensor: Any, spec: TensorSpec, part: bytes, row: int) -> None:
    tensor.datatype = spec.datatype
    tensor.shape.extend(spec.shape[1:])
    tensor.data = part[row * spec.row_bytes : (row + 1) * spec.row_bytes]
