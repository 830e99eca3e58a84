"""What callers may do: upload task code; submit, read, watch and cancel jobs."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from slipway_runtime import archive
from slipway_runtime.errors import InvalidArgument
from slipway_runtime.objects import ObjectStore

from slipway_training import domain
from slipway_training.clients import Ingestion
from slipway_training.domain import Job, JobSpec, TaskCode
from slipway_training.engine import declared
from slipway_training.store import Store
from slipway_training.usecases.leased_jobs import LeasedJobs


class Jobs(LeasedJobs[Job]):
    """The verbs over training jobs and task code.

    Args:
        objects: Where task code is kept.
        ingestion: Says whether a commit exists.
        queued: What all jobs need: `database`, `enqueue`, `watch_interval_s`.
    """

    rows = Store
    job = Job
    task = "run"
    noun = "TrainingJob"

    def __init__(self, *, objects: ObjectStore, ingestion: Ingestion, **queued: Any) -> None:
        super().__init__(**queued)
        self._objects = objects
        self._ingestion = ingestion

    def upload_code(self, size_bytes: int, chunks: Iterator[bytes]) -> TaskCode:
        """Keep a packed folder under the digest of its content.

        Raises:
            InvalidArgument: it is refused (TASK_CODE_REFUSED).
        """
        try:
            folder = archive.read_gzip(_received(size_bytes, chunks))
        except archive.ArchiveRefusedError as error:
            raise domain.code_refused(str(error)) from error
        packed = folder.pack()
        code = TaskCode(digest=folder.digest(), size_bytes=len(packed), files=tuple(sorted(folder.files)))
        self._objects.put_if_absent(code_key(code.name), packed)
        with self._database.transaction() as connection:
            return Store(connection).add_code(code)

    def code(self, name: str) -> TaskCode:
        """Return task code by name."""
        with self._database.transaction() as connection:
            return Store(connection).code(name)

    def create(self, asked: JobSpec, request_id: str, content: bytes) -> Job:
        """Queue a job: committed PENDING, then sent.

        Raises:
            InvalidArgument: a field, the entry point or a hyperparameter is refused.
            NotFound: the task code or the dataset commit is not there.
        """
        spec = domain.checked(asked)
        self.code(spec.task_code)
        self._require_hyperparameters(spec)
        spec = replace(spec, dataset_commit=self._ingestion.commit(spec.dataset_commit))
        return self._queue(request_id, content, spec=spec)

    def page(self, size: int, token: str, state: str, model: str) -> tuple[list[Job], str]:
        """Return a page of jobs, newest first, and the token of the next."""
        return self._page(size, token, state=state, model=model)

    def _require_hyperparameters(self, spec: JobSpec) -> None:
        folder = archive.read(self._objects.get(code_key(spec.task_code)))
        try:
            declared.resolved(folder, spec.entry_point, spec.hyperparameters)
        except archive.ArchiveRefusedError as error:
            raise domain.code_refused(str(error)) from error
        except declared.HyperparameterError as error:
            raise domain.hyperparameter_refused(error.field, str(error)) from error


def code_key(name: str) -> str:
    """Return the object key of task code."""
    return f"training/code/{name.removeprefix('taskCode/')}.tar"


def _received(size_bytes: int, chunks: Iterator[bytes]) -> bytes:
    if not 0 < size_bytes <= archive.MAX_ARCHIVE_BYTES:
        message = f"header.size_bytes is {size_bytes}; send 1 to {archive.MAX_ARCHIVE_BYTES} bytes"
        raise domain.code_refused(message)
    data = bytearray()
    for chunk in chunks:
        data += chunk
        if len(data) > size_bytes:
            raise domain.code_refused(f"more bytes came than header.size_bytes ({size_bytes}) says")
    if len(data) != size_bytes:
        description = f"says {size_bytes}, {len(data)} bytes came; send the archive whole"
        raise InvalidArgument.field("header.size_bytes", description, reason="TASK_CODE_REFUSED")
    return bytes(data)
