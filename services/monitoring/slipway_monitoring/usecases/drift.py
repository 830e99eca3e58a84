"""Windows of live rows: counted as they arrive, compared with the reference, reported once each."""

import logging
from collections.abc import Callable, Mapping

from prometheus_client import Counter
from slipway_runtime.db import Database, PageToken, page_size

from slipway_monitoring.domain.alerts import INPUT_DRIFT, MODEL_DRIFT, Finding
from slipway_monitoring.domain.drift import (
    Comparison,
    DriftReport,
    DriftSettings,
    Kind,
    Streak,
    Verdict,
    too_few,
    without_reference,
)
from slipway_monitoring.domain.monitors import Monitor
from slipway_monitoring.domain.names import check_version, endpoint_id_of_monitor
from slipway_monitoring.domain.predictions import Window as Rows
from slipway_monitoring.domain.profiles import Profile
from slipway_monitoring.engine.traffic import window_of
from slipway_monitoring.engine.window import compare
from slipway_monitoring.store.alerts import AlertStore
from slipway_monitoring.store.calls import CallStore
from slipway_monitoring.store.drift import DriftStore, OpenWindow
from slipway_monitoring.store.predictions import PredictionStore
from slipway_monitoring.usecases.alerts import ALERTS, settle
from slipway_monitoring.usecases.monitors import every_monitor, thresholds_of
from slipway_monitoring.usecases.references import Compared, References, existing_report
from slipway_monitoring.usecases.sources import monitored

log = logging.getLogger(__name__)

REPORTS = Counter("slipway_monitoring_drift_reports_total", "Windows compared, by verdict.", ["verdict"])
_LAST = 2**62
_RULES = {INPUT_DRIFT: Kind.INPUT, MODEL_DRIFT: Kind.MODEL}


class Drift:
    """The verbs over drift reports."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def get(self, name: str) -> DriftReport:
        """Return one report.

        Raises:
            NotFound: There is none of that number.
        """
        with self._database.transaction() as connection:
            return existing_report(connection, name)

    def list(self, parent: str, version: str, size: int, token: str) -> tuple[list[DriftReport], str]:
        """Return a page of an endpoint's reports, newest first."""
        endpoint = endpoint_id_of_monitor(parent, "parent")
        if version:
            check_version("model_version", version)
        limit, tokens = page_size(size), PageToken(("driftReports", parent, version), (int,))
        after = tokens.decode(token)
        with self._database.transaction() as connection:
            monitored(connection, f"endpoints/{endpoint}")
            before = int(after[0]) if after else _LAST
            found = DriftStore(connection).reports(endpoint, version, before, limit + 1)
        more = len(found) > limit
        return found[:limit], tokens.encode(found[limit - 1].number) if more else ""


class DriftWatch:
    """Takes rows as they arrive; one process of all does, by a leader lock, and two would do no harm.

    Args:
        database: The service's own.
        profile: Returns what a version's bundle says of it; raises NotFound, FailedPrecondition, Unavailable.
    """

    def __init__(self, *, database: Database, profile: Callable[[str], Profile]) -> None:
        self._database = database
        self._references = References(profile=profile)

    def sweep(self) -> None:
        """Count what arrived at every endpoint, and report every window that is full or has had its time."""
        with self._database.transaction() as connection:
            monitors = every_monitor(connection)
        for monitor in monitors:
            try:
                self._watch(monitor)
            except Exception:  # one endpoint's trouble is not the others'
                log.exception("%s is not watched now", monitor.name)

    def _watch(self, monitor: Monitor) -> None:
        settings = monitor.spec.drift
        self._count(monitor)
        with self._database.transaction() as connection:
            windows = DriftStore(connection).windows(monitor.endpoint)
        for window in windows:
            self._report_due(window, settings)
        with self._database.transaction() as connection:
            idle_s = settings.max_window_s * settings.clear_after
            for rule in AlertStore(connection).resolve_idle(monitor.endpoint, idle_s):
                ALERTS.labels(rule, "resolved").inc()

    def _count(self, monitor: Monitor) -> None:
        """Count new rows, into windows and for objectives; the cursor moves in the same transaction."""
        more = True
        while more:
            with self._database.transaction() as connection:
                after, last = DriftStore(connection).scan(monitor.endpoint)
                more = last > after
                if more:
                    thresholds = thresholds_of(monitor.spec.objectives)
                    CallStore(connection).add_events(monitor.endpoint, (after, last), thresholds)

    def _report_due(self, window: OpenWindow, settings: DriftSettings) -> None:
        while window.pending >= settings.window_rows or (
            window.pending and window.open_s >= settings.max_window_s
        ):
            try:
                following = self._report(window, settings)
            except Exception:
                log.exception("a window of %s is not reported now", window.version)
                return
            if following is None:
                return
            window = following

    def _report(self, window: OpenWindow, settings: DriftSettings) -> OpenWindow | None:
        """Report a window and begin the next, with its alerts, in one transaction; return the next one."""
        bundle = self._references.of_bundle(window.version)
        with self._database.transaction() as connection:
            store = DriftStore(connection)
            locked = store.locked(window)
            if locked is None:
                return None
            rows = PredictionStore(connection).window(
                f"endpoints/{window.endpoint}", window.version, window.after_arrival, settings.window_rows
            )
            if not len(rows):  # forgotten before they were compared
                store.begin_next(locked, window.after_arrival, locked.pending, locked.streaks)
                return None
            known = self._references.in_force(connection, window.endpoint, bundle)
            result = _compared(rows, known, settings)
            times = (min(rows.times), max(rows.times))
            report = store.add(locked, rows.last_arrival, times, len(rows), result, known.accepted)
            streaks = streaks_after(locked.streaks, result, report)
            store.begin_next(locked, rows.last_arrival, len(rows), streaks)
            for finding in findings(report, streaks, settings):
                settle(connection, finding)
            (following,) = [w for w in store.windows(window.endpoint) if w.version == window.version]
        REPORTS.labels(str(result.verdict)).inc()
        return following


def _compared(rows: Rows, known: Compared, settings: DriftSettings) -> Comparison:
    if known.reference is None:
        return without_reference(known.version, known.trouble)
    if len(rows) < settings.min_rows:
        return too_few(len(rows), settings)
    return compare(window_of(rows, known.classes, known.reference), known.reference, settings)


def streaks_after(
    streaks: Mapping[str, Streak], result: Comparison, report: DriftReport
) -> Mapping[str, Streak]:
    """Return the streaks of both rules after a window.

    A window without a verdict changes neither; where inputs drifted, nothing is known of the model.
    """
    if result.verdict not in (Verdict.STABLE, Verdict.DRIFTED):
        return streaks
    after = dict(streaks)
    for rule, kind in _RULES.items():
        if result.kind is Kind.INPUT and kind is Kind.MODEL:
            continue
        after[rule] = after.get(rule, Streak()).after(result.kind is kind, report.start_time)
    return after


def findings(report: DriftReport, streaks: Mapping[str, Streak], settings: DriftSettings) -> list[Finding]:
    """Return what a report raises, keeps up or resolves; nothing while a streak is too short for either."""
    found = []
    for rule, streak in streaks.items():
        if streak.found < settings.raise_after and streak.clean < settings.clear_after:
            continue
        found.append(
            Finding(
                endpoint=report.endpoint,
                rule=rule,
                holds=streak.found >= settings.raise_after,
                model_version=report.model_version,
                summary=f"{streak.found} windows in a row. {report.comparison.summary}",
                evidence=report.name,
                start_time=streak.start_time,
                end_time=report.end_time,
            )
        )
    return found
