"""Traces and service edges over gRPC."""

from typing import Any

from slipway.monitoring.v1 import monitoring_pb2 as pb
from slipway_runtime.rpc import timestamp

from slipway_monitoring.api.conversion import duration_of, from_time
from slipway_monitoring.domain import spans as domain
from slipway_monitoring.usecases.traces import Traces


class TracesPart:
    """The methods over traces and edges."""

    _traces: Traces

    def GetTrace(self, request: pb.GetTraceRequest, context: Any) -> pb.Trace:
        return _trace(self._traces.get(request.name))

    def FindTrace(self, request: pb.FindTraceRequest, context: Any) -> pb.Trace:
        return _trace(self._traces.find(request.prediction_id))

    def ListTraces(self, request: pb.ListTracesRequest, context: Any) -> pb.ListTracesResponse:
        wanted = domain.TraceFilter(
            service=request.service,
            root_service=request.root_service,
            errors_only=request.errors_only,
            start_time=from_time(request, "start_time"),
            end_time=from_time(request, "end_time"),
        )
        found, token = self._traces.list(wanted, request.page_size, request.page_token)
        return pb.ListTracesResponse(traces=map(_trace, found), next_page_token=token)

    def ListServiceEdges(self, request: Any, context: Any) -> pb.ListServiceEdgesResponse:
        return pb.ListServiceEdgesResponse(edges=map(_edge, self._traces.edges(request.window_s)))


def _trace(trace: domain.Trace) -> pb.Trace:
    return pb.Trace(
        name=trace.name,
        spans=[_to_span(span) for span in trace.spans],
        start_time=timestamp(trace.start_time),
        duration=duration_of(trace.duration_us),
        services=trace.services,
        root=trace.root,
        root_service=trace.root_service,
        error=trace.error,
    )


def _to_span(span: domain.Span) -> pb.Span:
    return pb.Span(
        span_id=span.span_id,
        parent_span_id=span.parent_span_id,
        service=span.service,
        operation=span.operation,
        kind=span.kind,
        start_time=timestamp(span.start_time),
        duration=duration_of(span.duration_us),
        error=span.error,
        status_message=span.status_message,
        attributes=dict(span.attributes),
        links=span.links,
    )


def _edge(edge: domain.Edge) -> pb.ServiceEdge:
    return pb.ServiceEdge(**edge.__dict__)
