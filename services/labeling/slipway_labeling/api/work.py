"""Work of annotators over gRPC."""

from typing import Any

from slipway.labeling.v1 import labeling_pb2 as pb
from slipway_runtime.db import Repeat

from slipway_labeling.api.conversion import from_answer, to_annotation, to_assignment
from slipway_labeling.usecases.work import Work


class WorkPart:
    """The methods of annotators."""

    _work: Work

    def ClaimTasks(self, request: pb.ClaimTasksRequest, context: Any) -> pb.ClaimTasksResponse:
        given = self._work.claim(request.parent, request.count)
        return pb.ClaimTasksResponse(
            assignments=map(to_assignment, given.assignments), waiting_count=given.waiting_count
        )

    def RenewAssignment(self, request: pb.RenewAssignmentRequest, context: Any) -> pb.Assignment:
        return to_assignment(self._work.renew(request.name))

    def SubmitAnnotation(self, request: pb.SubmitAnnotationRequest, context: Any) -> pb.Annotation:
        labels = from_answer(request.answer)
        return to_annotation(self._work.submit(request.name, labels, request.lead_ms, Repeat.of(request)))

    def SkipAssignment(self, request: pb.SkipAssignmentRequest, context: Any) -> pb.Assignment:
        return to_assignment(self._work.skip(request.name, request.comment, Repeat.of(request)))

    def FlagAssignment(self, request: pb.FlagAssignmentRequest, context: Any) -> pb.Assignment:
        return to_assignment(self._work.flag(request.name, request.comment, Repeat.of(request)))

    def UndoAnnotation(self, request: pb.UndoAnnotationRequest, context: Any) -> pb.Assignment:
        return to_assignment(self._work.undo(request.name, Repeat.of(request)))

    def GetAnnotation(self, request: pb.GetAnnotationRequest, context: Any) -> pb.Annotation:
        return to_annotation(self._work.get_annotation(request.name))

    def ListAnnotations(self, request: pb.ListAnnotationsRequest, context: Any) -> pb.ListAnnotationsResponse:
        found, token = self._work.list_annotations(
            request.parent, request.task, request.annotator, request.page_size, request.page_token
        )
        return pb.ListAnnotationsResponse(annotations=map(to_annotation, found), next_page_token=token)
