"""The servicer: the parts put together."""

from slipway.monitoring.v1 import monitoring_pb2, monitoring_pb2_grpc

from slipway_monitoring.api.alerts import AlertsPart
from slipway_monitoring.api.captures import CapturesPart
from slipway_monitoring.api.events import EventsPart
from slipway_monitoring.api.monitors import MonitorsPart
from slipway_monitoring.api.predictions import PredictionsPart
from slipway_monitoring.api.traces import TracesPart
from slipway_monitoring.usecases.alerts import Alerts, Silences
from slipway_monitoring.usecases.captures import CaptureImports
from slipway_monitoring.usecases.drift import Drift
from slipway_monitoring.usecases.events import Events
from slipway_monitoring.usecases.feedback import Feedback
from slipway_monitoring.usecases.lineage import Lineage
from slipway_monitoring.usecases.monitors import Monitors
from slipway_monitoring.usecases.outcomes import Outcomes
from slipway_monitoring.usecases.predictions import Predictions
from slipway_monitoring.usecases.references import Acceptance
from slipway_monitoring.usecases.traces import Traces

SERVICE = monitoring_pb2.DESCRIPTOR.services_by_name["MonitoringService"].full_name


class Servicer(
    EventsPart,
    PredictionsPart,
    CapturesPart,
    MonitorsPart,
    AlertsPart,
    TracesPart,
    monitoring_pb2_grpc.MonitoringServiceServicer,
):
    """slipway.monitoring.v1.MonitoringService; each part brings the methods of its nouns."""

    def __init__(
        self,
        *,
        events: Events,
        feedback: Feedback,
        predictions: Predictions,
        outcomes: Outcomes,
        captures: CaptureImports,
        lineage: Lineage,
        monitors: Monitors,
        drift: Drift,
        acceptance: Acceptance,
        alerts: Alerts,
        silences: Silences,
        traces: Traces,
    ) -> None:
        self._events = events
        self._feedback = feedback
        self._predictions = predictions
        self._outcomes = outcomes
        self._captures = captures
        self._lineage = lineage
        self._monitors = monitors
        self._drift = drift
        self._acceptance = acceptance
        self._alerts = alerts
        self._silences = silences
        self._traces = traces
