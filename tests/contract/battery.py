"""What every resource promises, as data: one `Resource` a row, and the battery runs over all of them."""

import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from slipway.ingestion.v1 import ingestion_pb2 as ing
from slipway.ingestion.v1 import ingestion_pb2_grpc as ing_grpc
from slipway.labeling.v1 import labeling_pb2 as lab
from slipway.labeling.v1 import labeling_pb2_grpc as lab_grpc
from slipway.pipelines.v1 import pipelines_pb2 as pip
from slipway.pipelines.v1 import pipelines_pb2_grpc as pip_grpc
from slipway.registry.v1 import registry_pb2 as reg
from slipway.registry.v1 import registry_pb2_grpc as reg_grpc
from slipway.rollout.v1 import rollout_pb2 as rol
from slipway.rollout.v1 import rollout_pb2_grpc as rol_grpc
from slipway.training.v1 import training_pb2 as trn
from slipway.training.v1 import training_pb2_grpc as trn_grpc

Stub = Any
Message = Any


@dataclass(frozen=True)
class Resource:
    """How one resource is made, read, listed and changed.

    Attributes:
        kind: Name for the test.
        service: Fixture of the running service.
        stub: (channel, fixture by name) → stub.
        missing: A well-formed name that nothing has, near to `neighbour`.
        neighbour: Id that is made before the missing one is asked for.
        create: (stub, id, request_id, text) → resource; `text` goes into a free field.
        get: (stub, name) → resource.
        list: (stub, page_size, page_token) → (names, next token).
        update: (stub, resource, text) → resource, sent with the resource's etag; None when immutable.
        named: Whether the caller chooses the id.
        denied: A role that may not even list.
    """

    kind: str
    service: str
    stub: Callable[[Any, Callable[[str], Any]], Stub]
    missing: str
    neighbour: str
    reason: str
    create: Callable[[Stub, str, str, str], Message]
    get: Callable[[Stub, str], Message]
    list: Callable[[Stub, int, str], tuple[list[str], str]]
    update: Callable[[Stub, Message, str], Message] | None = None
    named: bool = True
    denied: str = "annotator"


def fresh() -> str:
    """Return an id that nothing has."""
    return f"b-{uuid.uuid4().hex[:12]}"


def _create_dataset(stub: Stub, id: str, request_id: str, text: str) -> Message:
    dataset = ing.Dataset(description=text)
    return stub.CreateDataset(ing.CreateDatasetRequest(dataset_id=id, dataset=dataset, request_id=request_id))


def _list_datasets(stub: Stub, size: int, token: str) -> tuple[list[str], str]:
    page = stub.ListDatasets(ing.ListDatasetsRequest(page_size=size, page_token=token))
    return [dataset.name for dataset in page.datasets], page.next_page_token


def _update_dataset(stub: Stub, dataset: Message, text: str) -> Message:
    changed = ing.Dataset(name=dataset.name, etag=dataset.etag, description=text)
    mask = FieldMask(paths=["description"])
    return stub.UpdateDataset(ing.UpdateDatasetRequest(dataset=changed, update_mask=mask))


def _create_experiment(stub: Stub, id: str, request_id: str, text: str) -> Message:
    experiment = reg.Experiment(description=text)
    return stub.CreateExperiment(
        reg.CreateExperimentRequest(experiment_id=id, experiment=experiment, request_id=request_id)
    )


def _list_experiments(stub: Stub, size: int, token: str) -> tuple[list[str], str]:
    page = stub.ListExperiments(reg.ListExperimentsRequest(page_size=size, page_token=token))
    return [experiment.name for experiment in page.experiments], page.next_page_token


def _create_model(stub: Stub, id: str, request_id: str, text: str) -> Message:
    model = reg.Model(description=text)
    return stub.CreateModel(reg.CreateModelRequest(model_id=id, model=model, request_id=request_id))


def _list_models(stub: Stub, size: int, token: str) -> tuple[list[str], str]:
    page = stub.ListModels(reg.ListModelsRequest(page_size=size, page_token=token))
    return [model.name for model in page.models], page.next_page_token


def _update_model(stub: Stub, model: Message, text: str) -> Message:
    changed = reg.Model(name=model.name, etag=model.etag, description=text)
    mask = FieldMask(paths=["description"])
    return stub.UpdateModel(reg.UpdateModelRequest(model=changed, update_mask=mask))


class InDataset:
    """Ingestion's stub, with a data set and a commit for branches."""

    def __init__(self, channel: Any, fixture: Callable[[str], Any]) -> None:
        self.rpc = ing_grpc.IngestionServiceStub(channel)
        self.commit: str = fixture("a_commit")
        self.dataset = self.commit.partition("/commits/")[0]


def _create_branch(stub: Stub, id: str, request_id: str, text: str) -> Message:
    commit = "" if text == "other text" else stub.commit
    return stub.rpc.CreateBranch(
        ing.CreateBranchRequest(parent=stub.dataset, branch_id=id, commit=commit, request_id=request_id)
    )


def _list_branches(stub: Stub, size: int, token: str) -> tuple[list[str], str]:
    request = ing.ListBranchesRequest(parent="datasets/battery", page_size=size, page_token=token)
    page = stub.rpc.ListBranches(request)
    return [branch.name for branch in page.branches], page.next_page_token


def _update_branch(stub: Stub, branch: Message, text: str) -> Message:
    changed = ing.Branch(name=branch.name, etag=branch.etag, commit=stub.commit)
    mask = FieldMask(paths=["commit"])
    return stub.rpc.UpdateBranch(ing.UpdateBranchRequest(branch=changed, update_mask=mask))


class OfPipeline:
    """The stub of pipelines, with a pipeline for runs."""

    def __init__(self, channel: Any, fixture: Callable[[str], Any]) -> None:
        self.rpc = pip_grpc.PipelinesServiceStub(channel)
        self.pipeline: str = fixture("a_pipeline")


def _create_pipeline_run(stub: Stub, id: str, request_id: str, text: str) -> Message:
    request = pip.CreatePipelineRunRequest(parent=stub.pipeline, trigger_source=text, request_id=request_id)
    return stub.rpc.CreatePipelineRun(request)


def _list_pipeline_runs(stub: Stub, size: int, token: str) -> tuple[list[str], str]:
    request = pip.ListPipelineRunsRequest(parent=stub.pipeline, page_size=size, page_token=token)
    page = stub.rpc.ListPipelineRuns(request)
    return [run.name for run in page.pipeline_runs], page.next_page_token


def _create_run(stub: Stub, id: str, request_id: str, text: str) -> Message:
    with suppress(grpc.RpcError):  # an earlier test may have made it
        stub.CreateExperiment(reg.CreateExperimentRequest(experiment_id="battery"))
    run = reg.Run(display_name=text)
    return stub.CreateRun(
        reg.CreateRunRequest(parent="experiments/battery", run_id=id, run=run, request_id=request_id)
    )


def _list_runs(stub: Stub, size: int, token: str) -> tuple[list[str], str]:
    page = stub.ListRuns(reg.ListRunsRequest(parent="experiments/battery", page_size=size, page_token=token))
    return [run.name for run in page.runs], page.next_page_token


class WithCode:
    """Training's stub, with task code and a commit for its jobs."""

    def __init__(self, channel: Any, fixture: Callable[[str], Any]) -> None:
        self.rpc = trn_grpc.TrainingServiceStub(channel)
        self.commit: str = fixture("a_commit")
        self.archive: bytes = fixture("a_task")


def _create_job(stub: Stub, id: str, request_id: str, text: str) -> Message:
    header = trn.TaskCodeHeader(size_bytes=len(stub.archive))
    parts = [trn.UploadTaskCodeRequest(header=header), trn.UploadTaskCodeRequest(chunk=stub.archive)]
    job = trn.TrainingJob(
        display_name=text,
        experiment="experiments/battery",
        model="models/battery",
        dataset_commit=stub.commit,
        task_code=stub.rpc.UploadTaskCode(iter(parts)).name,
        entry_point="task.py:Nothing",
    )
    return stub.rpc.CreateTrainingJob(trn.CreateTrainingJobRequest(training_job=job, request_id=request_id))


def _list_jobs(stub: Stub, size: int, token: str) -> tuple[list[str], str]:
    page = stub.rpc.ListTrainingJobs(trn.ListTrainingJobsRequest(page_size=size, page_token=token))
    return [job.name for job in page.training_jobs], page.next_page_token


class WithVersion:
    """Training's stub, with a version and a commit for its scoring jobs."""

    def __init__(self, channel: Any, fixture: Callable[[str], Any]) -> None:
        self.rpc = trn_grpc.TrainingServiceStub(channel)
        self.commit: str = fixture("a_commit")
        self.version: str = fixture("a_version")


def _create_scoring_job(stub: Stub, id: str, request_id: str, text: str) -> Message:
    job = trn.ScoringJob(
        model_version=stub.version, dataset_commit=stub.commit, max_attempts=len(text)
    )  # it has no free text
    return stub.rpc.CreateScoringJob(trn.CreateScoringJobRequest(scoring_job=job, request_id=request_id))


def _list_scoring_jobs(stub: Stub, size: int, token: str) -> tuple[list[str], str]:
    page = stub.rpc.ListScoringJobs(trn.ListScoringJobsRequest(page_size=size, page_token=token))
    return [job.name for job in page.scoring_jobs], page.next_page_token


def _create_endpoint(stub: Stub, id: str, request_id: str, text: str) -> Message:
    endpoint = rol.Endpoint(model="models/battery", description=text)
    return stub.CreateEndpoint(
        rol.CreateEndpointRequest(endpoint_id=id, endpoint=endpoint, request_id=request_id)
    )


def _list_endpoints(stub: Stub, size: int, token: str) -> tuple[list[str], str]:
    page = stub.ListEndpoints(rol.ListEndpointsRequest(page_size=size, page_token=token))
    return [endpoint.name for endpoint in page.endpoints], page.next_page_token


def _update_endpoint(stub: Stub, endpoint: Message, text: str) -> Message:
    changed = rol.Endpoint(name=endpoint.name, etag=endpoint.etag, description=text)
    mask = FieldMask(paths=["description"])
    return stub.UpdateEndpoint(rol.UpdateEndpointRequest(endpoint=changed, update_mask=mask))


def _labeling(channel: Any, fixture: Callable[[str], Any]) -> Any:
    """Return labeling's stub, with a data set for projects."""
    fixture("a_commit")
    return lab_grpc.LabelingServiceStub(channel)


def _create_project(stub: Stub, id: str, request_id: str, text: str) -> Message:
    schema = lab.LabelSchema(classification=lab.Classification(labels=["rose", "tulip"]))
    project = lab.Project(display_name=text, dataset="datasets/battery", schema=schema)
    return stub.CreateProject(lab.CreateProjectRequest(project_id=id, project=project, request_id=request_id))


def _list_projects(stub: Stub, size: int, token: str) -> tuple[list[str], str]:
    page = stub.ListProjects(lab.ListProjectsRequest(page_size=size, page_token=token))
    return [project.name for project in page.projects], page.next_page_token


def _update_project(stub: Stub, project: Message, text: str) -> Message:
    changed = lab.Project(name=project.name, etag=project.etag, display_name=text)
    mask = FieldMask(paths=["display_name"])
    return stub.UpdateProject(lab.UpdateProjectRequest(project=changed, update_mask=mask))


RESOURCES = [
    Resource(
        "dataset",
        "ingestion",
        lambda channel, _: ing_grpc.IngestionServiceStub(channel),
        missing="datasets/flowerz",
        neighbour="flowers",
        reason="DATASET_NOT_FOUND",
        create=_create_dataset,
        get=lambda stub, name: stub.GetDataset(ing.GetDatasetRequest(name=name)),
        list=_list_datasets,
        update=_update_dataset,
    ),
    Resource(
        "experiment",
        "registry",
        lambda channel, _: reg_grpc.RegistryServiceStub(channel),
        missing="experiments/flowerz",
        neighbour="flowers",
        reason="EXPERIMENT_NOT_FOUND",
        create=_create_experiment,
        get=lambda stub, name: stub.GetExperiment(reg.GetExperimentRequest(name=name)),
        list=_list_experiments,
    ),
    Resource(
        "model",
        "registry",
        lambda channel, _: reg_grpc.RegistryServiceStub(channel),
        missing="models/flowerz",
        neighbour="flowers",
        reason="MODEL_NOT_FOUND",
        create=_create_model,
        get=lambda stub, name: stub.GetModel(reg.GetModelRequest(name=name)),
        list=_list_models,
        update=_update_model,
    ),
    Resource(
        "branch",
        "ingestion",
        InDataset,
        missing="datasets/battery/branches/flowerz",
        neighbour="flowers",
        reason="BRANCH_NOT_FOUND",
        create=_create_branch,
        get=lambda stub, name: stub.rpc.GetBranch(ing.GetBranchRequest(name=name)),
        list=_list_branches,
        update=_update_branch,
    ),
    Resource(
        "run",
        "registry",
        lambda channel, _: reg_grpc.RegistryServiceStub(channel),
        missing="experiments/battery/runs/flowerz",
        neighbour="flowers",
        reason="RUN_NOT_FOUND",
        create=_create_run,
        get=lambda stub, name: stub.GetRun(reg.GetRunRequest(name=name)),
        list=_list_runs,
    ),
    Resource(
        "training job",
        "training_api",
        WithCode,
        missing="trainingJobs/0123456789abcdef0123456789abcdef",
        neighbour="",
        reason="TRAINING_JOB_NOT_FOUND",
        create=_create_job,
        get=lambda stub, name: stub.rpc.GetTrainingJob(trn.GetTrainingJobRequest(name=name)),
        list=_list_jobs,
        named=False,
    ),
    Resource(
        "scoring job",
        "training_api",
        WithVersion,
        missing="scoringJobs/0123456789abcdef0123456789abcdef",
        neighbour="",
        reason="SCORING_JOB_NOT_FOUND",
        create=_create_scoring_job,
        get=lambda stub, name: stub.rpc.GetScoringJob(trn.GetScoringJobRequest(name=name)),
        list=_list_scoring_jobs,
        named=False,
    ),
    Resource(
        "endpoint",
        "rollout_api",
        lambda channel, _: rol_grpc.RolloutServiceStub(channel),
        missing="endpoints/flowerz",
        neighbour="flowers",
        reason="ENDPOINT_NOT_FOUND",
        create=_create_endpoint,
        get=lambda stub, name: stub.GetEndpoint(rol.GetEndpointRequest(name=name)),
        list=_list_endpoints,
        update=_update_endpoint,
    ),
    Resource(
        "labelling project",
        "labeling",
        _labeling,
        missing="labelingProjects/flowerz",
        neighbour="flowers",
        reason="PROJECT_NOT_FOUND",
        create=_create_project,
        get=lambda stub, name: stub.GetProject(lab.GetProjectRequest(name=name)),
        list=_list_projects,
        update=_update_project,
        denied="viewer",
    ),
    Resource(
        kind="pipeline run",
        service="pipelines_api",
        stub=OfPipeline,
        missing=f"pipelines/battery/runs/{'0' * 32}",
        neighbour="",
        reason="PIPELINE_RUN_NOT_FOUND",
        create=_create_pipeline_run,
        get=lambda stub, name: stub.rpc.GetPipelineRun(pip.GetPipelineRunRequest(name=name)),
        list=_list_pipeline_runs,
        named=False,
    ),
]
