"""Tasks over gRPC."""

from typing import Any

from slipway.labeling.v1 import labeling_pb2 as pb
from slipway_runtime.db import Repeat

from slipway_labeling.api.conversion import from_answer, to_task
from slipway_labeling.usecases.tasks import Tasks, Wanted


class TasksPart:
    """The methods over tasks."""

    _tasks: Tasks

    def CreateTasks(self, request: pb.CreateTasksRequest, context: Any) -> pb.CreateTasksResponse:
        made = self._tasks.create(request.parent, _wanted(request), Repeat.of(request))
        return pb.CreateTasksResponse(created_count=made.created_count, existing_count=made.existing_count)

    def GetTask(self, request: pb.GetTaskRequest, context: Any) -> pb.Task:
        return to_task(self._tasks.get(request.name))

    def ListTasks(self, request: pb.ListTasksRequest, context: Any) -> pb.ListTasksResponse:
        state = pb.Task.State.Name(request.state) if request.state else ""
        found, token = self._tasks.list(
            request.parent, state, request.flagged_only, request.page_size, request.page_token
        )
        return pb.ListTasksResponse(tasks=map(to_task, found), next_page_token=token)

    def GetTaskMedia(self, request: pb.GetTaskMediaRequest, context: Any) -> pb.TaskMedia:
        media_type, data = self._tasks.media(request.name)
        return pb.TaskMedia(media_type=media_type, data=data)


def _wanted(request: pb.CreateTasksRequest) -> Wanted:
    return Wanted(
        commit=request.dataset_commit,
        split=request.split,
        unlabelled_only=request.unlabelled_only,
        keys=tuple(request.keys),
        gold={key: from_answer(answer, f"gold[{key!r}]") for key, answer in request.gold.items()},
        hold=request.hold,
        priority=request.priority,
    )
