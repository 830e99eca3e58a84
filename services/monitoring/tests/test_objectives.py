"""Objectives: budgets that burn, downtime, lost events; read off spans, events and labels."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from event_maker import VERSION, batch, event
from slipway_monitoring.domain.alerts import Alert, AlertState
from slipway_monitoring.domain.burn import Counted, burn_summary, burning
from slipway_monitoring.domain.monitors import BurnRate, MonitorSpec, Objective, ObjectiveKind
from slipway_monitoring.store.calls import CallStore
from slipway_monitoring.usecases.alerts import Alerts
from slipway_monitoring.usecases.drift import DriftWatch
from slipway_monitoring.usecases.events import Events
from slipway_monitoring.usecases.feedback import Feedback
from slipway_monitoring.usecases.monitors import Monitors
from slipway_monitoring.usecases.objectives import ObjectiveWatch
from slipway_monitoring.usecases.traces import Traces
from slipway_runtime.db import Database, Repeat
from span_maker import span
from traffic_maker import Traffic

pytestmark = pytest.mark.usefixtures("as_front")

MONITOR = "monitors/flowers"
FAST = (BurnRate(14.4, 600, 300),)
CLUSTERS = {
    "laptop": "model|ingress|flowers|v1",
    "cluster": "outbound|8500|v1|flowers.slipway-models.svc.cluster.local",
}


@pytest.fixture
def watch(database: Database) -> ObjectiveWatch:
    return ObjectiveWatch(database=database, down_s=60)


@pytest.fixture
def count_events(database: Database) -> Callable[[], None]:
    known = Traffic().profile()
    return DriftWatch(database=database, profile=lambda version: known).sweep


def alerts(database: Database) -> list[Alert]:
    return Alerts(database=database).list("", "", 0, "")[0]


def open_rules(database: Database) -> list[str]:
    return sorted(alert.rule for alert in alerts(database) if alert.state is not AlertState.RESOLVED)


def objective(database: Database, kind: ObjectiveKind, target: float, threshold_ms: float = 0) -> None:
    spec = MonitorSpec(objectives=(Objective(kind, target, threshold_ms, burn_rates=FAST),))
    Monitors(database=database).update(MONITOR, "", spec, ["objectives"])


def calls(traces: Traces, count: int, code: str = "0", cluster: str = "laptop", ago_s: float = 1) -> None:
    """Let doors tell of calls that ended with a gRPC code."""
    start = datetime.now(UTC) - timedelta(seconds=ago_s)
    known = {"upstream_cluster": CLUSTERS[cluster], "grpc.status_code": code, "http.status_code": "200"}
    first = time.time_ns()
    made = [
        span("a", trace=first + number, service="ingress", start_time=start, attributes=known)
        for number in range(count)
    ]
    traces.receive(made)


# The rule


def at(*shares: tuple[float, int, int]) -> Callable[[float], Counted]:
    return lambda window_s: Counted(*{w: (n, bad) for w, n, bad in shares}[window_s])


def test_a_budget_burns_when_both_windows_show_it() -> None:
    asked = Objective(ObjectiveKind.AVAILABILITY, 0.999)

    found = burning(asked, at((3600, 10_000, 300), (300, 900, 30)))

    assert found is not None
    assert found.rate == BurnRate(14.4, 3600, 300)
    assert burn_summary(asked, found).startswith(
        "300 of 10000 calls failed in 1 h, 30 of 900 in 5 min: 30.0 times the 0.10% that a target of 0.999"
    )


def test_a_budget_does_not_burn_when_it_is_over_or_has_just_begun() -> None:
    asked = Objective(ObjectiveKind.AVAILABILITY, 0.999, burn_rates=(BurnRate(14.4, 3600, 300),))

    assert burning(asked, at((3600, 10_000, 300), (300, 900, 0))) is None
    assert burning(asked, at((3600, 10_000, 30), (300, 900, 30))) is None


def test_one_failure_of_few_calls_is_no_sure_sign() -> None:
    asked = Objective(ObjectiveKind.AVAILABILITY, 0.98, burn_rates=(BurnRate(5, 3600, 300),))

    assert burning(asked, at((3600, 10, 1), (300, 10, 1))) is None
    assert burning(asked, at((3600, 9, 9), (300, 9, 9))) is None
    assert burning(asked, at((3600, 10, 6), (300, 10, 6))) is not None


def test_a_loose_target_burns_when_half_of_all_is_bad() -> None:
    asked = Objective(ObjectiveKind.QUALITY, 0.8)

    assert burning(asked, at((3600, 40, 30), (300, 40, 30))) is not None
    assert (
        burning(asked, at((3600, 40, 12), (300, 40, 12), (21600, 40, 12), (1800, 40, 12), (259200, 0, 0)))
        is None
    )


def test_the_workbooks_factors_grow_with_the_period() -> None:
    monthly, weekly = (Objective(ObjectiveKind.AVAILABILITY, 0.99, period_days=days) for days in (30, 15))

    assert [rate.factor for rate in monthly.windows] == [14.4, 6, 1]
    assert [rate.factor for rate in weekly.windows] == [7.2, 3, 0.5]


# Read off the data


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_failed_calls_burn_the_availability_and_stop_burning(
    database: Database, traces: Traces, watch: ObjectiveWatch, cluster: str
) -> None:
    objective(database, ObjectiveKind.AVAILABILITY, 0.99)
    calls(traces, 40, cluster=cluster, ago_s=30)
    watch.sweep()
    assert open_rules(database) == []

    calls(traces, 30, "14", cluster, ago_s=5)
    calls(traces, 10, "3", cluster, ago_s=5)
    watch.sweep()
    watch.sweep()
    assert open_rules(database) == ["availability-burn"]
    assert "30 of 80 calls failed in 10 min" in alerts(database)[0].summary

    calls(traces, 3000, cluster=cluster, ago_s=1)
    watch.sweep()
    assert open_rules(database) == []


def test_calls_without_spans_count_by_their_events(
    database: Database, events: Events, traces: Traces, count_events: Callable[[], None]
) -> None:
    events.report(Traffic().batch(50, captured=False))
    calls(traces, 3, "14")
    count_events()
    ObjectiveWatch(database=database, down_s=60).sweep()

    with database.transaction() as connection:
        assert CallStore(connection).calls("flowers", 60) == Counted(53, 3)


def test_slow_calls_burn_the_latency(
    database: Database, events: Events, watch: ObjectiveWatch, count_events: Callable[[], None]
) -> None:
    objective(database, ObjectiveKind.LATENCY, 0.95, threshold_ms=100)
    traffic = Traffic()
    events.report(traffic.batch(100, captured=False, latency_ms=20.0))
    count_events()
    watch.sweep()
    assert open_rules(database) == []

    events.report(traffic.batch(500, captured=False, latency_ms=200.0))
    count_events()
    count_events()
    watch.sweep()

    assert open_rules(database) == ["latency-burn"]
    assert "500 of 600 calls took longer than 100 ms in 10 min" in alerts(database)[0].summary


def test_wrong_labels_burn_the_quality_of_their_version(
    database: Database, events: Events, feedback: Feedback, watch: ObjectiveWatch
) -> None:
    objective(database, ObjectiveKind.QUALITY, 0.98)
    made = [event(number + 1) for number in range(60)]
    events.report(batch(made))
    label(feedback, made[:20], "rose")
    watch.sweep()
    assert open_rules(database) == []

    label(feedback, made[20:], "daisy")
    watch.sweep()

    assert open_rules(database) == ["quality-burn"]
    assert alerts(database)[0].model_version == VERSION
    assert "40 of 60 labelled rows are wrong" in alerts(database)[0].summary


def label(feedback: Feedback, made: list[Any], text: str) -> None:
    given = [(f"predictions/{made_event.prediction_id}.0", text, "test") for made_event in made]
    feedback.record(given, Repeat("RecordFeedback", "", b""))


def test_no_success_while_calls_come_is_a_downtime(
    database: Database,
    events: Events,
    traces: Traces,
    watch: ObjectiveWatch,
    count_events: Callable[[], None],
) -> None:
    Monitors(database=database).update(MONITOR, "", MonitorSpec(), [])
    watch.sweep()
    assert open_rules(database) == []

    calls(traces, 5, "14")
    watch.sweep()
    watch.sweep()
    assert [(a.rule, a.seen_count) for a in alerts(database)] == [("downtime", 2)]

    events.report(Traffic().batch(1, captured=False))
    count_events()
    watch.sweep()
    assert open_rules(database) == []


def test_events_that_a_spool_lost_raise_an_alert_when_they_are_a_hundredth(
    database: Database, events: Events, watch: ObjectiveWatch
) -> None:
    traffic = Traffic()
    events.report(traffic.batch(500, captured=False))
    watch.sweep()
    assert open_rules(database) == []

    events.report(batch([], traffic.spool, first_sequence=501, produced_sequence=520, closed=True))
    watch.sweep()

    (alert,) = alerts(database)
    assert (alert.rule, alert.evidence) == ("events-lost", traffic.spool)
    assert alert.summary.startswith("20 of 520 events")


def test_counts_are_forgotten_with_the_longest_window(
    database: Database, traces: Traces, watch: ObjectiveWatch
) -> None:
    calls(traces, 5)
    watch.sweep()
    with database.transaction() as connection:
        CallStore(connection).forget(-1)

    with database.transaction() as connection:
        assert CallStore(connection).calls("flowers", 3600) == Counted(0, 0)
