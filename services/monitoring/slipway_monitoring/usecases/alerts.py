"""The verbs over alerts and silences."""

from datetime import UTC, datetime

from prometheus_client import Counter
from slipway_runtime.db import Database, PageToken, Repeat, page_size
from slipway_runtime.errors import FailedPrecondition, InvalidArgument, NotFound
from slipway_runtime.identity import current_caller, require_role
from sqlalchemy import Connection

from slipway_monitoring.domain.alerts import Alert, AlertState, Finding, Silence, check_rule
from slipway_monitoring.domain.names import alert_of, check_text, endpoint_id_of_monitor
from slipway_monitoring.store.alerts import AlertStore
from slipway_monitoring.store.silences import SilenceStore

ALERTS = Counter("slipway_monitoring_alerts_total", "Alerts raised and resolved.", ["rule", "step"])
WRITERS = frozenset({"admin", "engineer", "service"})
_LAST = 2**62


def settle(connection: Connection, finding: Finding) -> None:
    """Raise, see again or resolve the alert of a finding, and count it."""
    step = AlertStore(connection).settle(finding)
    if step in ("raised", "resolved"):
        ALERTS.labels(finding.rule, step).inc()


class Alerts:
    """The verbs over alerts."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def get(self, name: str) -> Alert:
        """Return one alert.

        Raises:
            NotFound: There is none of that name.
        """
        id = alert_of(name)
        with self._database.transaction() as connection:
            found = AlertStore(connection).get(id)
        return _there(found, name)

    def list(self, monitor: str, state: str, size: int, token: str) -> tuple[list[Alert], str]:
        """Return a page of alerts, newest first."""
        endpoint = endpoint_id_of_monitor(monitor, "monitor") if monitor else ""
        limit, tokens = page_size(size), PageToken(("alerts", endpoint, state), (int,))
        after = tokens.decode(token)
        with self._database.transaction() as connection:
            before = int(after[0]) if after else _LAST
            found = AlertStore(connection).list(endpoint, state, before, limit + 1)
        return found[:limit], tokens.encode(found[limit - 1].serial) if len(found) > limit else ""

    def acknowledge(self, name: str, comment: str) -> Alert:
        """Write down that the caller works on an alert; one that is acknowledged already stays as it is.

        Raises:
            PermissionDenied: The caller is neither admin, engineer nor a service.
            NotFound: There is none of that name.
            FailedPrecondition: It is resolved (ALERT_RESOLVED).
        """
        require_role(current_caller(), WRITERS)
        id = alert_of(name)
        check_text("comment", comment)
        with self._database.transaction() as connection:
            store = AlertStore(connection)
            found = _there(store.get(id), name)
            if found.state is AlertState.FIRING:
                store.acknowledge(id, current_caller().subject, comment)
                found = _there(store.get(id), name)
        if found.state is AlertState.RESOLVED:
            message = f"{name} was resolved; there is nothing to acknowledge"
            raise FailedPrecondition("ALERT_RESOLVED", message, metadata={"name": name})
        return found


class Silences:
    """The verbs over silences."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def create(self, silence: Silence, repeat: Repeat) -> Silence:
        """Keep alerts of a rule quiet until a time.

        Raises:
            PermissionDenied: The caller is neither admin, engineer nor a service.
            InvalidArgument: The end is not in the future, the comment is empty, or there is no such rule.
        """
        require_role(current_caller(), WRITERS)
        check_rule("silence.rule", silence.rule)
        check_text("silence.comment", silence.comment, needed=True)
        with self._database.transaction() as connection:

            def effect() -> Silence:
                if silence.end_time <= datetime.now(UTC):
                    raise InvalidArgument.field("silence.end_time", "is over or not set; give a time to come")
                return SilenceStore(connection).add(silence, current_caller().subject)

            return repeat.once(connection, Silence, effect)

    def list(self, size: int, token: str) -> tuple[list[Silence], str]:
        """Return a page of silences, newest first."""
        limit, tokens = page_size(size), PageToken(("silences",), (int,))
        after = tokens.decode(token)
        with self._database.transaction() as connection:
            found = SilenceStore(connection).list(int(after[0]) if after else _LAST, limit + 1)
        return found[:limit], tokens.encode(found[limit - 1].serial) if len(found) > limit else ""


def existing_alert(connection: Connection, name: str) -> Alert:
    """Return the alert of a name.

    Raises:
        NotFound: There is none (ALERT_NOT_FOUND).
    """
    return _there(AlertStore(connection).get(alert_of(name)), name)


def _there(alert: Alert | None, name: str) -> Alert:
    if alert is None:
        message = f"there is no alert {name!r}; list the alerts, resolved ones are kept for 90 days"
        raise NotFound("ALERT_NOT_FOUND", message, metadata={"name": name})
    return alert
