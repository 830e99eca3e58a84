"""A labeling service beside a data set of texts, and people who call it."""

import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from running import Keys, Service
from slipway.ingestion.v1 import ingestion_pb2 as ing
from slipway.ingestion.v1 import ingestion_pb2_grpc as ing_grpc
from slipway.labeling.v1 import labeling_pb2 as pb
from slipway.labeling.v1 import labeling_pb2_grpc
from slipway_runtime.db import Database
from slipway_runtime.rpc import from_rpc_error
from sqlalchemy import text

sys.path.insert(0, str(Path(__file__).parent))

from desk import Desk

EXAMPLES = 40


@dataclass
class House:
    """The service, and stubs by who calls."""

    service: Service
    keys: Keys
    stack: ExitStack
    commit: str

    def as_(self, name: str, *roles: str) -> Any:
        """Return a stub as a user: an annotator unless roles are named."""
        token = self.keys.user(name, *(roles or ("annotator",)))
        return labeling_pb2_grpc.LabelingServiceStub(self.stack.enter_context(self.service.channel(token)))

    def project(self, *labels: str, tasks: bool = True, **fields: Any) -> str:
        """Make a project of the data set, with a task per example; return its name."""
        multiple = fields.pop("multiple", False)
        choice = pb.Classification(labels=labels or ("rose", "tulip", "lily"), multiple=multiple)
        project = pb.Project(
            dataset=self.commit.partition("/commits/")[0],
            schema=pb.LabelSchema(classification=choice),
            **fields,
        )
        engineer = self.as_("eva", "engineer")
        request = pb.CreateProjectRequest(project_id=f"p-{uuid.uuid4().hex[:12]}", project=project)
        name = engineer.CreateProject(request).name
        if tasks:
            engineer.CreateTasks(pb.CreateTasksRequest(parent=name))
        return str(name)

    def claimed(self, stub: Any, project: str, count: int = 1) -> Any:
        """Return the first assignment that a claim gives."""
        return stub.ClaimTasks(pb.ClaimTasksRequest(parent=project, count=count)).assignments[0]

    def later(self, assignment: str, seconds: int) -> None:
        """Let a lease be older by so many seconds."""
        task, _, number = assignment.partition("/tasks/")[2].split("/")
        database = Database(self.service.settings["database_url"], pool_size=1)
        with database.transaction() as connection:
            statement = (
                "UPDATE assignments SET lease_time = lease_time - :by WHERE task = :task AND number = :number"
            )
            values = {"by": timedelta(seconds=seconds), "task": int(task), "number": int(number)}
            assert connection.execute(text(statement), values).rowcount == 1
        database.close()

    def submit(self, stub: Any, assignment: str, *labels: str, **fields: Any) -> Any:
        """Answer with labels."""
        answer = pb.Answer(choice=pb.Choice(labels=labels))
        return stub.SubmitAnnotation(
            pb.SubmitAnnotationRequest(name=assignment, answer=answer, lead_ms=7, **fields)
        )


@pytest.fixture(scope="session")
def texts_commit(keys: Keys, ingestion: Service) -> str:
    """Return a commit of forty texts, `t00` to `t39`, in the data set `labeled`."""
    with ingestion.channel(keys.user()) as opened:
        stub = ing_grpc.IngestionServiceStub(opened)
        stub.CreateDataset(ing.CreateDatasetRequest(dataset_id="labeled"))
        parts = [ing.UploadExamplesRequest(header=ing.UploadHeader(parent="datasets/labeled"))]
        for number in range(EXAMPLES):
            item = ing.UploadItem(key=f"t{number:02d}", data=f"text {number}".encode())
            parts.append(ing.UploadExamplesRequest(item=item))
        upload = stub.UploadExamples(iter(parts))
        request = ing.CreateCommitRequest(parent="datasets/labeled", uploads=[upload.name], message="forty")
        return str(stub.CreateCommit(request).name)


@pytest.fixture
def house(labeling: Service, keys: Keys, texts_commit: str) -> Iterator[House]:
    with ExitStack() as stack:
        yield House(labeling, keys, stack, texts_commit)


@pytest.fixture
def refused() -> Callable[[Callable[[], Any]], Any]:
    """Return a function that gives the error with which a call was answered."""

    def caught(call: Callable[[], Any]) -> Any:
        with pytest.raises(grpc.RpcError) as error:
            call()
        return from_rpc_error(error.value)

    return caught


@pytest.fixture(scope="module")
def desk(keys: Keys, ingestion: Service, labeling: Service) -> Iterator[Desk]:
    """Return stubs and steps over the running services, for snapshots, files and lineage."""
    opened = Desk(keys, ingestion, labeling)
    yield opened
    opened.close()
