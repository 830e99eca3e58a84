"""Annotators over gRPC."""

from typing import Any

from slipway.labeling.v1 import labeling_pb2 as pb
from slipway_runtime.db import Repeat

from slipway_labeling.api.conversion import to_annotator
from slipway_labeling.usecases.annotators import Annotators


class AnnotatorsPart:
    """The methods over annotators."""

    _annotators: Annotators

    def GetAnnotator(self, request: pb.GetAnnotatorRequest, context: Any) -> pb.Annotator:
        return to_annotator(self._annotators.get(request.name))

    def ListAnnotators(self, request: pb.ListAnnotatorsRequest, context: Any) -> pb.ListAnnotatorsResponse:
        found, token = self._annotators.list(request.parent, request.page_size, request.page_token)
        return pb.ListAnnotatorsResponse(annotators=map(to_annotator, found), next_page_token=token)

    def PauseAnnotator(self, request: pb.PauseAnnotatorRequest, context: Any) -> pb.Annotator:
        return to_annotator(self._annotators.pause(request.name, request.reason, Repeat.of(request)))

    def ResumeAnnotator(self, request: pb.ResumeAnnotatorRequest, context: Any) -> pb.Annotator:
        return to_annotator(self._annotators.resume(request.name, Repeat.of(request)))
