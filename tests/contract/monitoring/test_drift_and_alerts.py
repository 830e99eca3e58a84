"""What callers may rely on in drift reports and alerts, whenever the worker dies.

A window has one report, a trouble one alert, and what it sets off is done at least once under one key.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from faded_traffic import FakePipelines, Hook, Traffic, referenced_version
from google.protobuf import field_mask_pb2, timestamp_pb2
from running import Keys, Service, free_port
from slipway.monitoring.v1 import monitoring_pb2 as pb
from slipway.monitoring.v1 import monitoring_pb2_grpc
from slipway.registry.v1 import registry_pb2_grpc as reg_grpc
from slipway_runtime.errors import Aborted, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from slipway_runtime.rpc import from_rpc_error

WITHIN_S = 120.0
WINDOW = 200


@pytest.fixture(scope="module")
def version(registry: Service, keys: Keys, a_commit: str) -> str:
    with registry.channel(keys.user()) as opened:
        model = f"battery-drift-{uuid.uuid4().hex[:6]}"  # the registry is the session's
        return referenced_version(reg_grpc.RegistryServiceStub(opened), a_commit, model)


@dataclass
class House:
    """Monitoring's server and worker, who calls them, and an endpoint that no other test has."""

    endpoint: str

    server: Service
    worker: Service
    user: Any
    front: Any
    pipelines: FakePipelines
    hook: Hook
    version: str

    @property
    def monitor(self) -> str:
        return f"monitors/{self.endpoint}"

    def reports(self) -> list[Any]:
        request = pb.ListDriftReportsRequest(parent=self.monitor, page_size=1000)
        return list(self.user.ListDriftReports(request).drift_reports)

    def alerts(self) -> list[Any]:
        return list(self.user.ListAlerts(pb.ListAlertsRequest(monitor=self.monitor)).alerts)

    def watch(self, *actions: pb.AlertAction, **drift: float) -> Any:
        settings = pb.DriftSettings(**{"window_rows": WINDOW, "max_window_s": 3600, **drift})
        monitor = pb.Monitor(name=self.monitor, drift=settings, actions=actions)
        return self.user.UpdateMonitor(pb.UpdateMonitorRequest(monitor=monitor))

    def traffic(self, seed: int = 0) -> Traffic:
        return Traffic(f"endpoints/{self.endpoint}", self.version, seed)


@pytest.fixture(scope="module")
def pipelines() -> Iterator[FakePipelines]:
    fake = FakePipelines()
    yield fake
    fake.close()


@pytest.fixture(scope="module")
def processes(
    keys: Keys, postgres: Any, ingestion: Service, registry: Service, pipelines: FakePipelines
) -> Iterator[tuple[Service, Service]]:
    """Return monitoring's server and worker on a database of their own."""
    settings = {
        "database_url": postgres.fresh_database(),
        "registry": registry.address,
        "ingestion": ingestion.address,
        "pipelines": pipelines.address,
        "token_file": keys.service_file("monitoring"),
        "otlp_port": free_port(),
        "sweep_interval_s": 0.2,
        "watch_interval_s": 0.1,
        "objective_interval_s": 0.2,
    }
    server = Service("slipway_monitoring.main", keys, **settings).migrate().start()
    worker = Service("slipway_monitoring.main", keys, verb="worker", **settings).start()
    yield server, worker
    worker.kill()
    server.stop()


@pytest.fixture
def house(
    keys: Keys, processes: tuple[Service, Service], pipelines: FakePipelines, version: str
) -> Iterator[House]:
    server, worker = processes
    hook = Hook()
    pipelines.forget()
    endpoint = f"flowers-{uuid.uuid4().hex[:8]}"
    with server.channel(keys.user()) as users, server.channel(keys.service("inference")) as fronts:
        user, front = (monitoring_pb2_grpc.MonitoringServiceStub(opened) for opened in (users, fronts))
        yield House(endpoint, server, worker, user, front, pipelines, hook, version)
    hook.close()


def until(condition: Callable[[], Any], within_s: float = WITHIN_S) -> Any:
    stop_at = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < stop_at, "it did not come"
        time.sleep(0.05)
    return found


def open_rules(house: House) -> list[str]:
    return [alert.rule for alert in house.alerts() if alert.state != pb.Alert.RESOLVED]


def results(house: House) -> list[str]:
    return [outcome.result for alert in house.alerts() for outcome in alert.actions]


def test_faded_images_raise_an_alert_that_starts_a_pipeline_and_posts_a_webhook(house: House) -> None:
    house.watch(
        pb.AlertAction(rule="input-drift", pipeline="pipelines/flowers"),
        pb.AlertAction(webhook=house.hook.url),
    )
    traffic = house.traffic()
    house.front.ReportEvents(traffic.batch(2 * WINDOW))
    until(lambda: len(house.reports()) == 2)
    assert open_rules(house) == []

    house.front.ReportEvents(traffic.batch(2 * WINDOW, fade=0.5))
    alert = until(lambda: [a for a in house.alerts() if len([o for o in a.actions if o.result]) == 2])[0]

    request, *repeats = house.pipelines.requests
    tries = {o.target: o.attempt_count for o in alert.actions}
    assert repeats == [request] * len(repeats)
    assert len(repeats) < tries["pipelines/flowers"]
    parameters = dict(request.parameters)
    assert (alert.rule, alert.state, alert.model_version) == ("input-drift", pb.Alert.FIRING, house.version)
    assert request.request_id == alert.name.removeprefix("alerts/")
    assert request.trigger_source == parameters["alert"] == alert.name
    assert parameters["endpoint"] == f"endpoints/{house.endpoint}"
    assert parameters["start_time"] < parameters["end_time"]
    assert {o.target: o.result for o in alert.actions} == {
        "pipelines/flowers": "pipelines/flowers/runs/1",
        house.hook.url: "200",
    }
    (key, body), *repeats = house.hook.calls
    assert repeats == [(key, body)] * len(repeats)
    assert len(repeats) < tries[house.hook.url]
    assert (f"alerts/{key}", body["rule"], body["modelVersion"]) == (alert.name, "input-drift", house.version)
    report = house.user.GetDriftReport(pb.GetDriftReportRequest(name=alert.evidence))
    assert (report.verdict, report.kind) == (pb.DriftReport.DRIFTED, pb.DriftReport.INPUT)
    assert {t.subject for t in report.tests if t.drifted} >= {"inputs/image/contrast"}

    house.front.ReportEvents(traffic.batch(2 * WINDOW))
    until(lambda: open_rules(house) == [])


def test_drift_that_is_accepted_is_the_new_normal_until_it_drifts_again(house: House) -> None:
    house.watch(pb.AlertAction(rule="input-drift", pipeline="pipelines/flowers"))
    traffic = house.traffic(seed=6)
    house.front.ReportEvents(traffic.batch(2 * WINDOW, fade=0.5))
    (alert,) = until(house.alerts)
    drifted = house.reports()[0]
    assert (drifted.verdict, drifted.reference) == (pb.DriftReport.DRIFTED, "")

    request = pb.AcceptDriftRequest(name=drifted.name, reason="the lamp is old", request_id=alert.name)
    accepted = house.user.AcceptDrift(request)
    house.worker.kill()
    assert house.user.AcceptDrift(request) == accepted
    assert open_rules(house) == []
    house.worker.start()
    house.front.ReportEvents(traffic.batch(3 * WINDOW, fade=0.5))
    until(lambda: len(house.reports()) == 5)

    reports = house.reports()
    assert [report.verdict for report in reports[:3]] == [pb.DriftReport.STABLE] * 3
    assert {report.reference for report in reports[:3]} == {drifted.name}
    assert [a.state for a in house.alerts()] == [pb.Alert.RESOLVED]
    assert (accepted.report, accepted.model_version) == (drifted.name, house.version)
    assert (accepted.reason, accepted.creator, accepted.row_count) == ("the lamp is old", "users/ann", WINDOW)
    assert list(house.user.GetMonitor(pb.GetMonitorRequest(name=house.monitor)).references) == [accepted]

    house.front.ReportEvents(traffic.batch(2 * WINDOW))  # a new lamp is drift, too
    until(lambda: open_rules(house) == ["input-drift"])
    assert house.reports()[0].verdict == pb.DriftReport.DRIFTED
    assert len(house.alerts()) == 2


def test_a_worker_that_is_killed_again_and_again_reports_each_window_once(house: House) -> None:
    house.watch(pb.AlertAction(rule="input-drift", pipeline="pipelines/flowers"))
    traffic = house.traffic(seed=1)
    sent = 0
    for number in range(8):
        house.front.ReportEvents(traffic.batch(3 * WINDOW, fade=0.5))
        sent += 3
        time.sleep(0.03 * number)
        house.worker.kill()
        house.worker.start(wait=False)
        time.sleep(0.5)

    until(lambda: len(house.reports()) == sent)
    time.sleep(0.5)

    reports = house.reports()
    assert [report.name.rpartition("/")[2] for report in reports] == [str(n) for n in range(sent, 0, -1)]
    assert {report.row_count for report in reports} == {WINDOW}
    assert len(house.alerts()) == 1
    assert house.alerts()[0].seen_count == sent - 1
    until(lambda: results(house) == ["pipelines/flowers/runs/1"])
    assert len(house.pipelines.runs) == 1


def test_a_death_between_the_call_and_its_row_repeats_the_call_under_the_same_key(house: House) -> None:
    house.watch(pb.AlertAction(webhook=house.hook.url), raise_after=1)
    died: list[bool] = []

    def die() -> None:
        if not died:
            house.worker.kill()
            died.append(True)

    house.hook.on_call = die
    house.front.ReportEvents(house.traffic(seed=2).batch(WINDOW, fade=0.5))
    until(lambda: died)
    house.worker.start()

    until(lambda: results(house) == ["200"])

    tries = house.alerts()[0].actions[0].attempt_count
    first, second, *more = house.hook.calls
    assert [second, *more] == [first] * (len(more) + 1)
    assert 2 + len(more) <= tries
    time.sleep(1)
    assert house.alerts()[0].actions[0].attempt_count == tries


def test_a_webhook_that_refuses_and_pipelines_that_are_not_ready_are_asked_again(house: House) -> None:
    house.watch(
        pb.AlertAction(webhook=house.hook.url),
        pb.AlertAction(pipeline="pipelines/flowers"),
        raise_after=1,
    )
    house.hook.answer, house.pipelines.refusals = 503, 1
    house.front.ReportEvents(house.traffic(seed=3).batch(WINDOW, fade=0.5))
    errors = until(lambda: [o.error for a in house.alerts() for o in a.actions if o.error and not o.result])
    assert any("503" in error or "not now" in error for error in errors)

    house.hook.answer = 204
    until(lambda: all(o.result for o in house.alerts()[0].actions))

    assert (
        len({key for key, _ in house.hook.calls})
        == len({r.request_id for r in house.pipelines.requests})
        == 1
    )
    assert len(house.pipelines.runs) == 1


def test_silences_keep_quiet_and_acknowledged_alerts_stay_open(house: House) -> None:
    house.watch(pb.AlertAction(webhook=house.hook.url), raise_after=1)
    end = timestamp_pb2.Timestamp()
    end.FromSeconds(int(time.time()) + 3600)
    silence = pb.Silence(monitor=house.monitor, rule="input-drift", end_time=end, comment="the lamp")
    request = pb.CreateSilenceRequest(silence=silence, request_id="quiet")
    made = [house.user.CreateSilence(request) for _ in range(2)]
    house.front.ReportEvents(house.traffic(seed=4).batch(WINDOW, fade=0.5))
    (alert,) = until(house.alerts)
    time.sleep(0.5)

    acknowledged = house.user.AcknowledgeAlert(pb.AcknowledgeAlertRequest(name=alert.name, comment="on it"))

    assert made[0] == made[1] == house.user.ListSilences(pb.ListSilencesRequest()).silences[0]
    assert made[0].creator == "users/ann"
    assert alert.silenced
    assert (acknowledged.state, acknowledged.acknowledged_by, acknowledged.comment) == (
        pb.Alert.ACKNOWLEDGED,
        "users/ann",
        "on it",
    )
    assert house.hook.calls == []


def test_defaults_are_shown_of_every_endpoint_and_a_stale_etag_is_refused(house: House) -> None:
    house.front.ReportEvents(house.traffic().batch(1))

    read = house.user.GetMonitor(pb.GetMonitorRequest(name=house.monitor))

    assert (read.drift.window_rows, read.drift.min_rows, read.drift.raise_after) == (500, 100, 2)
    listed = [m.name for m in house.user.ListMonitors(pb.ListMonitorsRequest()).monitors]
    assert listed == sorted(listed)
    assert house.monitor in listed
    objective = pb.Objective(kind="AVAILABILITY", target=0.99)
    wanted = pb.Monitor(name=read.name, etag=read.etag, objectives=[objective])
    mask = field_mask_pb2.FieldMask(paths=["objectives"])
    changed = house.user.UpdateMonitor(pb.UpdateMonitorRequest(monitor=wanted, update_mask=mask))
    assert changed.objectives[0].period_days == 30
    assert changed.drift == read.drift
    refused(
        Aborted,
        lambda: house.user.UpdateMonitor(pb.UpdateMonitorRequest(monitor=wanted, update_mask=mask)),
        "its etag is 'r1'",
    )


def test_what_cannot_be_is_refused_with_a_remedy(house: House, keys: Keys) -> None:
    house.front.ReportEvents(house.traffic().batch(1))
    user = house.user
    cases: list[tuple[type, Any, str]] = [
        (
            NotFound,
            lambda: user.GetMonitor(pb.GetMonitorRequest(name=house.monitor[:-1])),
            f"did you mean '{house.endpoint}'",
        ),
        (
            NotFound,
            lambda: user.GetDriftReport(pb.GetDriftReportRequest(name=f"{house.monitor}/driftReports/7")),
            "no drift report",
        ),
        (
            NotFound,
            lambda: user.AcceptDrift(
                pb.AcceptDriftRequest(name=f"{house.monitor}/driftReports/7", reason="x")
            ),
            "no drift report",
        ),
        (
            InvalidArgument,
            lambda: user.AcceptDrift(pb.AcceptDriftRequest(name=f"{house.monitor}/driftReports/7")),
            "reason",
        ),
        (NotFound, lambda: user.GetAlert(pb.GetAlertRequest(name="alerts/" + "a" * 32)), "no alert"),
        (InvalidArgument, lambda: house.watch(alpha=2), "monitor.drift.alpha: is 2; give"),
        (
            InvalidArgument,
            lambda: house.watch(pb.AlertAction(rule="x", webhook="http://a")),
            "rules: input-drift",
        ),
        (
            InvalidArgument,
            lambda: user.CreateSilence(pb.CreateSilenceRequest(silence=pb.Silence(comment="why"))),
            "silence.end_time",
        ),
    ]
    for kind, call, why in cases:
        refused(kind, call, why)
    with house.server.channel(keys.user("eve", "annotator")) as opened:
        eve = monitoring_pb2_grpc.MonitoringServiceStub(opened)
        request = pb.AcknowledgeAlertRequest(name="alerts/" + "a" * 32)
        refused(PermissionDenied, lambda: eve.AcknowledgeAlert(request), "admin, engineer, service")


def test_a_resolved_alert_is_not_acknowledged(house: House) -> None:
    house.watch(raise_after=1, clear_after=1)
    traffic = house.traffic(seed=5)
    house.front.ReportEvents(traffic.batch(WINDOW, fade=0.5))
    (alert,) = until(house.alerts)
    house.front.ReportEvents(traffic.batch(WINDOW))
    until(lambda: open_rules(house) == [])

    refused(
        FailedPrecondition,
        lambda: house.user.AcknowledgeAlert(pb.AcknowledgeAlertRequest(name=alert.name)),
        "nothing to acknowledge",
    )


def refused(kind: type, call: Callable[[], Any], why: str) -> None:
    try:
        call()
    except Exception as error:
        translated = from_rpc_error(error)
        assert isinstance(translated, kind), repr(translated)
        assert why in str(translated)
    else:
        raise AssertionError(f"it was not refused with {why!r}")
