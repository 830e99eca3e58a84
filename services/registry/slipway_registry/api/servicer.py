"""The servicer: to domain, call the use case, to proto."""

from collections.abc import Iterator
from typing import Any, TypeAlias

import grpc
from slipway.registry.v1 import registry_pb2 as pb
from slipway.registry.v1 import registry_pb2_grpc

from slipway_registry.api import messages
from slipway_registry.api.evaluations import EvaluationMethods
from slipway_registry.api.gates import GateMethods
from slipway_registry.usecases.aliases import Aliases
from slipway_registry.usecases.bundles import Bundles
from slipway_registry.usecases.evaluations import Evaluations
from slipway_registry.usecases.gates import Gates
from slipway_registry.usecases.lineage import Lineage
from slipway_registry.usecases.models import Models
from slipway_registry.usecases.runs import RunFilter, Runs

Context: TypeAlias = grpc.ServicerContext


class RegistryServicer(EvaluationMethods, GateMethods, registry_pb2_grpc.RegistryServiceServicer):
    """slipway.registry.v1.RegistryService."""

    def __init__(
        self,
        *,
        runs: Runs,
        models: Models,
        bundles: Bundles,
        evaluations: Evaluations,
        gates: Gates,
        aliases: Aliases,
        lineage: Lineage,
    ) -> None:
        self._gates = gates
        self._aliases = aliases
        self._lineage = lineage
        self._evaluations = evaluations
        self._runs = runs
        self._models = models
        self._bundles = bundles

    def CreateExperiment(self, request: pb.CreateExperimentRequest, context: Context) -> pb.Experiment:
        description = request.experiment.description
        return messages.experiment_message(
            self._runs.create_experiment(request.experiment_id, description, messages.repeat_of(request))
        )

    def GetExperiment(self, request: pb.GetExperimentRequest, context: Context) -> pb.Experiment:
        return messages.experiment_message(self._runs.get_experiment(request.name))

    def ListExperiments(self, request: Any, context: Context) -> pb.ListExperimentsResponse:
        found, token = self._runs.list_experiments(request.page_size, request.page_token)
        return pb.ListExperimentsResponse(
            experiments=map(messages.experiment_message, found), next_page_token=token
        )

    def CreateRun(self, request: pb.CreateRunRequest, context: Context) -> pb.Run:
        return messages.run_message(
            self._runs.create_run(request.parent, messages.new_run(request), messages.repeat_of(request))
        )

    def GetRun(self, request: pb.GetRunRequest, context: Context) -> pb.Run:
        return messages.run_message(self._runs.get_run(request.name))

    def ListRuns(self, request: pb.ListRunsRequest, context: Context) -> pb.ListRunsResponse:
        state = messages.run_state(request.state) if request.state else ""
        which = RunFilter(request.parent, state, request.dataset_commit)
        found, token = self._runs.list_runs(which, request.page_size, request.page_token)
        return pb.ListRunsResponse(runs=map(messages.run_message, found), next_page_token=token)

    def BeginRunAttempt(self, request: pb.BeginRunAttemptRequest, context: Context) -> pb.Run:
        environment = dict(request.environment)
        return messages.run_message(
            self._runs.begin_attempt(
                request.name, request.attempt, request.resume_step, request.host, environment
            )
        )

    def LogMetrics(self, request: pb.LogMetricsRequest, context: Context) -> pb.LogMetricsResponse:
        points = [messages.to_point(point) for point in request.points]
        stored = self._runs.log_metrics(request.name, request.attempt, points)
        return pb.LogMetricsResponse(stored_count=stored)

    def ListMetricPoints(self, request: Any, context: Context) -> pb.ListMetricPointsResponse:
        found, token = self._runs.list_points(
            request.parent, request.key, request.page_size, request.page_token
        )
        return pb.ListMetricPointsResponse(points=map(messages.point_message, found), next_page_token=token)

    def FinishRun(self, request: pb.FinishRunRequest, context: Context) -> pb.Run:
        state = messages.end_state(request.state)
        return messages.run_message(
            self._runs.finish_run(request.name, state, request.error, request.attempt)
        )

    def CreateModel(self, request: pb.CreateModelRequest, context: Context) -> pb.Model:
        return messages.model_message(
            self._models.create(request.model_id, request.model.description, messages.repeat_of(request))
        )

    def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.Model:
        return messages.model_message(self._models.get(request.name))

    def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        found, token = self._models.list(request.page_size, request.page_token)
        return pb.ListModelsResponse(models=map(messages.model_message, found), next_page_token=token)

    def UpdateModel(self, request: pb.UpdateModelRequest, context: Context) -> pb.Model:
        model, paths = request.model, list(request.update_mask.paths)
        return messages.model_message(self._models.update(model.name, model.etag, model.description, paths))

    def UploadBundle(self, requests: Iterator[pb.UploadBundleRequest], context: Context) -> pb.Bundle:
        return messages.bundle_message(
            self._bundles.receive(messages.bundle_header(requests), messages.bundle_parts(requests))
        )

    def GetBundle(self, request: pb.GetBundleRequest, context: Context) -> pb.Bundle:
        return messages.bundle_message(self._bundles.get(request.name))

    def DownloadBundle(
        self, request: pb.DownloadBundleRequest, context: Context
    ) -> Iterator[pb.DownloadBundleResponse]:
        for part in self._bundles.read(request.name, request.files):
            if isinstance(part, bytes):
                yield pb.DownloadBundleResponse(chunk=part)
            else:
                yield pb.DownloadBundleResponse(file=messages.bundle_file_message(part))

    def CreateModelVersion(self, request: pb.CreateModelVersionRequest, context: Context) -> pb.ModelVersion:
        version = request.model_version
        made = self._models.create_version(
            request.parent, version.run, version.bundle, request.attempt, messages.repeat_of(request)
        )
        return messages.version_message(made)

    def GetModelVersion(self, request: pb.GetModelVersionRequest, context: Context) -> pb.ModelVersion:
        return messages.version_message(self._models.get_version(request.name))

    def ListModelVersions(self, request: Any, context: Context) -> pb.ListModelVersionsResponse:
        found, token = self._models.list_versions(
            request.parent, request.page_size, request.page_token, messages.version_states(request.states)
        )
        return pb.ListModelVersionsResponse(
            model_versions=map(messages.version_message, found), next_page_token=token
        )
