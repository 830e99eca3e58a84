"""Fixtures: the use cases on real PostgreSQL and S3, with steps in real processes."""

import io
import tarfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from slipway_pipelines.domain.runs import Run, StepRun, Trigger
from slipway_pipelines.store import Steps
from slipway_pipelines.usecases.attempts import Attempts, Bench
from slipway_pipelines.usecases.definitions import Library
from slipway_pipelines.usecases.lineage import Lineage
from slipway_pipelines.usecases.runs import RunBook
from slipway_pipelines.usecases.sweeping import Sweep
from slipway_runtime.db import Database, migrate
from slipway_runtime.objects import ObjectStore

IMPORTS = "from slipway.pipeline import Context, Skipped, pipeline, sensor, step\n\n"


def packed(files: dict[str, str]) -> bytes:
    """Return a tar.gz of the files."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return data.getvalue()


def source(text: str) -> str:
    """Return the text of a pipeline's file, with its imports."""
    return IMPORTS + textwrap.dedent(text)


@pytest.fixture
def pipeline_source() -> Callable[[str], str]:
    return source


class House:
    """The use cases over real stores; `sent` holds what was enqueued and not yet run."""

    def __init__(self, database: Database, objects: ObjectStore, folder: Path) -> None:
        self.database = database
        self.sent: list[str] = []
        self.folder = folder
        self.objects = objects
        self.library = Library(database=database, objects=objects)
        self.runs = RunBook(
            database=database, enqueue=lambda _, id: self.sent.append(id), watch_interval_s=0.05
        )
        self.lineage = Lineage(database=database)
        self.sweep = Sweep(database=database, enqueue=self._enqueue, resend_s=0.0, grace_s=60.0)
        self.worker = self.another_worker()

    def another_worker(self, lease_s: float = 10.0) -> Attempts:
        """Return a worker with leases of that length."""
        bench = Bench(
            database=self.database,
            objects=self.objects,
            work_dir=self.folder,
            environment=lambda: {"SLIPWAY_GRPC": "", "SLIPWAY_TOKEN": ""},
            host="host-a",
            lease_s=lease_s,
        )
        return Attempts(bench=bench, enqueue=self._enqueue)

    def push(self, text: str, entry_point: str = "flow.py:flow", **files: str) -> Any:
        """Upload a pipeline."""
        data = packed({"flow.py": source(text), **files})
        return self.library.upload(len(data), entry_point, "", b"", iter([data]))

    def start(self, given: dict[str, Any] | None = None, pipeline: str = "flow", **options: Any) -> Run:
        """Start a run."""
        told = {"trigger": Trigger.MANUAL, "trigger_source": "", "request_id": "", "content": b""} | options
        return self.runs.create(f"pipelines/{pipeline}", given or {}, **told)

    def work(self, run: Run | None = None) -> Run | None:
        """Run what was sent, and sweep, until the run has ended (or nothing is left to do)."""
        stop_at = time.monotonic() + 180
        while time.monotonic() < stop_at:
            while self.sent:
                self.worker.run(self.sent.pop(0))
            if run is not None:
                run = self.runs.get(run.name)
                if run.state.ended:
                    return run
            self.sweep.run()
            if run is None and not self.sent:
                return None
            time.sleep(0 if self.sent else 0.01)
        raise AssertionError(f"the run does not end: {self.steps(run)}")  # type: ignore[arg-type]

    def ran(self, text: str, given: dict[str, Any] | None = None) -> Run:
        """Upload a pipeline, start a run and work until it ends."""
        self.push(text)
        ended = self.work(self.start(given))
        assert ended is not None
        return ended

    def steps(self, run: Run) -> dict[str, StepRun]:
        """Return a run's rows by their names in the run."""
        page, _ = self.runs.steps(run.name, 1000, "")
        return {step.item: step for step in page}

    def change(self, what: str) -> None:
        """Change the rows of steps, as `SET` says."""
        with self.database.transaction() as connection:
            connection.execute(sa.text(f"UPDATE steps SET {what}"))

    def attempts(self, run: Run) -> list[tuple[str, int, int, str]]:
        """Return every logged attempt of a run."""
        with self.database.transaction() as connection:
            return list(Steps(connection).attempts(run.id))

    def _enqueue(self, _: str, id: str, __: str) -> None:
        self.sent.append(id)


@pytest.fixture
def house(database_url: str, s3: Any, tmp_path: Path) -> Iterator[House]:
    migrate(database_url, "slipway_pipelines")
    database = Database(database_url)
    settings = SimpleNamespace(
        s3_endpoint=s3.endpoint,
        s3_public_endpoint="",
        s3_access_key=s3.access_key,
        s3_secret_key=s3.secret_key,
        s3_bucket=s3.fresh_bucket(),
        s3_secure=False,
    )
    yield House(database, ObjectStore.connect(settings), tmp_path)  # type: ignore[arg-type]
    database.close()
