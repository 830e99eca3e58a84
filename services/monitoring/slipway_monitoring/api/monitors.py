"""Methods over monitors and drift reports."""

from typing import Any

from google.protobuf.message import Message
from slipway.monitoring.v1 import monitoring_pb2 as pb
from slipway_runtime.db import Repeat
from slipway_runtime.errors import InvalidArgument
from slipway_runtime.rpc import timestamp

from slipway_monitoring.domain.drift import DriftReference, DriftReport, DriftSettings, DriftTest
from slipway_monitoring.domain.monitors import (
    WORKBOOK_DAYS,
    AlertAction,
    BurnRate,
    Monitor,
    MonitorSpec,
    Objective,
    ObjectiveKind,
)
from slipway_monitoring.usecases.drift import Drift
from slipway_monitoring.usecases.monitors import Monitors
from slipway_monitoring.usecases.references import Acceptance


class MonitorsPart:
    """What is watched at an endpoint, what the comparisons said, and what they compare with."""

    _monitors: Monitors
    _drift: Drift
    _acceptance: Acceptance

    def GetMonitor(self, request: pb.GetMonitorRequest, context: Any) -> pb.Monitor:
        return _monitor(self._monitors.get(request.name))

    def ListMonitors(self, request: pb.ListMonitorsRequest, context: Any) -> pb.ListMonitorsResponse:
        found, token = self._monitors.list(request.page_size, request.page_token)
        return pb.ListMonitorsResponse(monitors=map(_monitor, found), next_page_token=token)

    def UpdateMonitor(self, request: pb.UpdateMonitorRequest, context: Any) -> pb.Monitor:
        asked, paths = request.monitor, list(request.update_mask.paths)
        return _monitor(self._monitors.update(asked.name, asked.etag, _spec(asked), paths))

    def GetDriftReport(self, request: pb.GetDriftReportRequest, context: Any) -> pb.DriftReport:
        return _report(self._drift.get(request.name))

    def ListDriftReports(
        self, request: pb.ListDriftReportsRequest, context: Any
    ) -> pb.ListDriftReportsResponse:
        found, token = self._drift.list(
            request.parent, request.model_version, request.page_size, request.page_token
        )
        return pb.ListDriftReportsResponse(drift_reports=map(_report, found), next_page_token=token)

    def AcceptDrift(self, request: pb.AcceptDriftRequest, context: Any) -> pb.DriftReference:
        return _reference(self._acceptance.accept(request.name, request.reason, Repeat.of(request)))


def _spec(monitor: pb.Monitor) -> MonitorSpec:
    return MonitorSpec(
        drift=_settings(monitor.drift),
        objectives=tuple(_objective(index, each) for index, each in enumerate(monitor.objectives)),
        actions=tuple(AlertAction(a.rule, a.pipeline, a.webhook) for a in monitor.actions),
    )


def _settings(message: pb.DriftSettings) -> DriftSettings:
    """Return the settings; a field that is 0 takes its default, `min_rows` no more than a window has."""
    chosen = _set(message)
    if "window_rows" in chosen and "min_rows" not in chosen:
        chosen["min_rows"] = min(DriftSettings.min_rows, chosen["window_rows"])
    return DriftSettings(**chosen)


def _set(message: Message) -> dict[str, Any]:
    return {field.name: value for field, value in message.ListFields()}


def _objective(index: int, message: pb.Objective) -> Objective:
    if message.kind not in pb.Objective.Kind.values()[1:]:
        description = "is not set; give AVAILABILITY, LATENCY or QUALITY"
        raise InvalidArgument.field(f"monitor.objectives[{index}].kind", description)
    return Objective(
        kind=ObjectiveKind(pb.Objective.Kind.Name(message.kind)),
        target=message.target,
        threshold_ms=message.threshold_ms,
        period_days=message.period_days or WORKBOOK_DAYS,
        burn_rates=tuple(BurnRate(r.factor, r.long_window_s, r.short_window_s) for r in message.burn_rates),
    )


def _monitor(monitor: Monitor) -> pb.Monitor:
    return pb.Monitor(
        name=monitor.name,
        drift=pb.DriftSettings(**vars(monitor.spec.drift)),
        objectives=map(_to_objective, monitor.spec.objectives),
        actions=map(_to_action, monitor.spec.actions),
        etag=monitor.etag,
        update_time=timestamp(monitor.update_time),
        references=map(_reference, monitor.references),
    )


def _to_objective(objective: Objective) -> pb.Objective:
    return pb.Objective(
        kind=str(objective.kind),
        target=objective.target,
        threshold_ms=objective.threshold_ms,
        period_days=objective.period_days,
        burn_rates=[pb.BurnRate(**vars(rate)) for rate in objective.burn_rates],
    )


def _to_action(action: AlertAction) -> pb.AlertAction:
    if action.pipeline:
        return pb.AlertAction(rule=action.rule, pipeline=action.pipeline)
    return pb.AlertAction(rule=action.rule, webhook=action.webhook)


def _report(report: DriftReport) -> pb.DriftReport:
    return pb.DriftReport(
        name=report.name,
        model_version=report.model_version,
        start_time=timestamp(report.start_time),
        end_time=timestamp(report.end_time),
        row_count=report.row_count,
        verdict=str(report.comparison.verdict),
        kind=str(report.comparison.kind),
        tests=map(_test, report.comparison.tests),
        summary=report.comparison.summary,
        reference=report.reference,
    )


def _reference(reference: DriftReference) -> pb.DriftReference:
    return pb.DriftReference(
        report=reference.report,
        model_version=reference.model_version,
        row_count=reference.row_count,
        reason=reference.reason,
        creator=reference.creator,
        create_time=timestamp(reference.create_time),
    )


def _test(test: DriftTest) -> pb.DriftTest:
    return pb.DriftTest(**{**vars(test), "observed": dict(test.observed), "expected": dict(test.expected)})
