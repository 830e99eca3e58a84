"""Alerts: one open row per endpoint, rule and version; and the rows of what they set off."""

import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from slipway_monitoring.domain.alerts import (
    INPUT_DRIFT,
    MODEL_DRIFT,
    ActionOutcome,
    Alert,
    AlertState,
    DueAction,
    Finding,
)
from slipway_monitoring.store.rows import Rows

_SILENCED = (
    "EXISTS (SELECT FROM silences s WHERE s.end_time > clock_timestamp() "
    "AND s.endpoint IN ('', a.endpoint) AND s.rule IN ('', a.rule))"
)
_ALERT = (
    "SELECT a.*, a.state <> 'RESOLVED' AND " + _SILENCED + " AS silenced, coalesce((SELECT json_agg("
    "json_build_object('target', c.target, 'result', c.result, 'error', c.error, 'attempt_count', "
    "c.attempt_count) ORDER BY c.kind, c.target) FROM alert_actions c WHERE c.alert = a.id), '[]') AS "
    "actions "
    "FROM alerts a "
)


class AlertStore(Rows):
    """Alerts on one connection."""

    def settle(self, finding: Finding) -> str:
        """Raise, see again or resolve a finding's alert; return `raised`, `seen`, `resolved` or nothing."""
        key = {"endpoint": finding.endpoint, "rule": finding.rule, "version": finding.model_version}
        if not finding.holds:
            gone = self._rows(
                "UPDATE alerts SET state = 'RESOLVED', resolve_time = clock_timestamp() "
                "WHERE endpoint = :endpoint AND rule = :rule AND model_version = :version "
                "AND state <> 'RESOLVED' RETURNING id",
                **key,
            )
            return "resolved" if gone else ""
        (row,) = self._rows(
            "INSERT INTO alerts (id, endpoint, rule, model_version, summary, evidence, start_time, end_time) "
            "VALUES (:id, :endpoint, :rule, :version, :summary, :evidence, :start, :end) "
            "ON CONFLICT (endpoint, rule, model_version) WHERE state <> 'RESOLVED' DO UPDATE SET "
            "last_seen_time = clock_timestamp(), seen_count = alerts.seen_count + 1, "
            "summary = EXCLUDED.summary, evidence = EXCLUDED.evidence, "
            "end_time = greatest(alerts.end_time, EXCLUDED.end_time) RETURNING seen_count",
            id=uuid.uuid4().hex,
            summary=finding.summary,
            evidence=finding.evidence,
            start=finding.start_time,
            end=finding.end_time,
            **key,
        )
        return "raised" if row.seen_count == 1 else "seen"

    def resolve_idle(self, endpoint: str, idle_s: float) -> Sequence[str]:
        """Resolve drift alerts of versions that have had no row for so long; return their rules."""
        gone = self._rows(
            "UPDATE alerts a SET state = 'RESOLVED', resolve_time = clock_timestamp() FROM drift_windows w "
            "WHERE a.endpoint = :endpoint AND a.rule = ANY(:rules) AND a.state <> 'RESOLVED' "
            "AND w.endpoint = a.endpoint AND w.version = a.model_version AND w.pending = 0 "
            "AND w.open_time < clock_timestamp() - make_interval(secs => :idle) RETURNING a.rule",
            endpoint=endpoint,
            rules=[INPUT_DRIFT, MODEL_DRIFT],
            idle=idle_s,
        )
        return [row.rule for row in gone]

    def get(self, id: str) -> Alert | None:
        """Return one alert with what it set off, or None."""
        rows = self._rows(f"{_ALERT} WHERE a.id = :id", id=id)
        return _alert(rows[0]) if rows else None

    def list(self, endpoint: str, state: str, before: int, limit: int) -> list[Alert]:
        """Return alerts, newest first; empty means all."""
        rows = self._rows(
            f"{_ALERT} WHERE (:endpoint = '' OR a.endpoint = :endpoint) AND (:state = '' OR a.state = "
            f":state) "
            "AND a.serial < :before ORDER BY a.serial DESC LIMIT :limit",
            endpoint=endpoint,
            state=state,
            before=before,
            limit=limit,
        )
        return [_alert(row) for row in rows]

    def acknowledge(self, id: str, by: str, comment: str) -> None:
        """Write down that somebody works on an alert, unless it is resolved."""
        self._rows(
            "UPDATE alerts SET state = 'ACKNOWLEDGED', acknowledged_by = :by, comment = :comment "
            "WHERE id = :id AND state <> 'RESOLVED'",
            id=id,
            by=by,
            comment=comment,
        )

    def open_versions(self, endpoint: str, rule: str) -> Sequence[str]:
        """Return the versions of which an alert of a rule is open."""
        rows = self._rows(
            "SELECT model_version FROM alerts WHERE endpoint = :endpoint AND rule = :rule "
            "AND state <> 'RESOLVED'",
            endpoint=endpoint,
            rule=rule,
        )
        return [row.model_version for row in rows]

    def open_counts(self) -> Mapping[str, int]:
        """Return how many alerts of each rule are open."""
        rows = self._rows("SELECT rule, count(*) AS n FROM alerts WHERE state <> 'RESOLVED' GROUP BY rule")
        return {row.rule: int(row.n) for row in rows}

    # What alerts set off

    def unplanned(self) -> Sequence[Alert]:
        """Return firing alerts that no silence covers and whose actions are no rows yet, under their
        locks."""
        rows = self._rows(
            f"{_ALERT} WHERE a.state = 'FIRING' AND NOT a.planned AND NOT {_SILENCED} "
            "ORDER BY a.serial LIMIT 100 FOR UPDATE OF a"
        )
        return [_alert(row) for row in rows]

    def plan(self, alert: str, actions: Sequence[tuple[str, str, Mapping[str, object]]]) -> None:
        """Keep the actions (kind, target, payload) of an alert, once."""
        for kind, target, payload in actions:
            self._rows(
                "INSERT INTO alert_actions (alert, kind, target, payload) "
                "VALUES (:alert, :kind, :target, CAST(:payload AS jsonb)) ON CONFLICT DO NOTHING",
                alert=alert,
                kind=kind,
                target=target,
                payload=json.dumps(payload),
            )
        self._rows("UPDATE alerts SET planned = true WHERE id = :alert", alert=alert)

    def due(self, call_s: float) -> DueAction | None:
        """Return the next action that is to be tried, and count the try; it is due again after `call_s`."""
        rows = self._rows(
            "UPDATE alert_actions SET attempt_count = attempt_count + 1, "
            "next_time = clock_timestamp() + make_interval(secs => :call) WHERE (alert, kind, target) = "
            "(SELECT alert, kind, target FROM alert_actions WHERE result = '' "
            "AND next_time <= clock_timestamp() ORDER BY next_time LIMIT 1 FOR UPDATE SKIP LOCKED) "
            "RETURNING alert, kind, target, payload, attempt_count AS attempt",
            call=call_s,
        )
        return DueAction(**rows[0]._mapping) if rows else None

    def done(self, action: DueAction, result: str) -> None:
        """Write down what an action brought; it is not tried again."""
        self._rows(
            "UPDATE alert_actions SET result = :result, error = '' "
            "WHERE alert = :alert AND kind = :kind AND target = :target",
            alert=action.alert,
            kind=action.kind,
            target=action.target,
            result=result,
        )

    def failed(self, action: DueAction, error: str, wait_s: float) -> None:
        """Write down why an action did not work; it is tried again after a while."""
        self._rows(
            "UPDATE alert_actions SET error = :error, next_time = clock_timestamp() + make_interval(secs "
            "=> :wait) "
            "WHERE alert = :alert AND kind = :kind AND target = :target AND result = ''",
            alert=action.alert,
            kind=action.kind,
            target=action.target,
            error=error[:1000],
            wait=wait_s,
        )

    def forget(self, days: float) -> None:
        """Delete alerts that were resolved long ago, and silences that ended then."""
        old = "clock_timestamp() - make_interval(secs => :seconds)"
        self._rows(
            "DELETE FROM alert_actions c USING alerts a WHERE a.id = c.alert AND a.state = 'RESOLVED' "
            f"AND a.resolve_time < {old}",
            seconds=days * 86_400,
        )
        self._rows(
            f"DELETE FROM alerts WHERE state = 'RESOLVED' AND resolve_time < {old} "
            "AND NOT EXISTS (SELECT FROM alert_actions c WHERE c.alert = alerts.id)",
            seconds=days * 86_400,
        )
        self._rows(f"DELETE FROM silences WHERE end_time < {old}", seconds=days * 86_400)


def _alert(row: Row[Any]) -> Alert:
    fields = {name: value for name, value in row._mapping.items() if name != "planned"}
    fields["state"] = AlertState(row.state)
    fields["actions"] = [ActionOutcome(**outcome) for outcome in row.actions]
    return Alert(**fields)


def span_of(alert: Alert) -> tuple[datetime, datetime]:
    """Return the time of the predictions that an alert is about; its own where it is about none."""
    return alert.start_time or alert.create_time, alert.end_time or alert.last_seen_time
