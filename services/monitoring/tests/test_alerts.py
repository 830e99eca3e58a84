"""Alerts: one open at a time, acknowledged, silenced; what they set off is done with one key."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from slipway_monitoring.domain.alerts import RULES, Alert, AlertState, Finding, Silence, retry_after_s
from slipway_monitoring.domain.monitors import AlertAction, Monitor, MonitorSpec, Objective, ObjectiveKind
from slipway_monitoring.store.alerts import AlertStore
from slipway_monitoring.usecases import actions as usecase
from slipway_monitoring.usecases.actions import Actions
from slipway_monitoring.usecases.alerts import Alerts, Silences
from slipway_monitoring.usecases.monitors import Monitors
from slipway_runtime.db import Database, Repeat
from slipway_runtime.errors import Aborted, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from slipway_runtime.identity import Caller, acting_as
from sqlalchemy import text

MONITOR, VERSION = "monitors/flowers", "models/flowers/versions/1"
HOOK, PIPELINE = "http://127.0.0.1:9/hook", "pipelines/flowers"
ONCE = Repeat("CreateSilence", "", b"")


@pytest.fixture(autouse=True)
def as_engineer() -> Iterator[None]:
    with acting_as(Caller("users/ann", frozenset({"engineer"}))):
        yield


@pytest.fixture
def alerts(database: Database) -> Alerts:
    return Alerts(database=database)


@pytest.fixture
def monitors(database: Database) -> Monitors:
    return Monitors(database=database)


@pytest.fixture
def silences(database: Database) -> Silences:
    return Silences(database=database)


@pytest.fixture
def settle(database: Database) -> Callable[..., str]:
    def settle(holds: bool = True, **fields: Any) -> str:
        finding = Finding(**{"endpoint": "flowers", "rule": "input-drift", "holds": holds, **fields})
        with database.transaction() as connection:
            return AlertStore(connection).settle(finding)

    return settle


class Calls:
    """Takes what alerts set off, and fails as often as it is told to."""

    def __init__(self) -> None:
        self.made: list[tuple[str, Any, str]] = []
        self.failures = 0

    def __call__(self, target: str, payload: Any, alert: str) -> str:
        self.made.append((target, payload, alert))
        if len(self.made) <= self.failures:
            raise ConnectionError("nobody listens")
        return f"{target}/runs/1"


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
def actions(database: Database, calls: Calls) -> Actions:
    return Actions(database=database, callers={"pipeline": calls, "webhook": calls})


def listed(alerts: Alerts) -> list[Alert]:
    return alerts.list("", "", 0, "")[0]


def hasten(database: Database) -> None:
    """Let what waits for its next try be due."""
    with database.transaction() as connection:
        connection.execute(text("UPDATE alert_actions SET next_time = clock_timestamp()"))


def quiet(rule: str = "", endpoint: str = "", hours: float = 1) -> Silence:
    return Silence(endpoint, rule, datetime.now(UTC) + timedelta(hours=hours), "we know")


# Lifecycle


def test_a_finding_that_holds_on_is_one_alert_seen_again(alerts: Alerts, settle: Callable[..., str]) -> None:
    steps = [
        settle(),
        settle(),
        settle(summary="worse"),
        settle(rule="model-drift"),
        settle(model_version=VERSION),
    ]

    found = listed(alerts)
    assert steps == ["raised", "seen", "seen", "raised", "raised"]
    assert [(a.rule, a.model_version, a.seen_count) for a in found] == [
        ("input-drift", VERSION, 1),
        ("model-drift", "", 1),
        ("input-drift", "", 3),
    ]
    assert found[2].summary == "worse"
    assert found[2].runbook == "docs/runbooks/input-drift.md"


def test_what_holds_no_more_is_resolved_and_comes_back_as_another_alert(
    alerts: Alerts, settle: Callable[..., str]
) -> None:
    steps = [settle(False), settle(), settle(False), settle(False), settle()]

    assert steps == ["", "raised", "resolved", "", "raised"]
    assert [alert.state for alert in listed(alerts)] == [AlertState.FIRING, AlertState.RESOLVED]
    assert listed(alerts)[1].resolve_time is not None


def test_an_acknowledged_alert_names_who_and_why_and_stays_open(
    alerts: Alerts, settle: Callable[..., str]
) -> None:
    settle()
    name = listed(alerts)[0].name

    first = alerts.acknowledge(name, "the lamp is being changed")
    with acting_as(Caller("users/bob", frozenset({"admin"}))):
        again = alerts.acknowledge(name, "me too")

    assert (first.state, first.acknowledged_by, first.comment) == (
        AlertState.ACKNOWLEDGED,
        "users/ann",
        "the lamp is being changed",
    )
    assert again == first
    assert settle() == "seen"
    assert settle(False) == "resolved"


def test_a_resolved_alert_cannot_be_acknowledged_and_an_unknown_one_is_not_found(
    alerts: Alerts, settle: Callable[..., str]
) -> None:
    settle()
    settle(False)

    with pytest.raises(FailedPrecondition) as resolved:
        alerts.acknowledge(listed(alerts)[0].name, "")
    with pytest.raises(NotFound) as unknown:
        alerts.get("alerts/" + "0" * 32)
    with pytest.raises(InvalidArgument, match="write alerts/"):
        alerts.get("alerts/one")

    assert (resolved.value.reason, unknown.value.reason) == ("ALERT_RESOLVED", "ALERT_NOT_FOUND")


def test_alerts_are_paged_newest_first_and_filtered(alerts: Alerts, settle: Callable[..., str]) -> None:
    for endpoint in ("a", "b", "b", "c"):
        settle(endpoint=endpoint, rule="downtime")
    settle(False, endpoint="a", rule="downtime")

    page, token = alerts.list("", "FIRING", 1, "")
    rest, end = alerts.list("", "FIRING", 1, token)

    assert [a.endpoint for a in (*page, *rest)] == ["c", "b"]
    assert end == ""
    assert [a.endpoint for a in alerts.list("monitors/a", "", 0, "")[0]] == ["a"]
    with pytest.raises(InvalidArgument, match="not one of this listing"):
        alerts.list("", "", 1, token)


def test_annotators_may_neither_acknowledge_silence_nor_set_monitors(
    alerts: Alerts, silences: Silences, monitors: Monitors
) -> None:
    with acting_as(Caller("users/eve", frozenset({"annotator"}))):
        for call in (
            lambda: alerts.acknowledge("alerts/" + "0" * 32, ""),
            lambda: silences.create(quiet(), ONCE),
            lambda: monitors.update(MONITOR, "", MonitorSpec(), []),
        ):
            with pytest.raises(PermissionDenied):
                call()


# Actions


def watched(monitors: Monitors, *wanted: AlertAction) -> Monitor:
    return monitors.update(MONITOR, "", MonitorSpec(actions=tuple(wanted)), ["actions"])


def test_an_alert_sets_off_the_actions_of_its_rule_once(
    monitors: Monitors, actions: Actions, calls: Calls, alerts: Alerts, settle: Callable[..., str]
) -> None:
    watched(
        monitors,
        AlertAction("input-drift", pipeline=PIPELINE),
        AlertAction(webhook=HOOK),
        AlertAction("downtime", webhook=f"{HOOK}/down"),
    )
    time = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    settle(model_version=VERSION, start_time=time, end_time=time + timedelta(minutes=1))

    for _ in range(3):
        actions.sweep()
        settle(model_version=VERSION, summary="again")

    (alert,) = listed(alerts)
    assert sorted(target for target, _, _ in calls.made) == [HOOK, PIPELINE]
    payloads = {target: payload for target, payload, _ in calls.made}
    assert payloads[PIPELINE] == {
        "alert": alert.name,
        "endpoint": "endpoints/flowers",
        "model_version": VERSION,
        "start_time": "2026-01-02T03:04:05Z",
        "end_time": "2026-01-02T03:05:05Z",
    }
    assert payloads[HOOK]["name"] == alert.name
    assert {key for _, _, key in calls.made} == {alert.id}
    assert [(o.target, o.result, o.attempt_count) for o in alert.actions] == [
        (PIPELINE, f"{PIPELINE}/runs/1", 1),
        (HOOK, f"{HOOK}/runs/1", 1),
    ]


def test_an_action_that_fails_is_tried_again_with_the_same_content_after_a_while(
    database: Database,
    monitors: Monitors,
    actions: Actions,
    calls: Calls,
    alerts: Alerts,
    settle: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(usecase, "retry_after_s", lambda attempt: 3600.0)
    watched(monitors, AlertAction(webhook=HOOK))
    calls.failures = 2
    settle()
    actions.sweep()
    actions.sweep()
    assert len(calls.made) == 1
    assert "nobody listens" in listed(alerts)[0].actions[0].error

    for _ in range(3):
        hasten(database)
        settle(summary="changed meanwhile")
        actions.sweep()

    assert len(calls.made) == 3
    assert calls.made[0] == calls.made[1] == calls.made[2]
    (outcome,) = listed(alerts)[0].actions
    assert (outcome.result, outcome.error, outcome.attempt_count) == (f"{HOOK}/runs/1", "", 3)


def test_a_death_between_call_and_row_calls_again_with_the_same_key(
    database: Database,
    monitors: Monitors,
    actions: Actions,
    calls: Calls,
    settle: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched(monitors, AlertAction(pipeline=PIPELINE))
    settle()
    with monkeypatch.context() as patched:
        patched.setattr(AlertStore, "done", _dies)
        with pytest.raises(KeyboardInterrupt):
            actions.sweep()

    actions.sweep()
    assert len(calls.made) == 1
    hasten(database)
    actions.sweep()
    hasten(database)
    actions.sweep()

    assert len(calls.made) == 2
    assert calls.made[0] == calls.made[1]


def _dies(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_waits_between_tries_double_up_to_five_minutes() -> None:
    assert [retry_after_s(n) for n in (1, 2, 3, 9, 10, 1000)] == [1, 2, 4, 256, 300, 300]


def test_a_silenced_alert_is_kept_and_shown_and_sets_nothing_off_until_the_silence_ends(
    database: Database,
    monitors: Monitors,
    silences: Silences,
    actions: Actions,
    calls: Calls,
    alerts: Alerts,
    settle: Callable[..., str],
) -> None:
    watched(monitors, AlertAction(webhook=HOOK))
    silences.create(quiet("input-drift", "flowers"), ONCE)
    settle()
    settle(rule="model-drift")
    actions.sweep()
    assert [(a.rule, a.silenced) for a in listed(alerts)] == [("model-drift", False), ("input-drift", True)]
    assert [payload["rule"] for _, payload, _ in calls.made] == ["model-drift"]

    with database.transaction() as connection:
        connection.execute(text("UPDATE silences SET end_time = clock_timestamp()"))
    actions.sweep()

    assert [payload["rule"] for _, payload, _ in calls.made] == ["model-drift", "input-drift"]
    assert not any(alert.silenced for alert in listed(alerts))


def test_an_alert_that_is_acknowledged_or_resolved_before_sets_nothing_off(
    monitors: Monitors,
    silences: Silences,
    database: Database,
    actions: Actions,
    calls: Calls,
    alerts: Alerts,
    settle: Callable[..., str],
) -> None:
    watched(monitors, AlertAction(webhook=HOOK))
    settle()
    alerts.acknowledge(listed(alerts)[0].name, "on it")
    settle(rule="downtime")
    settle(False, rule="downtime")

    actions.sweep()

    assert calls.made == []


@pytest.mark.parametrize(
    ("silence", "why"),
    [
        (quiet("no-rule"), "silence.rule: is 'no-rule'; rules: input-drift"),
        (quiet(hours=-1), "silence.end_time: is over"),
        (Silence("", "", datetime.now(UTC) + timedelta(hours=1), " "), "silence.comment: is empty"),
    ],
)
def test_a_silence_that_makes_no_sense_is_refused(silences: Silences, silence: Silence, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why):
        silences.create(silence, ONCE)


def test_a_silence_that_is_asked_for_twice_is_made_once(silences: Silences) -> None:
    repeat = Repeat("CreateSilence", "r1", b"content")

    first, second = (silences.create(quiet("downtime"), repeat) for _ in range(2))

    assert first == second
    assert silences.list(0, "") == ([first], "")


# Monitors


def test_a_monitor_is_changed_by_paths_and_a_stale_etag_is_refused(monitors: Monitors) -> None:
    first = watched(monitors, AlertAction(webhook=HOOK))
    objective = Objective(ObjectiveKind.AVAILABILITY, 0.999)

    second = monitors.update(MONITOR, first.etag, MonitorSpec(objectives=(objective,)), ["objectives"])

    assert second.spec.actions == (AlertAction(webhook=HOOK),)
    assert second.spec.objectives == (objective,)
    assert monitors.get(MONITOR) == second
    assert monitors.update(MONITOR, second.etag, second.spec, []) == second
    with pytest.raises(Aborted) as stale:
        monitors.update(MONITOR, first.etag, MonitorSpec(), [])
    assert stale.value.reason == "ETAG_MISMATCH"
    assert [m.name for m in monitors.list(0, "")[0]] == [MONITOR]


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (MonitorSpec(objectives=(Objective(ObjectiveKind.QUALITY, 1.0),)), "a share between 0 and 1"),
        (MonitorSpec(objectives=(Objective(ObjectiveKind.LATENCY, 0.9),)), "needs one above 0"),
        (MonitorSpec(objectives=(Objective(ObjectiveKind.QUALITY, 0.9, 5),)), "is for LATENCY alone"),
        (MonitorSpec(actions=(AlertAction("drift", webhook=HOOK),)), "rules: input-drift, model-drift"),
        (MonitorSpec(actions=(AlertAction(webhook="ftp://x"),)), "write an http or https URL"),
        (MonitorSpec(actions=(AlertAction(pipeline="flowers"),)), "write pipelines/"),
        (MonitorSpec(actions=(AlertAction("downtime"),)), "give a pipeline or a webhook"),
        (
            MonitorSpec(
                actions=[AlertAction("", pipeline=PIPELINE), AlertAction("downtime", pipeline=PIPELINE)]
            ),
            "two pipelines for one alert",
        ),
    ],
)
def test_a_monitor_that_makes_no_sense_is_refused_by_field(
    monitors: Monitors, spec: MonitorSpec, why: str
) -> None:
    with pytest.raises(InvalidArgument, match=why):
        monitors.update(MONITOR, "", spec, [])


def test_an_unknown_path_is_refused_with_those_that_there_are(monitors: Monitors) -> None:
    with pytest.raises(InvalidArgument, match="name some of actions, drift, objectives"):
        monitors.update(MONITOR, "", MonitorSpec(), ["name"])


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_has_its_runbook(rule: str) -> None:
    page = Path(__file__).parents[3] / "docs" / "runbooks" / f"{rule}.md"

    assert page.read_text().startswith(f"# {rule}\n")
    assert "**What it says.**" in page.read_text()
