"""Imports of captured inputs, and lineage, over gRPC."""

from typing import Any

from slipway.monitoring.v1 import monitoring_pb2 as pb
from slipway_runtime.db import Repeat
from slipway_runtime.rpc import timestamp

from slipway_monitoring.api.conversion import from_time
from slipway_monitoring.domain import captures as domain
from slipway_monitoring.usecases.captures import CaptureImports
from slipway_monitoring.usecases.lineage import Lineage


class CapturesPart:
    """The methods over imports, and over what came of predicted rows."""

    _captures: CaptureImports
    _lineage: Lineage

    def CreateCaptureImport(self, request: pb.CreateCaptureImportRequest, context: Any) -> pb.CaptureImport:
        return _capture_import(self._captures.create(_spec(request.capture_import), Repeat.of(request)))

    def GetCaptureImport(self, request: pb.GetCaptureImportRequest, context: Any) -> pb.CaptureImport:
        return _capture_import(self._captures.get(request.name))

    def ListChildren(self, request: pb.ListChildrenRequest, context: Any) -> pb.ListChildrenResponse:
        names, token = self._lineage.children(request.name, request.page_size, request.page_token)
        return pb.ListChildrenResponse(names=names, next_page_token=token)

    def ListParents(self, request: pb.ListParentsRequest, context: Any) -> pb.ListParentsResponse:
        names, token = self._lineage.parents(request.name, request.page_size, request.page_token)
        return pb.ListParentsResponse(names=names, next_page_token=token)


def _spec(asked: pb.CaptureImport) -> domain.ImportSpec:
    return domain.ImportSpec(
        endpoint=asked.endpoint,
        dataset=asked.dataset,
        branch=asked.branch,
        start_time=from_time(asked, "start_time"),
        end_time=from_time(asked, "end_time"),
        max_confidence=asked.max_confidence,
        max_count=asked.max_count,
        attributes=dict(asked.attributes),
    )


def _capture_import(made: domain.CaptureImport) -> pb.CaptureImport:
    spec = made.spec
    return pb.CaptureImport(
        name=made.name,
        endpoint=spec.endpoint,
        dataset=spec.dataset,
        branch=spec.branch,
        start_time=timestamp(spec.start_time),
        end_time=timestamp(spec.end_time),
        max_confidence=spec.max_confidence,
        max_count=spec.max_count,
        attributes=dict(spec.attributes),
        state=made.state,  # type: ignore[arg-type]
        commit=made.commit,
        example_count=made.example_count,
        error=made.error,
        create_time=timestamp(made.create_time),
        creator=made.creator,
    )
