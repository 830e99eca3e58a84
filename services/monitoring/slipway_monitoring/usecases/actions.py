"""What alerts set off: a row first, then the call, again until it works.

A try is counted before the call. When the process dies after the call, it is made again with the same
content and the alert's id as its key: a pipeline's run is the same one then, and a webhook's receiver can
tell.
"""

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from prometheus_client import Counter
from slipway_runtime.db import Database

from slipway_monitoring.domain.alerts import Alert, DueAction, retry_after_s
from slipway_monitoring.domain.monitors import AlertAction
from slipway_monitoring.store.alerts import AlertStore, span_of
from slipway_monitoring.store.monitors import MonitorStore

log = logging.getLogger(__name__)

ACTIONS = Counter("slipway_monitoring_alert_actions_total", "Tries of alerts' actions.", ["kind", "outcome"])
PIPELINE, WEBHOOK = "pipeline", "webhook"
CALL_S = 20.0  # a try that brought nothing by then is due again

Caller = Callable[[str, Mapping[str, Any], str], str]


class Actions:
    """Plans and tries the actions of alerts.

    Args:
        database: The service's own.
        callers: By kind: call a target with a payload and the alert's id, return the result, raise when it
            did not work.
    """

    def __init__(self, *, database: Database, callers: Mapping[str, Caller]) -> None:
        self._database = database
        self._callers = callers

    def sweep(self) -> None:
        """Make rows of what new alerts set off, and try all that is due."""
        self._plan()
        while (action := self._next()) is not None:
            self._try(action)

    def _plan(self) -> None:
        """Make rows for alerts that fire and are not silenced, once, however often this is repeated."""
        with self._database.transaction() as connection:
            store, monitors = AlertStore(connection), MonitorStore(connection)
            for alert in store.unplanned():
                monitor = monitors.get(alert.endpoint)
                wanted = monitor.spec.actions if monitor else ()
                chosen = [action for action in wanted if action.rule in ("", alert.rule)]
                store.plan(alert.id, [planned(alert, action) for action in chosen])

    def _next(self) -> DueAction | None:
        with self._database.transaction() as connection:
            return AlertStore(connection).due(CALL_S)

    def _try(self, action: DueAction) -> None:
        try:
            result = self._callers[action.kind](action.target, action.payload, action.alert)
        except Exception as error:
            wait_s = retry_after_s(action.attempt)
            log.warning("%s: %s is tried again in %.0f s: %s", action.alert, action.target, wait_s, error)
            with self._database.transaction() as connection:
                AlertStore(connection).failed(action, f"{type(error).__name__}: {error}", wait_s)
            ACTIONS.labels(action.kind, "failed").inc()
            return
        with self._database.transaction() as connection:
            AlertStore(connection).done(action, result)
        ACTIONS.labels(action.kind, "done").inc()


def planned(alert: Alert, action: AlertAction) -> tuple[str, str, Mapping[str, object]]:
    """Return kind, target and payload of an action; the payload is kept, so every try sends the same."""
    if action.pipeline:
        return PIPELINE, action.pipeline, parameters_of(alert)
    return WEBHOOK, action.webhook, notification_of(alert)


def parameters_of(alert: Alert) -> Mapping[str, object]:
    """Return the parameters of the pipeline run that an alert starts."""
    start, end = span_of(alert)
    return {
        "alert": alert.name,
        "endpoint": f"endpoints/{alert.endpoint}",
        "model_version": alert.model_version,
        "start_time": _text(start),
        "end_time": _text(end),
    }


def notification_of(alert: Alert) -> Mapping[str, object]:
    """Return an alert as webhooks get it, named as in the API."""
    return {
        "name": alert.name,
        "monitor": f"monitors/{alert.endpoint}",
        "rule": alert.rule,
        "modelVersion": alert.model_version,
        "state": str(alert.state),
        "summary": alert.summary,
        "evidence": alert.evidence,
        "runbook": alert.runbook,
        "createTime": _text(alert.create_time),
    }


def _text(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")
