"""Quality over gRPC."""

from typing import Any

from slipway.labeling.v1 import labeling_pb2 as pb
from slipway_runtime.errors import InvalidArgument

from slipway_labeling.api.conversion import to_annotator
from slipway_labeling.domain.projects import ConsensusMethod
from slipway_labeling.domain.quality import Computed, Estimate, QualityReport
from slipway_labeling.usecases.quality import Quality


class QualityPart:
    """The methods over consensus and agreement."""

    _quality: Quality

    def ComputeConsensus(self, request: pb.ComputeConsensusRequest, context: Any) -> pb.Consensus:
        found = self._quality.compute(request.parent, _method(request.method), request.exclude_paused)
        return _consensus(found)

    def GetQualityReport(self, request: pb.GetQualityReportRequest, context: Any) -> pb.QualityReport:
        return _report(self._quality.report(request.parent))


def to_estimate(estimate: Estimate) -> pb.Estimate:
    """Return a figure with its interval."""
    return pb.Estimate(**estimate.__dict__)


def _consensus(found: Computed) -> pb.Consensus:
    return pb.Consensus(
        method=str(found.method),
        task_count=found.task_count,
        tie_count=found.tie_count,
        answer_count=found.answer_count,
        mean_confidence=found.mean_confidence,
        annotators=map(to_annotator, found.annotators),
        paused=found.paused,
    )


def _report(report: QualityReport) -> pb.QualityReport:
    return pb.QualityReport(
        percent_agreement=to_estimate(report.percent_agreement),
        fleiss_kappa=to_estimate(report.fleiss_kappa),
        krippendorff_alpha=to_estimate(report.krippendorff_alpha),
        pairs=[
            pb.PairAgreement(first=pair.first, second=pair.second, kappa=to_estimate(pair.kappa))
            for pair in report.pairs
        ],
        annotators=map(to_annotator, report.annotators),
        prelabel_bias=to_estimate(report.prelabel_bias),
    )


def _method(value: int) -> ConsensusMethod | None:
    if not value:
        return None
    if value not in pb.ConsensusMethod.values():
        raise InvalidArgument.field("method", f"is {value}, which is no method; leave it out")
    return ConsensusMethod(pb.ConsensusMethod.Name(value))
