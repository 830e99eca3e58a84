"""One erasure reaches runs, versions and labelling tasks, whoever is away or killed meanwhile."""

import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from bundles import files, upload, with_manifest
from running import Keys, Service
from slipway.ingestion.v1 import ingestion_pb2 as ing
from slipway.ingestion.v1 import ingestion_pb2_grpc as ing_grpc
from slipway.labeling.v1 import labeling_pb2 as lab
from slipway.labeling.v1 import labeling_pb2_grpc as lab_grpc
from slipway.registry.v1 import registry_pb2 as reg
from slipway.registry.v1 import registry_pb2_grpc as reg_grpc
from slipway_runtime.rpc import from_rpc_error

WITHIN_S = 120
LABELS = ("daisy", "rose", "tulip")


@dataclass
class Town:
    """Three services of this module's own, and stubs of an engineer and an annotator."""

    registry_service: Service
    labeling_service: Service
    ingestion: Any
    registry: Any
    labeling: Any
    annotator: Any

    def dataset(self, count: int) -> tuple[str, str]:
        """Make a data set of texts `k0.txt` and on; return its name and its commit's."""
        name = f"datasets/flowers-{uuid.uuid4().hex[:8]}"
        self.ingestion.CreateDataset(ing.CreateDatasetRequest(dataset_id=name.partition("/")[2]))
        parts = [ing.UploadExamplesRequest(header=ing.UploadHeader(parent=name))]
        for number in range(count):
            data = f"{name} {number}".encode()
            parts.append(ing.UploadExamplesRequest(item=ing.UploadItem(key=f"k{number}.txt", data=data)))
        made = self.ingestion.UploadExamples(iter(parts))
        request = ing.CreateCommitRequest(parent=name, uploads=[made.name], message="all")
        return name, str(self.ingestion.CreateCommit(request).name)

    def run(self, commit: str) -> str:
        """Make a run on a commit; return its name."""
        id = f"e-{uuid.uuid4().hex[:8]}"
        self.registry.CreateExperiment(reg.CreateExperimentRequest(experiment_id=id))
        run = reg.Run(dataset_commit=commit, code_digest="taskCode/" + "0" * 64)
        return str(self.registry.CreateRun(reg.CreateRunRequest(parent=f"experiments/{id}", run=run)).name)

    def version(self, run: str) -> str:
        """Make a version of a run; return its name."""
        id = f"m-{uuid.uuid4().hex[:8]}"
        self.registry.CreateModel(reg.CreateModelRequest(model_id=id))
        bundle = upload(self.registry, *with_manifest(files()))
        version = reg.ModelVersion(run=run, bundle=bundle.name)
        request = reg.CreateModelVersionRequest(parent=f"models/{id}", model_version=version, attempt=1)
        return str(self.registry.CreateModelVersion(request).name)

    def project(self, dataset: str, **fields: Any) -> str:
        """Make a project with a task per example; return its name."""
        schema = lab.LabelSchema(classification=lab.Classification(labels=LABELS))
        project = lab.Project(dataset=dataset, schema=schema, **fields)
        request = lab.CreateProjectRequest(project_id=f"p-{uuid.uuid4().hex[:8]}", project=project)
        name = str(self.labeling.CreateProject(request).name)
        self.labeling.CreateTasks(lab.CreateTasksRequest(parent=name))
        return name

    def erase(self, dataset: str, key: str) -> str:
        """Erase an example; return the erasure's name when it has ended."""
        request = ing.CreateErasureRequest(parent=dataset, key=key, reason="asked for by letter 17")
        name = str(self.ingestion.CreateErasure(request).name)
        until(lambda: self.ingestion.GetErasure(ing.GetErasureRequest(name=name)).number)
        return name

    def erased_tasks(self, project: str) -> int:
        """Return how many of a project's tasks are closed as erased."""
        counts = self.labeling.GetProject(lab.GetProjectRequest(name=project)).task_counts
        return int(counts["ERASED"]) if "ERASED" in counts else 0


@pytest.fixture(scope="module")
def town(keys: Keys, postgres: Any, objects: dict[str, str], ingestion: Service) -> Iterator[Town]:
    common = {"ingestion": ingestion.address, "erasure_interval_s": 0.2}
    registry = Service(
        "slipway_registry.main",
        keys,
        database_url=postgres.fresh_database(),
        token_file=keys.service_file("registry"),
        **common,
        **objects,
    )
    labeling = Service(
        "slipway_labeling.main",
        keys,
        database_url=postgres.fresh_database(),
        token_file=keys.service_file("labeling"),
        snapshot_interval_s=0.2,
        **common,
    )
    with ExitStack() as stack:
        for service in (registry, labeling):
            service.migrate().start()
            stack.callback(service.stop)

        def opened(service: Service, *roles: str) -> Any:
            return stack.enter_context(service.channel(keys.user("eva", *(roles or ("engineer",)))))

        yield Town(
            registry,
            labeling,
            ing_grpc.IngestionServiceStub(opened(ingestion)),
            reg_grpc.RegistryServiceStub(opened(registry)),
            lab_grpc.LabelingServiceStub(opened(labeling)),
            lab_grpc.LabelingServiceStub(opened(labeling, "annotator")),
        )


def until(true: Callable[[], Any]) -> None:
    """Wait until something is true; a service that is away meanwhile is asked again."""
    stop_at = time.monotonic() + WITHIN_S
    while time.monotonic() < stop_at:
        try:
            if true():
                return
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
        time.sleep(0.05)
    raise AssertionError("it did not come true in time")


def test_runs_and_versions_of_a_commit_that_had_the_example_say_so_and_others_do_not(town: Town) -> None:
    dataset, commit = town.dataset(5)
    _, other = town.dataset(5)
    run, unmarked = town.run(commit), town.run(other)
    version = town.version(run)

    erasure = town.erase(dataset, "k3.txt")

    until(lambda: town.registry.GetRun(reg.GetRunRequest(name=run)).contains_erased)
    assert list(town.registry.GetRun(reg.GetRunRequest(name=run)).contains_erased) == [erasure]
    made = town.registry.GetModelVersion(reg.GetModelVersionRequest(name=version))
    assert list(made.contains_erased) == [erasure]
    assert not town.registry.GetRun(reg.GetRunRequest(name=unmarked)).contains_erased
    late = town.registry.GetRun(reg.GetRunRequest(name=town.run(commit)))
    assert list(late.contains_erased) == [erasure]


def test_a_task_of_an_erased_example_is_closed_and_in_no_export_or_snapshot(town: Town) -> None:
    dataset, _ = town.dataset(6)
    project = town.project(dataset)
    given = town.annotator.ClaimTasks(lab.ClaimTasksRequest(parent=project, count=6)).assignments
    held, *others = given
    answer = lab.Answer(choice=lab.Choice(labels=["rose"]))
    for one in others[:3]:
        town.annotator.SubmitAnnotation(lab.SubmitAnnotationRequest(name=one.name, answer=answer))
    erased = {held.key, others[0].key}

    for key in sorted(erased):
        town.erase(dataset, key)
    until(lambda: town.erased_tasks(project) == 2)

    with pytest.raises(grpc.RpcError) as caught:
        town.annotator.SubmitAnnotation(lab.SubmitAnnotationRequest(name=held.name, answer=answer))
    assert from_rpc_error(caught.value).reason == "LEASE_EXPIRED"
    keys = {task.key for task in town.labeling.ListTasks(lab.ListTasksRequest(parent=project)).tasks}
    assert not keys & erased
    exported = b"".join(
        part.chunk
        for part in town.labeling.ExportAnnotations(
            lab.ExportAnnotationsRequest(parent=project, format=lab.FileFormat.JSONL)
        )
    ).decode()
    assert not any(key in exported for key in erased)
    assert exported.count("k") >= 4
    wanted = lab.CreateSnapshotRequest(parent=project, snapshot=lab.Snapshot(message="labels"))
    snapshot = town.labeling.CreateSnapshot(wanted)
    assert snapshot.label_count == 2
    town.labeling.CreateTasks(lab.CreateTasksRequest(parent=project))
    assert town.erased_tasks(project) == 2
    again = town.annotator.ClaimTasks(lab.ClaimTasksRequest(parent=project, count=6)).assignments
    assert not {one.key for one in again} & {*erased, f"erased/{held.name.split('/')[3]}"}


def test_a_file_with_an_erased_example_is_refused_by_line(town: Town) -> None:
    dataset, _ = town.dataset(3)
    project = town.project(dataset)
    request = lab.ExportAnnotationsRequest(parent=project, format=lab.FileFormat.JSONL)
    exported = b"".join(part.chunk for part in town.labeling.ExportAnnotations(request))
    town.erase(dataset, "k1.txt")
    until(lambda: town.erased_tasks(project) == 1)

    with pytest.raises(grpc.RpcError) as caught:
        header = lab.ImportHeader(parent=project, format=lab.FileFormat.JSONL)
        parts = [
            lab.ImportAnnotationsRequest(header=header),
            lab.ImportAnnotationsRequest(chunk=exported),
        ]
        town.labeling.ImportAnnotations(iter(parts))

    refused = from_rpc_error(caught.value)
    assert refused.reason == "FILE_REFUSED"
    assert "erased" in refused.message


@pytest.mark.timeout(900)
def test_erasures_are_taken_in_once_each_by_services_that_are_killed_all_the_while(town: Town) -> None:
    draw, count = random.Random(), 8
    dataset, commit = town.dataset(count + 4)
    run, project = town.run(commit), town.project(dataset)
    names = []

    for number in range(count):
        names.append(town.erase(dataset, f"k{number}.txt"))
        for service in (town.registry_service, town.labeling_service):
            time.sleep(draw.uniform(0, 0.3))
            if draw.random() < 0.5:
                service.kill()
                service.start()

    until(lambda: town.erased_tasks(project) == count)
    until(lambda: len(town.registry.GetRun(reg.GetRunRequest(name=run)).contains_erased) == count)
    marked = town.registry.GetRun(reg.GetRunRequest(name=run)).contains_erased
    assert sorted(marked) == sorted(names)
    left = town.labeling.GetProject(lab.GetProjectRequest(name=project)).task_counts
    assert (left["OPEN"], left["ERASED"]) == (4, count)
