"""Events and labels over gRPC."""

from collections.abc import Iterable, Mapping
from typing import Any

from slipway.monitoring.v1 import monitoring_pb2 as pb
from slipway_runtime.db import Repeat

from slipway_monitoring.api.conversion import microseconds_of
from slipway_monitoring.domain.events import Batch, Event, Row, Tensor
from slipway_monitoring.usecases.events import Events
from slipway_monitoring.usecases.feedback import Feedback


class EventsPart:
    """The methods that take events and labels."""

    _events: Events
    _feedback: Feedback

    def ReportEvents(self, request: pb.ReportEventsRequest, context: Any) -> pb.ReportEventsResponse:
        return pb.ReportEventsResponse(acknowledged_sequence=self._events.report(_batch(request)))

    def RecordFeedback(self, request: pb.RecordFeedbackRequest, context: Any) -> pb.RecordFeedbackResponse:
        given = [(one.prediction, one.label, one.source) for one in request.feedback]
        return pb.RecordFeedbackResponse(**vars(self._feedback.record(given, Repeat.of(request))))


def _batch(request: pb.ReportEventsRequest) -> Batch:
    return Batch(
        spool=request.spool,
        first_sequence=request.first_sequence,
        events=[_event(one.sequence, one.event) for one in request.events],
        produced_sequence=request.produced_sequence,
        endpoint=request.endpoint,
        model_version=request.model_version,
        closed=request.closed,
    )


def _event(sequence: int, event: pb.PredictionEvent) -> Event:
    return Event(
        sequence=sequence,
        prediction_id=event.prediction_id,
        endpoint=event.endpoint,
        model_version=event.model_version,
        role=event.role,
        time_us=microseconds_of(event.time),
        trace_id=event.trace_id,
        request_id=event.request_id,
        latency_ms=event.latency_ms,
        rows=_rows(event.rows),
    )


def _rows(rows: Iterable[pb.PredictedRow]) -> list[Row]:
    return [Row(_tensors(row.outputs), _tensors(row.inputs)) for row in rows]


def _tensors(tensors: Mapping[str, pb.TensorBytes]) -> dict[str, Tensor]:
    return {name: Tensor(one.datatype, tuple(one.shape), one.data) for name, one in tensors.items()}
