"""The OTLP receiver."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2

from slipway_monitoring.domain.spans import Span
from slipway_monitoring.usecases.traces import Traces

Context: TypeAlias = grpc.ServicerContext

PREDICTION = "slipway.prediction_id"
_KINDS = {1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class OtlpReceiver(trace_service_pb2_grpc.TraceServiceServicer):
    """opentelemetry.proto.collector.trace.v1.TraceService (the OTLP specification, 1.x)."""

    def __init__(self, *, traces: Traces) -> None:
        self._traces = traces

    def Export(self, request: Any, context: Context) -> Any:
        spans = [
            _span(span, _service_of(resource.resource))
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        valid = [span for span in spans if _has_ids(span)]
        self._traces.receive(valid)
        response = trace_service_pb2.ExportTraceServiceResponse()
        if rejected := len(spans) - len(valid):
            response.partial_success.rejected_spans = rejected
            response.partial_success.error_message = "a trace id is 16 bytes, a span id 8, not all of them 0"
        return response


def _has_ids(span: Span) -> bool:
    sizes = (len(span.trace_id), len(span.span_id))
    return sizes == (32, 16) and bool(span.trace_id.strip("0") and span.span_id.strip("0"))


def _service_of(resource: Any) -> str:
    return _attributes(resource.attributes).get("service.name", "unknown")


def _attributes(pairs: Any) -> dict[str, str]:
    return {pair.key.replace("\0", ""): _text(pair.value) for pair in pairs}


def _text(value: Any) -> str:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return ", ".join(_text(item) for item in value.array_value.values)
    text = str(getattr(value, kind)) if kind else ""
    return text.replace("\0", "")[:4096]


def _span(span: Any, service: str) -> Span:
    attributes: Mapping[str, str] = _attributes(span.attributes)
    return Span(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex(),
        service=service,
        operation=span.name.replace("\0", "")[:500],
        kind=_KINDS.get(span.kind, "internal"),
        start_time=_EPOCH + timedelta(microseconds=span.start_time_unix_nano // 1000),
        duration_us=max((span.end_time_unix_nano - span.start_time_unix_nano) // 1000, 0),
        error=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        status_message=span.status.message.replace("\0", "")[:1000],
        attributes=attributes,
        links=[link.trace_id.hex() for link in span.links],
        prediction_id=attributes.get(PREDICTION, ""),
    )
