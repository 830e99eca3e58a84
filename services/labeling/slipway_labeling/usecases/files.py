"""Files of tasks and annotations: exported as they are at one moment, imported whole or not at all."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum

from slipway_runtime.db import Database, Repeat
from slipway_runtime.errors import Unavailable

from slipway_labeling.clients import Ingestion
from slipway_labeling.domain.names import project_of
from slipway_labeling.domain.projects import Project
from slipway_labeling.domain.tasks import Example
from slipway_labeling.engine.files import coco, jsonl, label_studio
from slipway_labeling.engine.files.records import (
    MAX_FILE_BYTES,
    Refusals,
    Schema,
    TaskRecord,
    check,
    in_order,
    refused,
)
from slipway_labeling.store.erasures import ErasureStore
from slipway_labeling.store.files import CollisionError, FileStore
from slipway_labeling.usecases.access import MANAGE, allow
from slipway_labeling.usecases.collector import UNCOLLECTED
from slipway_labeling.usecases.erasures import refuse_erased
from slipway_labeling.usecases.imports import Import, Imported
from slipway_labeling.usecases.projects import existing_project

CHUNK_BYTES = 512 << 10
MAX_CHUNK_BYTES = 1 << 20
MAX_TRIES = 5


class FileFormat(StrEnum):
    """What a file is written in."""

    JSONL = "JSONL"
    COCO = "COCO"
    LABEL_STUDIO = "LABEL_STUDIO"


_ENCODE: dict[FileFormat, Callable[[Iterable[TaskRecord], Schema], Iterator[bytes]]] = {
    FileFormat.JSONL: jsonl.encode,
    FileFormat.COCO: coco.encode,
    FileFormat.LABEL_STUDIO: label_studio.encode,
}
_DECODE: dict[FileFormat, Callable[[bytes], list[TaskRecord]]] = {
    FileFormat.JSONL: jsonl.decode,
    FileFormat.COCO: coco.decode,
    FileFormat.LABEL_STUDIO: label_studio.decode,
}


class Files:
    """The verbs over files.

    Args:
        database: The service's own.
        ingestion: Knows the examples that a file names by key alone.
    """

    def __init__(self, *, database: Database, ingestion: Ingestion) -> None:
        self._database = database
        self._ingestion = ingestion

    def export(self, parent: str, format: FileFormat) -> Iterator[bytes]:
        """Yield a project's file in pieces, as the project is at one moment."""
        allow(MANAGE)
        with self._database.transaction() as connection:
            project = existing_project(connection, project_of(parent))
        with self._database.transaction() as connection:
            tasks = FileStore(connection).read(project.id)
            yield from _pieces(_ENCODE[format](tasks, _schema(project)))

    def import_(self, parent: str, format: FileFormat, request_id: str, chunks: Iterable[bytes]) -> Imported:
        """Take a file whole, or nothing of it.

        A task is the same by its key, and stays as it is; an annotation by its task, its annotator and its
        revision. What is there already is counted and left.

        Raises:
            InvalidArgument: The file is refused; the violations name line or index (FILE_REFUSED).
        """
        caller = allow(MANAGE)
        with self._database.transaction() as connection:
            project = existing_project(connection, project_of(parent))
        data = _received(chunks)
        importer = f"annotators/{caller.subject.partition('/')[2]}"
        with UNCOLLECTED:
            return self._import(parent, format, request_id, data, project, importer)

    def _import(
        self, parent: str, format: FileFormat, request_id: str, data: bytes, project: Project, importer: str
    ) -> Imported:
        tasks = self._resolved(project, _checked(data, format, project, importer))
        content = f"{parent}\0{format}\0{hashlib.sha256(data).hexdigest()}".encode()
        repeat = Repeat("ImportAnnotations", request_id, content)
        for _ in range(MAX_TRIES):
            try:
                erasure = refuse_erased(self._database, self._ingestion, project, tasks)
                return self._write(project, tasks, repeat, erasure)
            except CollisionError:
                continue
        message = f"tasks of {parent} are being made by somebody else, too; try again"
        raise Unavailable("DATABASE_BUSY", message, retry_after_s=1)

    def _write(self, project: Project, tasks: Sequence[TaskRecord], repeat: Repeat, erasure: int) -> Imported:
        with self._database.transaction() as connection:
            if ErasureStore(connection).read_to(lock="SHARE") != erasure:
                raise CollisionError
            return repeat.once(connection, Imported, lambda: Import(connection, project).take(tasks))

    def _resolved(self, project: Project, tasks: list[TaskRecord]) -> list[TaskRecord]:
        """Give tasks that name no commit and blob those of the head of `main`."""
        bare = [task.key for task in tasks if not (task.dataset_commit and task.blob)]
        if not bare:
            return tasks
        with self._database.transaction() as connection:
            there = FileStore(connection).existing(project.id, bare)
        head = self._ingestion.head(project.spec.dataset, "main")
        keys = [key for key in bare if key not in there]
        examples = {one.key: one for one in self._ingestion.examples(head, keys=keys)} if keys else {}
        refusals = Refusals()
        found = []
        for task in tasks:
            example = examples.get(task.key)
            known = (task.dataset_commit and task.blob) or task.key in there
            if example is None and not known:
                where = f"{project.spec.dataset} has no example {task.key[:100]!r} on its branch main"
                refusals.add(task.where, f"{where}; import it there first, or leave the task out")
            found.append(task if known or example is None else _with(task, head, example))
        refusals.raise_any()
        return found


def _checked(data: bytes, format: FileFormat, project: Project, importer: str) -> list[TaskRecord]:
    """Return the tasks of a file, signed, checked, and with their answers in schema order."""
    tasks = [_signed(task, importer) for task in _DECODE[format](data)]
    schema = _schema(project)
    check(tasks, schema, project.spec.dataset)
    return [in_order(task, schema) for task in tasks] if schema.multiple else tasks


def _with(task: TaskRecord, commit: str, example: Example) -> TaskRecord:
    return task._replace(dataset_commit=commit, blob=example.blob, media_type=example.media_type)


def _schema(project: Project) -> Schema:
    return Schema(project.spec.schema.labels, project.spec.schema.multiple)


def _received(chunks: Iterable[bytes]) -> bytes:
    data = bytearray()
    for chunk in chunks:
        data += chunk
        if len(data) > MAX_FILE_BYTES:
            raise refused("file", f"has more than {MAX_FILE_BYTES >> 20} MiB; split it")
    return bytes(data)


def _pieces(parts: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the same bytes in pieces of about half a MiB."""
    while piece := _piece(parts):
        for start in range(0, len(piece), MAX_CHUNK_BYTES):
            yield piece[start : start + MAX_CHUNK_BYTES]


def _piece(parts: Iterator[bytes]) -> bytes:
    """Take half a MiB, and what the last part has beyond it."""
    waiting: list[bytes] = []
    size = 0
    with UNCOLLECTED:
        while size < CHUNK_BYTES and (part := next(parts, b"")):
            waiting.append(part)
            size += len(part)
    return b"".join(waiting)


def _signed(task: TaskRecord, importer: str) -> TaskRecord:
    """Let the importer stand for answers that nobody signed."""
    if "" not in [one.annotator for one in task.assignments]:
        return task
    signed = (one if one.annotator else one._replace(annotator=importer) for one in task.assignments)
    return task._replace(assignments=tuple(signed))
