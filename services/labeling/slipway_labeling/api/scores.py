"""Scores and active learning over gRPC."""

from collections.abc import Iterator
from typing import Any

from slipway.labeling.v1 import labeling_pb2 as pb
from slipway_runtime.db import Repeat
from slipway_runtime.errors import InvalidArgument

from slipway_labeling.api.quality import to_estimate
from slipway_labeling.domain.scores import (
    MAX_PART,
    LearningPoint,
    OrderKind,
    OrderSpec,
    Score,
    ScoresHeader,
)
from slipway_labeling.usecases.scores import Scores


class ScoresPart:
    """The methods over scores."""

    _scores: Scores

    def ImportScores(
        self, requests: Iterator[pb.ImportScoresRequest], context: Any
    ) -> pb.ImportScoresResponse:
        stored = self._scores.add(_header(requests), _parts(requests))
        return pb.ImportScoresResponse(stored_count=stored.stored_count, task_count=stored.task_count)

    def OrderTasks(self, request: pb.OrderTasksRequest, context: Any) -> pb.OrderTasksResponse:
        spec = OrderSpec(
            kind=_kind(request.order),
            version=request.model_version,
            open_count=request.open_count,
            seed=request.seed,
            prelabel=request.prelabel,
        )
        ordered = self._scores.order(request.parent, spec, Repeat.of(request))
        return pb.OrderTasksResponse(
            ordered_count=ordered.ordered_count, opened=ordered.opened, unscored_count=ordered.unscored_count
        )

    def FindLabelErrors(self, request: pb.FindLabelErrorsRequest, context: Any) -> pb.FindLabelErrorsResponse:
        found, token, judged = self._scores.label_errors(
            request.parent, request.model_version, request.page_size, request.page_token
        )
        errors = [
            pb.LabelError(
                task=one.task_name,
                key=one.key,
                label=one.label,
                suggested=one.suggested,
                self_confidence=one.self_confidence,
            )
            for one in found
        ]
        return pb.FindLabelErrorsResponse(label_errors=errors, next_page_token=token, judged_count=judged)

    def EstimateLearningCurve(
        self, request: pb.EstimateLearningCurveRequest, context: Any
    ) -> pb.LearningCurve:
        points = [
            LearningPoint(point.label_count, point.accuracy, point.example_count) for point in request.points
        ]
        found = self._scores.learning_curve(points, request.label_count, request.least_gain)
        return pb.LearningCurve(
            floor=found.floor,
            scale=found.scale,
            rate=found.rate,
            accuracy=to_estimate(found.accuracy),
            gain=to_estimate(found.gain),
            verdict=str(found.verdict),
        )


def _header(requests: Iterator[pb.ImportScoresRequest]) -> ScoresHeader:
    first = next(requests, None)
    if first is None or first.WhichOneof("payload") != "header":
        raise InvalidArgument.field("header", "is missing; send it first, then the scores")
    header = first.header
    return ScoresHeader(header.parent, header.model_version, tuple(header.classes))


def _parts(requests: Iterator[pb.ImportScoresRequest]) -> Iterator[list[Score]]:
    for number, request in enumerate(requests):
        if request.WhichOneof("payload") != "scores":
            raise InvalidArgument.field(
                "header", "came again, or a message was empty; send it once, then scores alone"
            )
        scores = request.scores.scores
        if len(scores) > MAX_PART:
            description = f"has {len(scores)} in its part {number}; at most {MAX_PART}: send smaller parts"
            raise InvalidArgument.field("scores", description)
        yield [Score(one.key, one.probabilities, one.embedding, one.in_training) for one in scores]


def _kind(value: int) -> OrderKind:
    if not value or value not in pb.OrderTasksRequest.Order.values():
        raise InvalidArgument.field("order", "is not set; give MARGIN, ENTROPY, DIVERSITY, HYBRID or RANDOM")
    return OrderKind(pb.OrderTasksRequest.Order.Name(value))
