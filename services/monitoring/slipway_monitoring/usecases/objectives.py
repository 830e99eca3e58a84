"""Objectives, downtime and lost events, judged again and again from counts."""

import logging
from collections.abc import Iterator
from functools import partial

from prometheus_client import Gauge
from slipway_runtime.db import Database
from sqlalchemy import Connection

from slipway_monitoring.domain.alerts import DOWNTIME, EVENTS_LOST, RULES, Finding
from slipway_monitoring.domain.burn import Burning, Counted, burn_summary, burning
from slipway_monitoring.domain.monitors import Monitor, Objective, ObjectiveKind
from slipway_monitoring.store.alerts import AlertStore
from slipway_monitoring.store.calls import CallStore
from slipway_monitoring.store.drift import DriftStore
from slipway_monitoring.usecases.alerts import settle
from slipway_monitoring.usecases.monitors import every_monitor

log = logging.getLogger(__name__)

OPEN_ALERTS = Gauge("slipway_monitoring_open_alerts", "Alerts that are not resolved.", ["rule"])
LOST_WINDOW_S, LOST_SHARE = 3600.0, 0.01
MIN_FAILED = 3
COUNTS_DAYS, KEPT_DAYS = 31.0, 90.0


class ObjectiveWatch:
    """Judges what is not told by windows of rows.

    Args:
        database: The service's own.
        down_s: Seconds in which calls came and none succeeded that make a downtime.
    """

    def __init__(self, *, database: Database, down_s: float) -> None:
        self._database = database
        self._down_s = down_s

    def sweep(self) -> None:
        """Count calls and judge every endpoint's objectives."""
        with self._database.transaction() as connection:
            CallStore(connection).count_spans()
            monitors = every_monitor(connection)
        for monitor in monitors:
            try:
                self._judge(monitor)
            except Exception:  # one endpoint's trouble is not the others'
                log.exception("objectives of %s are not judged now", monitor.name)
        with self._database.transaction() as connection:
            counts = AlertStore(connection).open_counts()
        for rule in RULES:
            OPEN_ALERTS.labels(rule).set(counts.get(rule, 0))

    def _judge(self, monitor: Monitor) -> None:
        with self._database.transaction() as connection:
            for finding in self._findings(connection, monitor):
                settle(connection, finding)

    def forget(self) -> None:
        """Delete counts, reports and resolved alerts that are too old."""
        with self._database.transaction() as connection:
            CallStore(connection).forget(COUNTS_DAYS)
            DriftStore(connection).forget(KEPT_DAYS)
            AlertStore(connection).forget(KEPT_DAYS)

    def _findings(self, connection: Connection, monitor: Monitor) -> Iterator[Finding]:
        store = CallStore(connection)
        yield self._downtime(store, monitor.endpoint)
        yield _events_lost(store, monitor.endpoint)
        for kind in (ObjectiveKind.AVAILABILITY, ObjectiveKind.LATENCY):
            yield _calls_burn(store, monitor, kind)
        yield from _quality_burn(store, AlertStore(connection), monitor)

    def _downtime(self, store: CallStore, endpoint: str) -> Finding:
        calls = store.calls(endpoint, self._down_s)
        return Finding(
            endpoint=endpoint,
            rule=DOWNTIME,
            holds=calls.bad >= MIN_FAILED and calls.bad == calls.total,
            summary=f"{calls.bad} calls in the last {self._down_s:g} s, none of which succeeded.",
        )


def _events_lost(store: CallStore, endpoint: str) -> Finding:
    events, spools = store.lost_events(endpoint, LOST_WINDOW_S)
    return Finding(
        endpoint=endpoint,
        rule=EVENTS_LOST,
        holds=events.bad > 0 and events.share >= LOST_SHARE,
        summary=f"{events.bad} of {events.total} events of the last hour's spools are lost.",
        evidence=", ".join(spools[:10]),
    )


def _calls_burn(store: CallStore, monitor: Monitor, kind: ObjectiveKind) -> Finding:
    """Several objectives of a kind share its rule: the first that burns is told."""
    for objective in monitor.spec.objectives:
        if objective.kind is not kind:
            continue
        latency = partial(store.counted, monitor.endpoint, objective.key)
        calls = partial(store.calls, monitor.endpoint)
        found = burning(objective, latency if kind is ObjectiveKind.LATENCY else calls)
        if found is not None:
            return _burn(monitor.endpoint, objective, found)
    return Finding(endpoint=monitor.endpoint, rule=kind.rule, holds=False)


def _quality_burn(store: CallStore, alerts: AlertStore, monitor: Monitor) -> Iterator[Finding]:
    """By version: what was labelled in a window counts in it, whenever it was predicted."""
    objectives = [o for o in monitor.spec.objectives if o.kind is ObjectiveKind.QUALITY]
    rule = ObjectiveKind.QUALITY.rule
    longest = max((rate.long_window_s for o in objectives for rate in o.windows), default=0.0)
    versions = {*store.wrong_rows(monitor.endpoint, longest), *alerts.open_versions(monitor.endpoint, rule)}
    for version in sorted(versions):
        finding = Finding(endpoint=monitor.endpoint, rule=rule, holds=False, model_version=version)
        for objective in objectives:
            found = burning(objective, partial(_wrong, store, monitor.endpoint, version))
            if found is not None:
                finding = _burn(monitor.endpoint, objective, found, version)
                break
        yield finding


def _wrong(store: CallStore, endpoint: str, version: str, window_s: float) -> Counted:
    return store.wrong_rows(endpoint, window_s).get(version, Counted(0, 0))


def _burn(endpoint: str, objective: Objective, found: Burning, version: str = "") -> Finding:
    return Finding(
        endpoint=endpoint,
        rule=objective.kind.rule,
        holds=True,
        model_version=version,
        summary=burn_summary(objective, found),
        evidence=f"{objective.kind.lower()} {objective.target:g}",
    )
