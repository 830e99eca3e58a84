"""OTLP in: what a span becomes, and that no exporter can keep the others' spans out."""

from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1 import trace_pb2
from slipway_monitoring.api.otlp import OtlpReceiver
from slipway_monitoring.domain.spans import Span, TraceFilter
from slipway_monitoring.usecases.traces import Traces

TRACE, SPAN = bytes(range(16)), bytes(range(8))
START_NS = 1_767_268_800_123_456_789


def value(of: Any) -> Any:
    kinds = {str: "string_value", bool: "bool_value", int: "int_value", float: "double_value"}
    if isinstance(of, list):
        return common_pb2.AnyValue(array_value=common_pb2.ArrayValue(values=map(value, of)))
    return common_pb2.AnyValue(**{kinds[type(of)]: of})


def attributes(**named: Any) -> list[Any]:
    return [common_pb2.KeyValue(key=key.replace("__", "."), value=value(of)) for key, of in named.items()]


def otlp(**fields: Any) -> Any:
    good = {
        "trace_id": TRACE,
        "span_id": SPAN,
        "name": "work",
        "kind": 2,
        "start_time_unix_nano": START_NS,
        "end_time_unix_nano": START_NS + 5_000_999,
    }
    return trace_pb2.Span(**{**good, **fields})


def exported(traces: Traces, *spans: Any, service: str = "gateway") -> Any:
    named = attributes(service__name=service) if service else []
    resource = trace_pb2.ResourceSpans(
        resource=resource_pb2.Resource(attributes=named),
        scope_spans=[trace_pb2.ScopeSpans(spans=spans)],
    )
    request = trace_service_pb2.ExportTraceServiceRequest(resource_spans=[resource])
    return OtlpReceiver(traces=traces).Export(request, None)  # type: ignore[arg-type]


def kept(traces: Traces) -> Span:
    (found,) = traces.get(f"traces/{TRACE.hex()}").spans
    return found


def test_a_span_becomes_what_it_says(traces: Traces) -> None:
    link = trace_pb2.Span.Link(trace_id=bytes(15) + b"\x01", span_id=SPAN)
    named = attributes(
        text="grün", yes=True, number=7, ratio=0.5, both=["a", "b"], slipway__prediction_id="p-1"
    )
    status = trace_pb2.Status(code=trace_pb2.Status.STATUS_CODE_ERROR, message="it broke")

    exported(traces, otlp(parent_span_id=b"parent--", attributes=named, links=[link], status=status))

    found = kept(traces)
    assert (found.service, found.operation, found.kind) == ("gateway", "work", "server")
    assert (found.span_id, found.parent_span_id) == (SPAN.hex(), b"parent--".hex())
    assert found.start_time.isoformat() == "2026-01-01T12:00:00.123456+00:00"
    assert found.duration_us == 5000
    assert (found.error, found.status_message, found.prediction_id) == (True, "it broke", "p-1")
    assert found.links == ["0" * 31 + "1"]
    assert {key: found.attributes[key] for key in ("text", "yes", "number", "ratio", "both")} == {
        "text": "grün",
        "yes": "True",
        "number": "7",
        "ratio": "0.5",
        "both": "a, b",
    }


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (0, "internal"),
        (1, "internal"),
        (2, "server"),
        (3, "client"),
        (4, "producer"),
        (5, "consumer"),
        (9, "internal"),
    ],
)
def test_each_kind_has_its_word(kind: int, told: str, traces: Traces) -> None:
    exported(traces, otlp(kind=kind))

    assert kept(traces).kind == told


@pytest.mark.parametrize("code", ["STATUS_CODE_UNSET", "STATUS_CODE_OK"])
def test_a_status_that_is_no_error_is_none(code: str, traces: Traces) -> None:
    exported(traces, otlp(status=trace_pb2.Status(code=trace_pb2.Status.StatusCode.Value(code))))

    assert not kept(traces).error


def test_a_span_of_no_service_is_of_an_unknown_one(traces: Traces) -> None:
    exported(traces, otlp(), service="")

    assert kept(traces).service == "unknown"


def test_a_clock_that_went_back_makes_no_negative_duration(traces: Traces) -> None:
    exported(traces, otlp(end_time_unix_nano=START_NS - 1))

    assert kept(traces).duration_us == 0


@pytest.mark.parametrize("time_ns", [0, 2**64 - 1])
def test_the_earliest_and_the_latest_time_are_kept(time_ns: int, traces: Traces) -> None:
    exported(traces, otlp(start_time_unix_nano=time_ns, end_time_unix_nano=2**64 - 1))

    assert kept(traces).start_time.year in (1970, 2554)


def test_texts_that_the_database_cannot_hold_are_cleaned_everywhere(traces: Traces) -> None:
    named = [common_pb2.KeyValue(key="a\0b", value=value("c\0d")), *attributes(slipway__prediction_id="p\0")]

    exported(
        traces,
        otlp(name="w\0", attributes=named, status=trace_pb2.Status(message="m\0")),
        service="gate\0way",
    )

    found = kept(traces)
    assert (found.service, found.operation, found.status_message) == ("gateway", "w", "m")
    assert found.attributes["ab"] == "cd"
    assert found.prediction_id == "p"


def test_long_texts_are_cut(traces: Traces) -> None:
    long = "x" * 10_000
    status = trace_pb2.Status(message=long)

    exported(traces, otlp(name=long, attributes=attributes(a=long), status=status))

    found = kept(traces)
    assert [len(t) for t in (found.operation, found.attributes["a"], found.status_message)] == [
        500,
        4096,
        1000,
    ]


def test_spans_that_come_again_change_nothing(traces: Traces) -> None:
    exported(traces, otlp(), otlp(name="again"))
    exported(traces, otlp(name="later"))

    assert kept(traces).operation == "work"


@pytest.mark.parametrize(
    "fields",
    [
        {"trace_id": b""},
        {"trace_id": bytes(16)},
        {"trace_id": b"short"},
        {"span_id": b""},
        {"span_id": bytes(8)},
    ],
    ids=["no-trace", "zero-trace", "short-trace", "no-span", "zero-span"],
)
def test_a_span_without_valid_ids_is_told_and_the_others_of_its_export_are_kept(
    fields: dict[str, bytes], traces: Traces
) -> None:
    answer = exported(traces, otlp(**fields), otlp())

    assert answer.partial_success.rejected_spans == 1
    assert "id" in answer.partial_success.error_message
    assert kept(traces).operation == "work"
    assert len(traces.list(TraceFilter(), 0, "")[0]) == 1
    assert not exported(traces, otlp()).HasField("partial_success")
