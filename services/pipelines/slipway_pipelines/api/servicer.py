"""PipelinesService over the use cases."""

from collections.abc import Iterator

import grpc
from google.protobuf.message import Message
from slipway.pipelines.v1 import pipelines_pb2 as pb
from slipway.pipelines.v1 import pipelines_pb2_grpc

from slipway_pipelines.api import definition_messages, run_messages
from slipway_pipelines.usecases.definitions import Library
from slipway_pipelines.usecases.lineage import Lineage
from slipway_pipelines.usecases.runs import RunBook

SERVICE = pb.DESCRIPTOR.services_by_name["PipelinesService"].full_name


class Servicer(pipelines_pb2_grpc.PipelinesServiceServicer):
    """PipelinesService over the use cases.

    Args:
        library: The verbs over definitions.
        runs: The verbs over runs.
        lineage: The verbs over lineage.
    """

    def __init__(self, *, library: Library, runs: RunBook, lineage: Lineage) -> None:
        self._library = library
        self._runs = runs
        self._lineage = lineage

    def UploadPipeline(
        self, requests: Iterator[pb.UploadPipelineRequest], context: grpc.ServicerContext
    ) -> pb.PipelineVersion:
        """Upload."""
        header = next(requests, pb.UploadPipelineRequest()).header
        chunks = (request.chunk for request in requests)
        version = self._library.upload(
            header.size_bytes, header.entry_point, header.request_id, _content(header), chunks
        )
        return definition_messages.version(version)

    def GetPipeline(self, request: pb.GetPipelineRequest, context: grpc.ServicerContext) -> pb.Pipeline:
        """Get."""
        return definition_messages.pipeline(self._library.get(request.name))

    def ListPipelines(
        self, request: pb.ListPipelinesRequest, context: grpc.ServicerContext
    ) -> pb.ListPipelinesResponse:
        """List."""
        page, token = self._library.page(request.page_size, request.page_token)
        return pb.ListPipelinesResponse(
            pipelines=map(definition_messages.pipeline, page), next_page_token=token
        )

    def GetPipelineVersion(
        self, request: pb.GetPipelineVersionRequest, context: grpc.ServicerContext
    ) -> pb.PipelineVersion:
        """Get."""
        return definition_messages.version(self._library.version(request.name))

    def ListPipelineVersions(
        self, request: pb.ListPipelineVersionsRequest, context: grpc.ServicerContext
    ) -> pb.ListPipelineVersionsResponse:
        """List."""
        page, token = self._library.versions(request.parent, request.page_size, request.page_token)
        return pb.ListPipelineVersionsResponse(
            pipeline_versions=map(definition_messages.version, page), next_page_token=token
        )

    def CreatePipelineRun(
        self, request: pb.CreatePipelineRunRequest, context: grpc.ServicerContext
    ) -> pb.PipelineRun:
        """Create."""
        run = self._runs.create(
            request.parent,
            run_messages.parameters(request.parameters),
            trigger=run_messages.trigger(request.trigger),
            trigger_source=request.trigger_source,
            request_id=request.request_id,
            content=_content(request),
        )
        return run_messages.run(run)

    def GetPipelineRun(
        self, request: pb.GetPipelineRunRequest, context: grpc.ServicerContext
    ) -> pb.PipelineRun:
        """Get."""
        return run_messages.run(self._runs.get(request.name))

    def ListPipelineRuns(
        self, request: pb.ListPipelineRunsRequest, context: grpc.ServicerContext
    ) -> pb.ListPipelineRunsResponse:
        """List."""
        state = run_messages.state_filter(request.state)
        trigger = run_messages.trigger_filter(request.trigger)
        page, token = self._runs.page(request.parent, request.page_size, request.page_token, state, trigger)
        return pb.ListPipelineRunsResponse(pipeline_runs=map(run_messages.run, page), next_page_token=token)

    def WatchPipelineRun(
        self, request: pb.WatchPipelineRunRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.PipelineRun]:
        """Watch."""
        for run in self._runs.watch(request.name, context.is_active):
            yield run_messages.run(run)

    def CancelPipelineRun(
        self, request: pb.CancelPipelineRunRequest, context: grpc.ServicerContext
    ) -> pb.PipelineRun:
        """Cancel."""
        return run_messages.run(self._runs.cancel(request.name, request.request_id, _content(request)))

    def RetryPipelineRun(
        self, request: pb.RetryPipelineRunRequest, context: grpc.ServicerContext
    ) -> pb.PipelineRun:
        """Retry."""
        return run_messages.run(self._runs.retry(request.name, request.request_id, _content(request)))

    def ListStepRuns(
        self, request: pb.ListStepRunsRequest, context: grpc.ServicerContext
    ) -> pb.ListStepRunsResponse:
        """List."""
        page, token = self._runs.steps(request.parent, request.page_size, request.page_token)
        steps = [run_messages.step_run(request.parent, step) for step in page]
        return pb.ListStepRunsResponse(step_runs=steps, next_page_token=token)

    def CreateBackfill(self, request: pb.CreateBackfillRequest, context: grpc.ServicerContext) -> pb.Backfill:
        """Create."""
        made = self._runs.backfill(
            request.parent,
            run_messages.moment(request, "start_time"),
            run_messages.moment(request, "end_time"),
            run_messages.parameters(request.parameters),
            request.request_id,
            _content(request),
        )
        return pb.Backfill(runs=made.runs, time_count=made.time_count, skipped_count=made.skipped_count)

    def PauseSchedule(self, request: pb.PauseScheduleRequest, context: grpc.ServicerContext) -> pb.Pipeline:
        """Pause."""
        found = self._library.pause(request.name, request.request_id, _content(request))
        return definition_messages.pipeline(found)

    def ResumeSchedule(self, request: pb.ResumeScheduleRequest, context: grpc.ServicerContext) -> pb.Pipeline:
        """Resume."""
        found = self._library.resume(request.name, request.request_id, _content(request))
        return definition_messages.pipeline(found)

    def ListChildren(
        self, request: pb.ListChildrenRequest, context: grpc.ServicerContext
    ) -> pb.ListChildrenResponse:
        """List."""
        names, token = self._lineage.children(request.name, request.page_size, request.page_token)
        return pb.ListChildrenResponse(names=names, next_page_token=token)

    def ListParents(
        self, request: pb.ListParentsRequest, context: grpc.ServicerContext
    ) -> pb.ListParentsResponse:
        """List."""
        names, token = self._lineage.parents(request.name, request.page_size, request.page_token)
        return pb.ListParentsResponse(names=names, next_page_token=token)


def _content(request: Message) -> bytes:
    return request.SerializeToString(deterministic=True)
