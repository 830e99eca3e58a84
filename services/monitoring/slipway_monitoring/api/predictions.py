"""Predicted rows, what arrived, quality and coverage over gRPC."""

from typing import Any

from slipway.monitoring.v1 import monitoring_pb2 as pb
from slipway_runtime.rpc import timestamp

from slipway_monitoring.api.conversion import from_microseconds, from_time
from slipway_monitoring.domain import events, outcomes, predictions, quality
from slipway_monitoring.usecases.outcomes import Outcomes
from slipway_monitoring.usecases.predictions import Predictions


class PredictionsPart:
    """The methods that read predicted rows and what is counted of them."""

    _predictions: Predictions
    _outcomes: Outcomes

    def GetPrediction(self, request: pb.GetPredictionRequest, context: Any) -> pb.Prediction:
        return _prediction(self._predictions.get(request.name))

    def ListPredictions(self, request: pb.ListPredictionsRequest, context: Any) -> pb.ListPredictionsResponse:
        wanted = predictions.Wanted(
            endpoint=request.endpoint,
            model_version=request.model_version,
            start_time=from_time(request, "start_time"),
            end_time=from_time(request, "end_time"),
            labelled_only=request.labelled_only,
            captured_only=request.captured_only,
            max_confidence=request.max_confidence,
        )
        found, token = self._predictions.list(wanted, request.page_size, request.page_token)
        return pb.ListPredictionsResponse(predictions=map(_prediction, found), next_page_token=token)

    def ListOutcomes(self, request: pb.ListOutcomesRequest, context: Any) -> pb.ListOutcomesResponse:
        found = self._outcomes.list(request.endpoint, request.cursor, from_time(request, "start_time"))
        return pb.ListOutcomesResponse(
            outcomes=map(_outcome, found.outcomes),
            cursor=found.cursor,
            more=found.more,
            shadow_pair_count=found.pair_count,
            shadow_disagreement_count=found.disagreement_count,
        )

    def GetQuality(self, request: pb.GetQualityRequest, context: Any) -> pb.Quality:
        return pb.Quality(versions=map(_quality, self._outcomes.quality(request.name, request.window_s)))

    def GetCoverage(self, request: pb.GetCoverageRequest, context: Any) -> pb.Coverage:
        spools, (received, lost, waiting) = self._predictions.coverage(request.name)
        return pb.Coverage(
            spools=map(_spool, spools), received_count=received, lost_count=lost, waiting_count=waiting
        )


def _prediction(one: predictions.Prediction) -> pb.Prediction:
    return pb.Prediction(
        name=one.name,
        endpoint=one.endpoint,
        model_version=one.model_version,
        role=one.role,  # type: ignore[arg-type]
        time=timestamp(one.time),
        trace=f"traces/{one.trace_id}" if one.trace_id else "",
        predicted_label=one.predicted_label,
        confidence=one.confidence,
        probabilities=one.probabilities,
        label=one.label,
        label_source=one.label_source,
        label_time=timestamp(one.label_time),
        captured=one.captured,
        latency_ms=one.latency_ms,
        request_id=one.request_id,
    )


def _outcome(one: outcomes.OutcomeCount) -> pb.OutcomeCount:
    return pb.OutcomeCount(
        second=from_microseconds(one.second * 1_000_000),
        model_version=one.model_version,
        role=one.role,  # type: ignore[arg-type]
        row_count=one.row_count,
        class_counts=one.class_counts,
        labelled_count=one.labelled_count,
        correct_count=one.correct_count,
    )


def _quality(one: quality.VersionQuality) -> pb.VersionQuality:
    low, high = one.interval or (None, None)
    return pb.VersionQuality(
        model_version=one.model_version,
        row_count=one.row_count,
        traffic_share=one.traffic_share,
        labelled_count=one.labelled_count,
        correct_count=one.correct_count,
        accuracy=one.accuracy,
        accuracy_low=low,
        accuracy_high=high,
        label_delay_p50_s=one.label_delay_p50_s,
        label_delay_p95_s=one.label_delay_p95_s,
        class_counts=one.class_counts,
        mean_confidence=one.mean_confidence,
    )


def _spool(one: events.SpoolCoverage) -> pb.SpoolCoverage:
    return pb.SpoolCoverage(
        spool=one.spool,
        model_version=one.model_version,
        received_count=one.received_count,
        lost_count=one.lost_count,
        waiting_count=one.waiting_count,
        report_time=from_microseconds(one.report_time_us),
        closed=one.closed,
    )
