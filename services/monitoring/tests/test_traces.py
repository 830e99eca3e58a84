"""Traces: the tree that spans make, kept once, found by id and prediction, forgotten in time."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from slipway_monitoring.domain.spans import TraceFilter, prediction_of, trace_id_of, trace_of
from slipway_monitoring.usecases.traces import Traces
from slipway_runtime.errors import InvalidArgument, NotFound
from span_maker import span, trace_id


def test_a_trace_lasts_from_its_first_start_to_its_last_end() -> None:
    spans = [span("b", "a", at_ms=5, duration_us=100_000), span("a"), span("c", "b", at_ms=7, error=True)]

    trace = trace_of(spans)

    assert (trace.start_time, trace.duration_us) == (spans[1].start_time, 105_000)
    assert [one.operation for one in trace.spans] == ["work of a", "work of b", "work of c"]
    assert (trace.root, trace.error) == ("work of a", True)
    assert trace.services == ["service-a", "service-b", "service-c"]


def test_a_parent_comes_first_when_both_start_at_once() -> None:
    assert trace_of([span("a", "b"), span("b")]).root == "work of b"
    assert [one.span_id for one in trace_of([span("a", "b"), span("b")]).spans] == [
        span("b").span_id,
        span("a").span_id,
    ]


def test_the_root_is_the_span_without_parent_though_a_clock_runs_ahead() -> None:
    orphan = span("x", "?", at_ms=-3)

    assert trace_of([span("a"), orphan]).root == "work of a"
    assert trace_of([span("b", "a", at_ms=2), orphan]).root == "work of x"


@pytest.mark.parametrize("parents", ["a", "ba"], ids=["its own", "each other's"])
def test_spans_that_are_their_own_ancestors_are_still_a_trace(parents: str) -> None:
    spans = [span(letter, parent) for letter, parent in zip("ab", parents, strict=False)]

    assert trace_of(spans).root == "work of a"


def test_names_and_prediction_ids_are_taken_apart() -> None:
    assert trace_id_of(f"traces/{trace_id()}") == trace_id()
    assert prediction_of("01a2-bc.17") == prediction_of("01a2-bc") == "01a2-bc"
    for id in ("", "x" * 201):
        with pytest.raises(InvalidArgument):
            prediction_of(id)


def test_a_span_is_kept_as_it_came_and_only_once(traces: Traces) -> None:
    kept = span(
        "a",
        attributes={"http.route": "/v2", "text": "grün “quoted” \\ \n"},
        links=[trace_id(7)],
        status_message="it's fine",
        prediction_id="p",
        duration_us=2**40,
    )

    traces.receive([kept, kept])
    traces.receive([replace(kept, operation="another"), span("b", "a", at_ms=1)])

    found = traces.get(f"traces/{trace_id()}")
    assert found.spans == [kept, span("b", "a", at_ms=1, attributes={}, links=[])]


def test_receiving_nothing_is_no_trouble(traces: Traces) -> None:
    traces.receive([])

    assert traces.list(TraceFilter(), 0, "") == ([], "")


def test_a_prediction_is_found_by_any_of_its_rows(traces: Traces) -> None:
    traces.receive([span("a"), span("b", "a", at_ms=1, prediction_id="01a2-bc"), span("c", trace=2)])

    for id in ("01a2-bc", "01a2-bc.0", "01a2-bc.12"):
        assert len(traces.find(id).spans) == 2
    for id in ("01a2-b", ".0"):
        with pytest.raises(NotFound) as caught:
            traces.find(id)
        assert caught.value.reason == "TRACE_NOT_FOUND"


def test_traces_are_listed_newest_first_by_page_service_and_error(traces: Traces) -> None:
    for number in range(1, 7):
        error = number == 3
        traces.receive(
            [
                span("a", trace=number, at_ms=number, service="gateway"),
                span("b", "a", trace=number, at_ms=number, service=f"part-{number % 2}", error=error),
            ]
        )

    first, token = traces.list(TraceFilter(service="part-1"), 2, "")
    second, end = traces.list(TraceFilter(service="part-1"), 2, token)
    broken, _ = traces.list(TraceFilter(service="gateway", errors_only=True), 0, "")

    assert [trace.trace_id for trace in (*first, *second)] == [trace_id(n) for n in (5, 3, 1)]
    assert end == ""
    assert [(trace.trace_id, trace.root) for trace in broken] == [(trace_id(3), "work of a")]
    with pytest.raises(InvalidArgument):
        traces.list(TraceFilter(service="part-0"), 2, token)


def test_traces_that_began_at_once_are_all_listed_over_the_pages(traces: Traces) -> None:
    traces.receive([span("a", trace=number) for number in range(1, 8)])

    seen, token = [], ""
    while True:
        page, token = traces.list(TraceFilter(), 2, token)
        seen += [trace.trace_id for trace in page]
        if not token:
            break

    assert seen == [trace_id(number) for number in range(7, 0, -1)]


def test_a_list_and_a_look_agree_on_a_trace(traces: Traces) -> None:
    traces.receive([span("a"), span("x", "?", at_ms=-3), span("b", "a", at_ms=4, error=True)])

    (listed,), _ = traces.list(TraceFilter(), 0, "")
    whole = traces.get(listed.name)

    assert (listed.root, listed.error, listed.start_time) == (whole.root, whole.error, whole.start_time)
    assert listed.duration_us == whole.duration_us == 17_000
    assert sorted(listed.services) == sorted(whole.services)


def ago(seconds: float, now: datetime | None = None) -> datetime:
    return (now or datetime.now(UTC)) - timedelta(seconds=seconds)


def test_edges_are_those_of_the_window(traces: Traces) -> None:
    traces.receive(
        [
            span("a", start_time=ago(1)),
            span("b", "a", start_time=ago(1)),
            span("a", trace=2, start_time=ago(400)),
            span("c", "a", trace=2, start_time=ago(400)),
        ]
    )

    assert [edge.destination for edge in traces.edges(0)] == ["service-b"]
    assert [edge.destination for edge in traces.edges(3600)] == ["service-b", "service-c"]
    assert traces.edges(100)[0].rate == 0.01
    for window_s in (-1, 86_401):
        with pytest.raises(InvalidArgument):
            traces.edges(window_s)


def kept(traces: Traces) -> list[int]:
    found, _ = traces.list(TraceFilter(), 1000, "")
    return sorted(int(trace.trace_id, 16) for trace in found)


def test_spans_older_than_the_retention_are_forgotten(traces: Traces) -> None:
    traces.receive([span("a", trace=n, start_time=ago(n * 3600 - 600)) for n in (1, 2, 3)])

    traces.forget(hours=2, max_spans=100)

    assert kept(traces) == [1, 2]


@pytest.mark.parametrize("most", [0, 1, 4, 9, 10, 11])
def test_no_more_spans_stay_than_the_bound_and_the_newest_do(most: int, traces: Traces) -> None:
    now = ago(0)
    traces.receive([span("a", trace=n, start_time=ago(n, now)) for n in range(1, 11)])

    traces.forget(hours=1, max_spans=most)

    assert kept(traces) == list(range(1, min(most, 10) + 1))


def test_the_bound_holds_for_spans_that_began_at_once(traces: Traces) -> None:
    now = ago(1)
    traces.receive([span("a", trace=n, start_time=now) for n in range(1, 11)])

    traces.forget(hours=1, max_spans=4)

    assert len(kept(traces)) == 4
