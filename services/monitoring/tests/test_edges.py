"""Who called whom, read off spans."""

import pytest
from slipway_monitoring.domain.spans import PROXY, Edge, edges
from span_maker import span


def pairs(found: list[Edge]) -> list[tuple[str, str, str]]:
    return [(edge.source, edge.destination, edge.protocol) for edge in found]


def test_a_served_span_is_a_call_from_its_parents_service() -> None:
    client = span("a", service="gateway", kind="client")

    found = edges([client, span("b", "a", service="registry", attributes={"rpc.system": "grpc"})], 10)

    assert pairs(found) == [("gateway", "registry", "grpc")]


@pytest.mark.parametrize(
    ("kind", "attributes", "protocol"),
    [
        ("server", {}, "http"),
        ("server", {"rpc.system": "grpc"}, "grpc"),
        ("server", {"rpc.system.name": "grpc"}, "grpc"),
        ("consumer", {"rpc.system": "grpc"}, "queue"),
    ],
)
def test_the_protocol_is_told_by_the_serving_span(
    kind: str, attributes: dict[str, str], protocol: str
) -> None:
    found = edges([span("a"), span("b", "a", kind=kind, attributes=attributes)], 10)

    assert pairs(found) == [("service-a", "service-b", protocol)]


@pytest.mark.parametrize("kind", ["internal", "client", "producer"])
def test_what_serves_nobody_is_no_edge(kind: str) -> None:
    assert edges([span("a"), span("b", "a", kind=kind)], 10) == []


def test_any_number_of_sidecars_is_stepped_over_and_none_is_an_end() -> None:
    spans = [
        span("a", service="gateway"),
        span("b", "a", service=PROXY),
        span("c", "b", service=PROXY),
        span("d", "c", service="inference"),
    ]

    assert pairs(edges(spans, 10)) == [("gateway", "inference", "http")]


def test_a_service_that_calls_itself_is_an_edge_over_a_queue_alone() -> None:
    calls = [span("a", service="training"), span("b", "a", service="training")]
    queued = [
        span("c", service="training", kind="producer"),
        span("d", "c", service="training", kind="consumer"),
    ]

    assert edges(calls, 10) == []
    assert pairs(edges(queued, 10)) == [("training", "training", "queue")]


def test_a_caller_that_is_not_kept_gives_no_edge() -> None:
    assert edges([span("a"), span("b", "x"), span("c", "b", service=PROXY)], 10) == []
    assert edges([], 10) == []


def test_equal_span_ids_of_two_traces_are_two_spans() -> None:
    spans = [
        span("a", service="one"),
        span("b", "a"),
        span("a", trace=2, service="two"),
        span("b", "a", trace=2),
    ]

    assert pairs(edges(spans, 10)) == [("one", "service-b", "http"), ("two", "service-b", "http")]


@pytest.mark.parametrize("service", [PROXY, "one"])
def test_spans_that_are_each_others_parents_end_the_walk(service: str) -> None:
    spans = [
        span("a", "b", service=service),
        span("b", "a", service=service),
        span("c", "b", service=service),
    ]

    assert edges(spans, 10) == []


def test_calls_errors_rate_and_the_95th_percentile_are_counted_over_the_window() -> None:
    caller = span("A")
    served = [
        span(chr(ord("a") + n), "A", service="b", duration_us=(n + 1) * 1000, error=n % 10 == 0)
        for n in range(20)
    ]

    (edge,) = edges([caller, *reversed(served)], window_s=40)

    assert (edge.calls, edge.errors, edge.rate, edge.p95_ms) == (20, 2, 0.5, 20.0)


def test_a_span_that_comes_twice_is_counted_once() -> None:
    served = span("b", "a")

    (edge,) = edges([span("a"), served, served], 10)

    assert edge.calls == 1
