"""Methods over alerts and silences."""

from datetime import UTC, datetime
from typing import Any

from slipway.monitoring.v1 import monitoring_pb2 as pb
from slipway_runtime.db import Repeat
from slipway_runtime.rpc import timestamp

from slipway_monitoring.api.conversion import from_time
from slipway_monitoring.domain.alerts import Alert, Silence
from slipway_monitoring.domain.names import endpoint_id_of_monitor
from slipway_monitoring.usecases.alerts import Alerts, Silences

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


class AlertsPart:
    """What people should know, and what keeps quiet."""

    _alerts: Alerts
    _silences: Silences

    def GetAlert(self, request: pb.GetAlertRequest, context: Any) -> pb.Alert:
        return _alert(self._alerts.get(request.name))

    def ListAlerts(self, request: pb.ListAlertsRequest, context: Any) -> pb.ListAlertsResponse:
        state = pb.Alert.State.Name(request.state) if request.state else ""
        found, token = self._alerts.list(request.monitor, state, request.page_size, request.page_token)
        return pb.ListAlertsResponse(alerts=map(_alert, found), next_page_token=token)

    def AcknowledgeAlert(self, request: pb.AcknowledgeAlertRequest, context: Any) -> pb.Alert:
        return _alert(self._alerts.acknowledge(request.name, request.comment))

    def CreateSilence(self, request: pb.CreateSilenceRequest, context: Any) -> pb.Silence:
        return _silence(self._silences.create(_asked(request.silence), Repeat.of(request)))

    def ListSilences(self, request: pb.ListSilencesRequest, context: Any) -> pb.ListSilencesResponse:
        found, token = self._silences.list(request.page_size, request.page_token)
        return pb.ListSilencesResponse(silences=map(_silence, found), next_page_token=token)


def _asked(silence: pb.Silence) -> Silence:
    return Silence(
        endpoint=endpoint_id_of_monitor(silence.monitor, "silence.monitor") if silence.monitor else "",
        rule=silence.rule,
        end_time=from_time(silence, "end_time") or _NEVER,
        comment=silence.comment,
    )


def _silence(silence: Silence) -> pb.Silence:
    return pb.Silence(
        name=silence.name,
        monitor=silence.monitor,
        rule=silence.rule,
        end_time=timestamp(silence.end_time),
        comment=silence.comment,
        creator=silence.creator,
        create_time=timestamp(silence.create_time),
    )


def _alert(alert: Alert) -> pb.Alert:
    return pb.Alert(
        name=alert.name,
        monitor=f"monitors/{alert.endpoint}",
        rule=alert.rule,
        model_version=alert.model_version,
        state=str(alert.state),
        summary=alert.summary,
        evidence=alert.evidence,
        runbook=alert.runbook,
        create_time=timestamp(alert.create_time),
        last_seen_time=timestamp(alert.last_seen_time),
        seen_count=alert.seen_count,
        acknowledged_by=alert.acknowledged_by,
        resolve_time=timestamp(alert.resolve_time),
        silenced=alert.silenced,
        actions=[pb.ActionOutcome(**vars(outcome)) for outcome in alert.actions],
        comment=alert.comment,
        start_time=timestamp(alert.start_time),
        end_time=timestamp(alert.end_time),
    )
