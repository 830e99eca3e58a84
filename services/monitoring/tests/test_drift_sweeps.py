"""Windows in the service: each row is in one window, each window has one report, and alerts follow."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from event_maker import OTHER_VERSION, VERSION
from slipway_monitoring.domain.alerts import Alert, AlertState
from slipway_monitoring.domain.drift import DriftReport, DriftSettings, Kind, Verdict
from slipway_monitoring.domain.events import Role
from slipway_monitoring.domain.monitors import MonitorSpec
from slipway_monitoring.domain.profiles import Profile
from slipway_monitoring.store.alerts import AlertStore
from slipway_monitoring.store.drift import DriftStore
from slipway_monitoring.usecases.alerts import Alerts
from slipway_monitoring.usecases.drift import Drift, DriftWatch
from slipway_monitoring.usecases.events import Events
from slipway_monitoring.usecases.monitors import Monitors
from slipway_runtime.db import Database
from slipway_runtime.errors import InvalidArgument, NotFound, Unavailable
from sqlalchemy import text
from traffic_maker import Traffic

MONITOR = "monitors/flowers"


@pytest.fixture
def traffic() -> Traffic:
    return Traffic()


@pytest.fixture
def watch(database: Database, traffic: Traffic) -> DriftWatch:
    known = traffic.profile()
    return DriftWatch(
        database=database, profile=lambda version: Profile(version, known.signature, known.reference)
    )


@pytest.fixture
def send(events: Events, traffic: Traffic) -> Callable[..., None]:
    def send(count: int, **how: Any) -> None:
        events.report(traffic.batch(count, **how))

    return send


def reports(database: Database) -> list[DriftReport]:
    return Drift(database=database).list(MONITOR, "", 0, "")[0]


def alerts(database: Database) -> list[Alert]:
    return Alerts(database=database).list(MONITOR, "", 0, "")[0]


def set_windows(database: Database, **settings: float) -> None:
    monitors = Monitors(database=database)
    current = monitors.get(MONITOR).spec
    values = {**vars(current.drift), **settings}
    spec = type(current)(type(current.drift)(**values), current.objectives, current.actions)
    monitors.update(MONITOR, "", spec, ["drift"])


def test_windows_are_cut_by_rows_and_every_row_is_in_one(
    database: Database, send: Callable[..., None], watch: DriftWatch
) -> None:
    send(700)
    watch.sweep()
    send(800)
    watch.sweep()

    found = reports(database)
    assert [(report.number, report.row_count) for report in found] == [(3, 500), (2, 500), (1, 500)]
    assert {report.comparison.verdict for report in found} == {Verdict.STABLE}
    assert {test.subject for test in found[0].comparison.tests} == {
        "inputs/image/brightness",
        "inputs/image/contrast",
        "inputs/image/sharpness",
        "predictions",
        "confidence",
        "embedding",
    }
    with database.transaction() as connection:
        rows = connection.execute(
            text("SELECT after_arrival, last_arrival FROM drift_reports ORDER BY number")
        ).all()
    assert [tuple(row) for row in rows] == [(0, 500), (500, 1000), (1000, 1500)]


def test_a_window_whose_time_is_over_is_reported_with_what_it_has(
    database: Database, send: Callable[..., None], watch: DriftWatch
) -> None:
    send(150)
    set_windows(database, max_window_s=3600)
    watch.sweep()
    assert reports(database) == []

    age(database, 3601)
    watch.sweep()
    send(50)
    watch.sweep()
    age(database, 3601)
    watch.sweep()

    assert [(r.row_count, r.comparison.verdict) for r in reports(database)] == [
        (50, Verdict.TOO_FEW),
        (150, Verdict.STABLE),
    ]
    assert "100 are needed" in reports(database)[0].comparison.summary


def age(database: Database, seconds: int) -> None:
    """Let open windows be older."""
    with database.transaction() as connection:
        statement = "UPDATE drift_windows SET open_time = open_time - make_interval(secs => :s)"
        connection.execute(text(statement), {"s": seconds})


def test_versions_have_windows_of_their_own_and_only_live_rows_count(
    database: Database, send: Callable[..., None], watch: DriftWatch, traffic: Traffic, events: Events
) -> None:
    other = Traffic(1)
    send(300)
    events.report(other.batch(500, model_version=OTHER_VERSION))
    send(400, role=Role.SHADOW, fade=0.1)
    send(200)
    watch.sweep()

    found = {report.model_version: report.row_count for report in reports(database)}
    assert found == {VERSION: 500, OTHER_VERSION: 500}
    assert {report.comparison.verdict for report in reports(database)} == {Verdict.STABLE}


def test_two_sweeps_at_once_report_each_window_once(
    database: Database, send: Callable[..., None], traffic: Traffic
) -> None:
    known = traffic.profile()
    watches = [DriftWatch(database=database, profile=lambda version: known) for _ in range(4)]
    send(2500)

    threads = [threading.Thread(target=watch.sweep) for watch in watches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    watches[0].sweep()

    assert sorted(report.row_count for report in reports(database)) == [500] * 5


def test_a_sweep_that_dies_anywhere_is_made_good_by_the_next(
    database: Database, send: Callable[..., None], watch: DriftWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(1000, fade=0.4)
    # the second window is the first that has something to settle
    for place, name, done in (
        (DriftStore, "add", 0),
        (DriftStore, "begin_next", 0),
        (AlertStore, "settle", 1),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(place, name, _dies)
            watch.sweep()
        assert len(reports(database)) == done
        assert alerts(database) == []

    watch.sweep()

    assert [report.row_count for report in reports(database)] == [500, 500]
    assert [(alert.rule, alert.seen_count) for alert in alerts(database)] == [("input-drift", 1)]


def _dies(*_: object, **__: object) -> None:
    raise RuntimeError("killed")


def test_faded_inputs_raise_one_alert_after_two_windows_and_clear_it_after_two_clean_ones(
    database: Database, send: Callable[..., None], watch: DriftWatch
) -> None:
    send(500, fade=0.5)
    watch.sweep()
    assert (reports(database)[0].comparison.kind, alerts(database)) == (Kind.INPUT, [])

    send(1000, fade=0.5)
    watch.sweep()
    (alert,) = alerts(database)
    assert (alert.rule, alert.model_version, alert.seen_count) == ("input-drift", VERSION, 2)
    assert alert.evidence == "monitors/flowers/driftReports/3"
    assert alert.summary.startswith("3 windows in a row. Inputs differ from the reference: ")
    assert alert.start_time == reports(database)[2].start_time

    send(500)
    watch.sweep()
    assert alerts(database)[0].state is AlertState.FIRING
    send(500)
    watch.sweep()
    assert [alert.state for alert in alerts(database)] == [AlertState.RESOLVED]


def test_soft_answers_to_the_same_inputs_raise_an_alert_about_the_model(
    database: Database, send: Callable[..., None], watch: DriftWatch
) -> None:
    send(1000, soft=1.5)

    watch.sweep()

    assert [alert.rule for alert in alerts(database)] == ["model-drift"]


def test_inputs_kept_for_low_confidence_are_not_taken_for_all_inputs(
    database: Database, events: Events, traffic: Traffic, watch: DriftWatch
) -> None:
    made = traffic.batch(1000)
    unsure = [e for e in made.events if max(confidence(e)) < 0.7]
    kept = {e.sequence for e in unsure}
    for e in made.events:
        if e.sequence not in kept:
            object.__setattr__(e.rows[0], "inputs", {})
    events.report(made)

    watch.sweep()

    assert len(kept) >= 100
    for report in reports(database):
        assert not [t for t in report.comparison.tests if t.subject.startswith("inputs/")]
        assert report.comparison.verdict is Verdict.STABLE


def confidence(event: Any) -> Any:
    return np.frombuffer(event.rows[0].outputs["probabilities"].data, "<f4")


def test_an_alert_about_a_version_without_traffic_is_resolved(
    database: Database, send: Callable[..., None], watch: DriftWatch
) -> None:
    send(1000, fade=0.5)
    watch.sweep()
    assert [alert.state for alert in alerts(database)] == [AlertState.FIRING]

    age(database, 2 * 3600 + 1)
    watch.sweep()

    assert [alert.state for alert in alerts(database)] == [AlertState.RESOLVED]


def test_a_version_without_a_readable_reference_gets_no_verdict_and_says_so(
    database: Database, send: Callable[..., None]
) -> None:
    send(500)

    DriftWatch(database=database, profile=lambda version: Profile(version, {}, {})).sweep()

    (report,) = reports(database)
    assert report.comparison.verdict is Verdict.NO_REFERENCE
    assert "has format None" in report.comparison.summary


def test_a_monitor_that_was_set_before_the_first_event_watches_from_then_on(
    database: Database, send: Callable[..., None], watch: DriftWatch, caplog: pytest.LogCaptureFixture
) -> None:
    Monitors(database=database).update(MONITOR, "", MonitorSpec(DriftSettings(window_rows=100)), ["drift"])
    watch.sweep()

    send(100)
    watch.sweep()

    assert [report.row_count for report in reports(database)] == [100]
    assert not caplog.records


def test_trouble_at_one_endpoint_is_not_the_others(
    database: Database, send: Callable[..., None], watch: DriftWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    Monitors(database=database).update("monitors/another", "", MonitorSpec(), [])
    send(500)
    scan = DriftStore.scan
    monkeypatch.setattr(
        DriftStore, "scan", lambda self, endpoint: _dies() if endpoint == "another" else scan(self, endpoint)
    )

    watch.sweep()

    assert len(reports(database)) == 1


def test_a_window_waits_for_a_registry_that_is_away(
    database: Database, send: Callable[..., None], watch: DriftWatch
) -> None:
    def away(version: str) -> Profile:
        raise Unavailable("REGISTRY_UNAVAILABLE", "the registry is away")

    send(500)
    DriftWatch(database=database, profile=away).sweep()
    assert reports(database) == []

    watch.sweep()

    assert len(reports(database)) == 1


def test_reports_are_paged_newest_first_and_unknown_ones_are_not_found(
    database: Database, send: Callable[..., None], watch: DriftWatch
) -> None:
    drift = Drift(database=database)
    send(1500)
    watch.sweep()

    page, token = drift.list(MONITOR, VERSION, 2, "")
    rest, end = drift.list(MONITOR, VERSION, 2, token)

    assert ([r.number for r in page], [r.number for r in rest], end) == ([3, 2], [1], "")
    assert drift.get(f"{MONITOR}/driftReports/2") == page[1]
    with pytest.raises(NotFound, match="no drift report"):
        drift.get(f"{MONITOR}/driftReports/9")
    with pytest.raises(NotFound, match="did you mean 'flowers'"):
        drift.list("monitors/flower", "", 0, "")
    with pytest.raises(InvalidArgument, match="write monitors/"):
        drift.get("monitors/flowers/reports/1")
