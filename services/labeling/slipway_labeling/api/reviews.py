"""Reviews over gRPC."""

from typing import Any

from slipway.labeling.v1 import labeling_pb2 as pb
from slipway_runtime.db import Repeat
from slipway_runtime.errors import InvalidArgument

from slipway_labeling.api.conversion import from_answer, to_task
from slipway_labeling.domain.tasks import Verdict
from slipway_labeling.usecases.reviews import Reviews


class ReviewsPart:
    """The method of reviewers."""

    _reviews: Reviews

    def ReviewTask(self, request: pb.ReviewTaskRequest, context: Any) -> pb.Task:
        answer = from_answer(request.answer) if request.HasField("answer") else None
        verdict = _verdict(request.verdict)
        return to_task(
            self._reviews.review(request.name, verdict, answer, request.comment, Repeat.of(request))
        )


def _verdict(value: int) -> Verdict:
    if not value or value not in pb.ReviewTaskRequest.Verdict.values():
        raise InvalidArgument.field("verdict", "is not set; give ACCEPT, CORRECT or REOPEN")
    return Verdict(pb.ReviewTaskRequest.Verdict.Name(value))
