"""A data set, a project over it, and people who answer: what the labeling contract tests stand on."""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import grpc
import pytest
from running import Keys, Service
from slipway.ingestion.v1 import ingestion_pb2 as ing
from slipway.ingestion.v1 import ingestion_pb2_grpc as ing_grpc
from slipway.labeling.v1 import labeling_pb2 as pb
from slipway.labeling.v1 import labeling_pb2_grpc
from slipway_runtime.errors import SlipwayError
from slipway_runtime.rpc import from_rpc_error

LABELS = ("daisy", "rose", "tulip")
State = pb.Snapshot.State


class Desk:
    """Stubs by user, and the steps that tests share.

    Args:
        keys: Sign the users' tokens.
        ingestion: Running.
        labeling: Running.
    """

    def __init__(self, keys: Keys, ingestion: Service, labeling: Service) -> None:
        self._keys = keys
        self._labeling = labeling
        self._channels: list[grpc.Channel] = []
        self._stubs: dict[tuple[str, ...], Any] = {}
        opened = ingestion.channel(keys.user("eva"))
        self._channels.append(opened)
        self.ingestion: Any = ing_grpc.IngestionServiceStub(opened)

    def close(self) -> None:
        """Close every channel."""
        for channel in self._channels:
            channel.close()

    def stub(self, user: str = "eva", *roles: str) -> Any:
        """Return the labeling stub of a user; an engineer's unless roles are named."""
        key = (user, *roles)
        if key not in self._stubs:
            opened = self._labeling.channel(self._keys.user(user, *roles))
            self._channels.append(opened)
            self._stubs[key] = labeling_pb2_grpc.LabelingServiceStub(opened)
        return self._stubs[key]

    def dataset(self, count: int) -> str:
        """Make a data set of texts `k000.txt`, each of a group and with an attribute; return its name."""
        id = f"flowers-{uuid.uuid4().hex[:10]}"
        self.ingestion.CreateDataset(ing.CreateDatasetRequest(dataset_id=id))
        items = [
            ing.UploadItem(
                key=f"k{number:03d}.txt",
                data=f"{id} {number}".encode(),
                group=f"g{number // 2}",
                attributes={"light": "dim" if number % 2 else "bright"},
            )
            for number in range(count)
        ]
        self.put(f"datasets/{id}", items, "import")
        return f"datasets/{id}"

    def put(self, dataset: str, items: Sequence[Any], message: str, remove: Sequence[str] = ()) -> str:
        """Commit items to `main`; return the commit's name."""
        uploads = []
        if items:
            parts = [ing.UploadExamplesRequest(header=ing.UploadHeader(parent=dataset))]
            parts += [ing.UploadExamplesRequest(item=item) for item in items]
            uploads = [self.ingestion.UploadExamples(iter(parts)).name]
        request = ing.CreateCommitRequest(
            parent=dataset, uploads=uploads, remove_keys=remove, message=message
        )
        return str(self.ingestion.CreateCommit(request).name)

    def project(self, dataset: str, *, multiple: bool = False, **fields: Any) -> str:
        """Make a project over a data set; return its name."""
        schema = pb.LabelSchema(classification=pb.Classification(labels=LABELS, multiple=multiple))
        made = self.stub().CreateProject(
            pb.CreateProjectRequest(
                project_id=f"p-{uuid.uuid4().hex[:10]}",
                project=pb.Project(dataset=dataset, schema=schema, **fields),
            )
        )
        return str(made.name)

    def tasks(self, project: str, **fields: Any) -> None:
        """Make tasks of all examples of the head."""
        self.stub().CreateTasks(pb.CreateTasksRequest(parent=project, **fields))

    def answer(self, project: str, user: str, answers: Callable[[str], Sequence[str]]) -> list[pb.Annotation]:
        """Let a user answer every task that it gets, by key; return the annotations."""
        stub, made = self.stub(user, "annotator"), []
        while given := stub.ClaimTasks(pb.ClaimTasksRequest(parent=project, count=20)).assignments:
            for one in given:
                answer = pb.Answer(choice=pb.Choice(labels=answers(one.key)))
                request = pb.SubmitAnnotationRequest(name=one.name, answer=answer, lead_ms=1234)
                made.append(stub.SubmitAnnotation(request))
        return made

    def task_names(self, project: str) -> dict[str, str]:
        """Return the tasks' names by key."""
        page = self.stub().ListTasks(pb.ListTasksRequest(parent=project, page_size=1000))
        return {task.key: task.name for task in page.tasks}

    def snapshot(self, project: str, **fields: Any) -> pb.Snapshot:
        """Ask for a snapshot."""
        fields.setdefault("message", "labels of people")
        return self.stub().CreateSnapshot(
            pb.CreateSnapshotRequest(parent=project, snapshot=pb.Snapshot(**fields))
        )

    def ended(self, snapshot: pb.Snapshot, within_s: float = 180) -> pb.Snapshot:
        """Return the snapshot when it has ended; a service that is away meanwhile is asked again."""
        return self.until(
            snapshot, lambda found: found.state in (State.SUCCEEDED, State.FAILED), within_s=within_s
        )

    def until(
        self, snapshot: pb.Snapshot, true: Callable[[pb.Snapshot], bool], within_s: float = 180
    ) -> pb.Snapshot:
        """Return the snapshot as soon as something is true of it."""
        stop_at, found = time.monotonic() + within_s, snapshot
        while time.monotonic() < stop_at:
            try:
                found = self.stub().GetSnapshot(pb.GetSnapshotRequest(name=snapshot.name), timeout=20)
            except grpc.RpcError:
                time.sleep(0.05)
                continue
            if true(found):
                return found
            time.sleep(0.05)
        raise AssertionError(f"it did not come true in time: {found}")

    def head(self, dataset: str) -> str:
        """Return the commit that `main` is at."""
        return str(self.ingestion.GetBranch(ing.GetBranchRequest(name=f"{dataset}/branches/main")).commit)

    def rows(self, commit: str) -> dict[str, Any]:
        """Return a commit's rows by key."""
        request = ing.ReadExamplesRequest(commit=commit, rows_only=True)
        return {
            one.example.key: one.example
            for part in self.ingestion.ReadExamples(request)
            for one in part.examples
        }

    def history(self, dataset: str) -> list[Any]:
        """Return the commits of `main`, newest first."""
        return list(
            self.ingestion.ListCommits(ing.ListCommitsRequest(parent=dataset, page_size=1000)).commits
        )

    def children(self, name: str, size: int = 1000) -> list[str]:
        """Return what was made of a thing, over all pages."""
        return list(self._walk(self.stub().ListChildren, pb.ListChildrenRequest, name, size))

    def parents(self, name: str, size: int = 1000) -> list[str]:
        """Return what a thing was made of, over all pages."""
        return list(self._walk(self.stub().ListParents, pb.ListParentsRequest, name, size))

    def _walk(self, verb: Any, request: Any, name: str, size: int) -> Iterator[str]:
        token = ""
        while True:
            page = verb(request(name=name, page_size=size, page_token=token))
            assert len(page.names) <= size
            yield from page.names
            token = page.next_page_token
            if not token:
                return


def by_key(labels: Mapping[str, str]) -> Callable[[str], Sequence[str]]:
    """Return answers that a mapping gives, `daisy` for the rest."""
    return lambda key: [labels.get(key, "daisy")]


def refused(call: Callable[[], Any]) -> SlipwayError:
    """Return the error that a call ends with."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return from_rpc_error(caught.value)
