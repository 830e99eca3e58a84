"""What callers may rely on in monitoring: spans in over OTLP, traces and edges out."""

import secrets
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import timestamp_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1 import trace_pb2
from running import Keys, Service
from slipway.monitoring.v1 import monitoring_pb2 as pb
from slipway.monitoring.v1 import monitoring_pb2_grpc
from slipway_runtime.rpc import from_rpc_error

SERVER, CLIENT, PRODUCER, CONSUMER = 2, 3, 4, 5


@pytest.fixture(scope="module")
def stub(monitoring: Service, keys: Keys) -> Iterator[Any]:
    with monitoring.channel(keys.user()) as opened:
        yield monitoring_pb2_grpc.MonitoringServiceStub(opened)


def attribute(key: str, value: str) -> Any:
    return common_pb2.KeyValue(key=key, value=common_pb2.AnyValue(string_value=value))


class Story:
    """Spans of one trace, exported together, in millisecond steps."""

    def __init__(self, monitoring: Service) -> None:
        self._port = monitoring._environment["SLIPWAY_OTLP_PORT"]
        self.trace_id = secrets.token_bytes(16)
        self._spans: list[tuple[str, Any]] = []

    @property
    def name(self) -> str:
        return f"traces/{self.trace_id.hex()}"

    def span(
        self, service: str, kind: int, parent: bytes = b"", *, error: bool = False, **named: str
    ) -> bytes:
        span_id = secrets.token_bytes(8)
        start = time.time_ns() - 10_000_000 + len(self._spans) * 1_000_000
        made = trace_pb2.Span(
            trace_id=self.trace_id,
            span_id=span_id,
            parent_span_id=parent,
            name=f"work of {service}",
            kind=kind,
            start_time_unix_nano=start,
            end_time_unix_nano=start + 5_000_000,
            attributes=[attribute(key.replace("__", "."), value) for key, value in named.items()],
            status=trace_pb2.Status(code=2 if error else 0),
        )
        self._spans.append((service, made))
        return span_id

    def export(self) -> "Story":
        resources = [
            trace_pb2.ResourceSpans(
                resource=resource_pb2.Resource(attributes=[attribute("service.name", service)]),
                scope_spans=[trace_pb2.ScopeSpans(spans=[span])],
            )
            for service, span in self._spans
        ]
        with grpc.insecure_channel(f"127.0.0.1:{self._port}") as channel:
            receiver = trace_service_pb2_grpc.TraceServiceStub(channel)
            request = trace_service_pb2.ExportTraceServiceRequest(resource_spans=resources)
            receiver.Export(request, timeout=60)
        return self


def test_an_acknowledged_span_is_kept_once_and_shown_in_its_trace(monitoring: Service, stub: Any) -> None:
    story = Story(monitoring)
    root = story.span("gateway", SERVER, http__route="/v2")
    story.span("inference", SERVER, root, error=True)
    story.export().export()

    found = stub.GetTrace(pb.GetTraceRequest(name=story.name))

    assert [span.service for span in found.spans] == ["gateway", "inference"]
    assert found.spans[1].parent_span_id == root.hex()
    assert found.spans[0].attributes["http.route"] == "/v2"
    assert (found.root, found.error) == ("work of gateway", True)


def test_a_prediction_leads_to_its_trace_with_and_without_its_row(monitoring: Service, stub: Any) -> None:
    story = Story(monitoring)
    prediction = f"01a20a4c-f701-7a42-bc11-{secrets.token_hex(6)}-572c3b06"
    story.span("inference", SERVER, slipway__prediction_id=prediction)
    story.export()

    for id in (prediction, f"{prediction}.3"):
        assert stub.FindTrace(pb.FindTraceRequest(prediction_id=id)).name == story.name


def test_what_is_not_kept_is_not_found_by_reason(stub: Any) -> None:
    calls = [
        lambda: stub.GetTrace(pb.GetTraceRequest(name="traces/" + "0" * 32)),
        lambda: stub.FindTrace(pb.FindTraceRequest(prediction_id="none")),
    ]
    for call in calls:
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert from_rpc_error(caught.value).reason == "TRACE_NOT_FOUND"


@pytest.mark.parametrize("name", ["", "traces/xyz", "traces/" + "A" * 32, "spans/" + "0" * 32])
def test_a_name_of_another_form_is_refused_by_field(stub: Any, name: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetTrace(pb.GetTraceRequest(name=name))

    assert [v.field for v in from_rpc_error(caught.value).violations] == ["name"]


def test_traces_come_by_page_newest_first_and_by_service(monitoring: Service, stub: Any) -> None:
    names = []
    for number in range(5):
        story = Story(monitoring)
        story.span(f"paged-{number % 2}", SERVER)
        names.append(story.export().name)

    seen, token = [], ""
    while True:
        page = stub.ListTraces(pb.ListTracesRequest(page_size=2, page_token=token, service="paged-0"))
        seen += [trace.name for trace in page.traces]
        token = page.next_page_token
        if not token:
            break

    assert seen == [names[4], names[2], names[0]]


def test_traces_are_listed_by_their_time_and_by_who_asked(monitoring: Service, stub: Any) -> None:
    story = Story(monitoring)
    story.span("timed", SERVER, story.span("a-door", SERVER))
    asked = story.export()
    inner = Story(monitoring)
    inner.span("a-door", SERVER, inner.span("timed", SERVER))
    inner.export()
    begin = stub.GetTrace(pb.GetTraceRequest(name=asked.name)).start_time
    moment = timestamp_pb2.Timestamp()
    moment.FromNanoseconds(begin.ToNanoseconds() + 1_000_000)

    def names(**wanted: Any) -> list[str]:
        request = pb.ListTracesRequest(service="timed", root_service="a-door", **wanted)
        return [trace.name for trace in stub.ListTraces(request).traces]

    (found,) = stub.ListTraces(pb.ListTracesRequest(service="timed", root_service="a-door")).traces
    assert (found.name, found.root_service) == (asked.name, "a-door")
    assert names(start_time=begin, end_time=moment) == [asked.name]
    assert names(start_time=moment) == []
    assert names(end_time=begin) == []


def test_edges_step_over_sidecars_and_include_queues(monitoring: Service, stub: Any) -> None:
    story = Story(monitoring)
    root = story.span("one", SERVER)
    proxy = story.span("envoy", CLIENT, story.span("one", CLIENT, root))
    two = story.span("two", SERVER, proxy, error=True, rpc__system="grpc")
    story.span("two", CONSUMER, story.span("two", PRODUCER, two))
    story.export()

    edges = stub.ListServiceEdges(pb.ListServiceEdgesRequest(window_s=600)).edges

    found = {(e.source, e.destination, e.protocol): (e.calls, e.errors) for e in edges}
    assert found["one", "two", "grpc"] == (1, 1)
    assert found["two", "two", "queue"] == (1, 0)


def test_a_kill_loses_no_acknowledged_span(monitoring: Service, keys: Keys) -> None:
    story = Story(monitoring)
    story.span("gateway", SERVER)
    story.export()

    monitoring.kill()
    monitoring.start()

    with monitoring.channel(keys.user()) as opened:
        stub = monitoring_pb2_grpc.MonitoringServiceStub(opened)
        assert len(stub.GetTrace(pb.GetTraceRequest(name=story.name)).spans) == 1
