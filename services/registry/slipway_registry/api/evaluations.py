"""Methods over evaluations."""

from collections.abc import Iterator
from typing import Any

from slipway.registry.v1 import registry_pb2 as pb
from slipway_runtime.rpc import timestamp

from slipway_registry.domain.evaluations import (
    Curve,
    Evaluation,
    EvaluationHeader,
    Example,
    Slice,
    refused,
)
from slipway_registry.engine.pictures import MEDIA_TYPE
from slipway_registry.usecases.evaluations import Evaluations

PART = 1_000


class EvaluationMethods:
    """What a version said of labelled examples, in and out."""

    _evaluations: Evaluations

    def RecordEvaluation(
        self, requests: Iterator[pb.RecordEvaluationRequest], context: Any
    ) -> pb.VersionEvaluation:
        return _evaluation(self._evaluations.record(_header(requests), _examples(requests)))

    def GetVersionEvaluation(
        self, request: pb.GetVersionEvaluationRequest, context: Any
    ) -> pb.VersionEvaluation:
        return _evaluation(self._evaluations.get(request.name))

    def ListVersionEvaluations(self, request: Any, context: Any) -> pb.ListVersionEvaluationsResponse:
        found, token = self._evaluations.list(request.parent, request.page_size, request.page_token)
        return pb.ListVersionEvaluationsResponse(evaluations=map(_evaluation, found), next_page_token=token)

    def GetEvaluationPicture(
        self, request: pb.GetEvaluationPictureRequest, context: Any
    ) -> pb.EvaluationPicture:
        data = self._evaluations.picture(request.name, request.picture)
        return pb.EvaluationPicture(media_type=MEDIA_TYPE, data=data)


def _header(requests: Iterator[pb.RecordEvaluationRequest]) -> EvaluationHeader:
    first = next(requests, None)
    if first is None or first.WhichOneof("payload") != "header":
        raise refused("header", "is missing; send it first, then the examples")
    header = first.header
    return EvaluationHeader(
        parent=header.parent,
        evaluation_id=header.evaluation_id,
        champion_version=header.champion_version,
        dataset_commit=header.dataset_commit,
        split=header.split,
        classes=tuple(header.classes),
        champion_classes=tuple(header.champion_classes),
        latency_ms=tuple(header.latency_ms),
        champion_latency_ms=tuple(header.champion_latency_ms),
        latency_batch_rows=header.latency_batch_rows,
        golden_max_abs_diff=header.golden_max_abs_diff,
        golden_count=header.golden_count,
    )


def _examples(requests: Iterator[pb.RecordEvaluationRequest]) -> Iterator[Example]:
    for number, request in enumerate(requests):
        if request.WhichOneof("payload") != "examples":
            raise refused("header", "came again, or a message was empty; send it once, then examples alone")
        if len(request.examples.examples) > PART:
            count = len(request.examples.examples)
            raise refused("examples", f"has {count} in its part {number}; at most {PART}: send smaller parts")
        for example in request.examples.examples:
            yield Example(
                key=example.key,
                label=example.label,
                probabilities=example.probabilities,
                champion_probabilities=example.champion_probabilities,
                attributes=dict(example.attributes),
                group=example.group,
            )


def _evaluation(evaluation: Evaluation) -> pb.VersionEvaluation:
    header, report, ratio = evaluation.header, evaluation.report, evaluation.latency_ratio
    return pb.VersionEvaluation(
        name=evaluation.name,
        champion_version=header.champion_version,
        dataset_commit=header.dataset_commit,
        split=header.split,
        example_count=report.example_count,
        classes=header.classes,
        metrics=report.metrics,
        champion_metrics=report.champion_metrics,
        confusion_matrix=report.confusion_matrix,
        slices=map(_slice, report.slices),
        curves=map(_curve, report.curves),
        latency_ms=evaluation.latency_ms,
        latency_ratio=ratio.median,
        latency_ratio_low=ratio.low,
        latency_ratio_high=ratio.high,
        golden_max_abs_diff=header.golden_max_abs_diff,
        golden_count=header.golden_count,
        pictures=evaluation.pictures,
        create_time=timestamp(evaluation.create_time),
        creator=evaluation.creator,
    )


def _slice(part: Slice) -> pb.SliceReport:
    return pb.SliceReport(
        slice=part.name,
        example_count=part.example_count,
        accuracy=part.accuracy,
        accuracy_low=part.accuracy_low,
        accuracy_high=part.accuracy_high,
        champion_accuracy=part.champion_accuracy,
        lost_count=part.pairs.lost if part.pairs else 0,
        won_count=part.pairs.won if part.pairs else 0,
    )


def _curve(curve: Curve) -> pb.Curve:
    return pb.Curve(kind=curve.kind, label=curve.label, x=curve.x, y=curve.y, counts=curve.counts)
