"""Counters that only grow: what happened between two looks, across restarts; and how they are read."""

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from slipway_rollout.clients.counters import EnvoyCounters, PrometheusCounters
from slipway_rollout.domain import Counters
from slipway_rollout.engine import counting

MODULE = sys.modules[PrometheusCounters.__module__]  # the package has a function of its name


def read(started: float = 100.0, **values: float) -> Counters:
    return Counters({f"new {kind.replace('_', '-')} c": value for kind, value in values.items()}, started)


def test_the_first_look_counts_nothing() -> None:
    assert counting.growth(None, read(grpc_0=7)) == {}


def test_what_grew_is_counted_by_status_and_bucket() -> None:
    before = read(grpc_0=10, grpc_13=1, le_5=8, le_10=11, le_inf=11)
    now = read(grpc_0=14, grpc_13=3, grpc_1=1, grpc_3=2, le_5=10, le_10=17, le_inf=18)

    found = counting.traffic(counting.growth(before, now), "new")

    assert (found.count, found.errors, found.server_errors) == (9, 4, 2)
    assert found.by_latency == {5.0: 2, 10.0: 4, float("inf"): 1}


@pytest.mark.parametrize("now", [read(grpc_0=4), read(grpc_0=12, started=200.0)])
def test_a_counter_that_began_again_is_neither_negative_nor_counted_twice(now: Counters) -> None:
    grown = counting.growth(read(grpc_0=10), now)

    assert counting.traffic(grown, "new").count == now.values["new grpc-0 c"]


def test_a_start_that_is_known_to_a_second_is_no_restart() -> None:
    grown = counting.growth(read(grpc_0=10), read(grpc_0=12, started=101.0))

    assert counting.traffic(grown, "new").count == 2


@pytest.mark.parametrize("ages", [("100s", "1s"), ("1s", "100s")])
def test_counters_of_which_the_start_is_not_sure_are_not_taken(
    monkeypatch: pytest.MonkeyPatch, ages: tuple[str, str]
) -> None:
    told = iter(ages)

    def page(url: str) -> str:
        return json.dumps({"uptime_current_epoch": next(told)}) if url.endswith("/server_info") else ""

    monkeypatch.setattr(MODULE, "_get", page)
    with pytest.raises(OSError, match="started while"):
        EnvoyCounters("http://envoy").read("flowers", "v1", "v2")


def test_arms_are_counted_apart_and_their_series_together() -> None:
    before = Counters({})
    now = Counters({"new grpc-0 a": 1, "new grpc-0 b": 2, "stable grpc-0 a": 4, "shadow grpc-14 a": 8})

    grown = counting.growth(before, now)

    assert [counting.traffic(grown, arm).count for arm in ("new", "stable", "shadow")] == [3, 4, 8]


class Answers(BaseHTTPRequestHandler):
    """Prometheus' HTTP API for instant queries, over these series."""

    series: list[tuple[dict[str, str], str]] = []
    asked: list[str] = []

    def do_GET(self) -> None:
        split = urlsplit(self.path)
        assert split.path == "/api/v1/query"
        (query,) = parse_qs(split.query)["query"]
        self.asked.append(query)
        reporter = "source" if 'reporter="source"' in query else "destination"
        found = [
            {"metric": labels, "value": [1.0, value]}
            for labels, value in self.series
            if query.startswith(labels["__name__"] + "{") and labels["reporter"] == reporter
        ]
        body = json.dumps({"status": "success", "data": {"resultType": "vector", "result": found}})
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:
        return None


@pytest.fixture
def prometheus(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(MODULE, "TIMEOUT_S", 60)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def series(name: str, version: str, value: int, reporter: str = "source", **labels: str) -> Any:
    known = {"__name__": name, "destination_version": version, "reporter": reporter, **labels}
    return known, str(value)


def test_istio_s_metrics_are_read_from_a_prometheus(prometheus: str) -> None:
    requests, times = "istio_requests_total", "istio_request_duration_milliseconds_bucket"
    Answers.series = [
        series(requests, "v1", 90, grpc_response_status="0", pod="a"),
        series(requests, "v1", 9, grpc_response_status="0", pod="b"),
        series(requests, "v2", 5, grpc_response_status="14", pod="a"),
        series(requests, "v2", 3, grpc_response_status="", response_code="503", pod="a"),
        series(times, "v2", 6, le="5", pod="a"),
        series(times, "v2", 8, le="+Inf", pod="a"),
        series(requests, "v2", 40, "destination", grpc_response_status="0"),
    ]

    found = PrometheusCounters(prometheus, "slipway-models").read("flowers", "v1", "v2")
    assert found is not None
    grown = counting.growth(Counters({}), found)

    stable, new, shadow = (counting.traffic(grown, arm) for arm in ("stable", "new", "shadow"))
    assert (stable.count, stable.errors) == (99, 0)
    assert (new.count, new.server_errors, new.by_latency) == (8, 8, {5.0: 6, float("inf"): 2})
    assert (shadow.count, shadow.errors) == (40, 0)
    host = 'destination_service="flowers.slipway-models.svc.cluster.local"'
    assert all(host in query for query in Answers.asked)
