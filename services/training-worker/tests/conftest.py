"""Fixtures: a bench on real PostgreSQL and S3, with small servers for ingestion and registry."""

import io
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from slipway_runtime.db import Database, migrate
from slipway_runtime.objects import ObjectStore
from slipway_runtime.rpc import Channels

sys.path.insert(0, str(Path(__file__).parent))

import neighbours
from halves_task import TASK
from slipway_training.clients import Ingestion, Registry
from slipway_training.domain import Job, JobSpec
from slipway_training.engine.cache import FolderCache
from slipway_training.usecases.attempts import Attempts
from slipway_training.usecases.bench import Bench
from slipway_training.usecases.jobs import Jobs
from slipway_training.usecases.scoring_attempts import ScoringAttempts
from slipway_training.usecases.scoring_jobs import ScoringJobs

PART_SIZE = 30  # of 120 examples


def packed(files: dict[str, str]) -> bytes:
    """Return a tar.gz of the files."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return data.getvalue()


@pytest.fixture
def pack() -> Callable[[dict[str, str]], bytes]:
    return packed


@pytest.fixture
def registry() -> neighbours.Registry:
    return neighbours.Registry()


@pytest.fixture
def ingestion() -> neighbours.Ingestion:
    return neighbours.Ingestion()


@pytest.fixture
def house(
    database_url: str, s3: Any, ingestion: neighbours.Ingestion, registry: neighbours.Registry, tmp_path: Path
) -> Iterator[Any]:
    """Return the use cases over real stores: `jobs`, `attempts`, `sent` (what was enqueued), `submit`."""
    migrate(database_url, "slipway_training")
    server, address = neighbours.serve(ingestion, registry)
    channels, database, sent = Channels(str), Database(database_url), []
    settings = SimpleNamespace(
        s3_endpoint=s3.endpoint,
        s3_public_endpoint="",
        s3_access_key=s3.access_key,
        s3_secret_key=s3.secret_key,
        s3_bucket=s3.fresh_bucket(),
        s3_secure=False,
    )
    bench = Bench(
        database=database,
        objects=ObjectStore.connect(settings),  # type: ignore[arg-type]
        ingestion=Ingestion(channels, address),
        registry=Registry(channels, address),
        work_dir=tmp_path,
        checkouts=FolderCache(tmp_path / "checkouts", 1 << 30),
        bundles=FolderCache(tmp_path / "bundles", 1 << 30),
        threads=1,
        checkpoint_s=0.05,
        host="host-a",
    )

    def worker(lease_s: float = 10.0, resend_s: float = 0.0) -> Attempts:
        return Attempts(
            bench=bench, enqueue=lambda _, id, __: sent.append(id), lease_s=lease_s, resend_s=resend_s
        )

    queued: dict[str, Any] = {
        "database": database,
        "enqueue": lambda _, id: sent.append(id),
        "watch_interval_s": 0.05,
    }
    jobs = Jobs(objects=bench.objects, ingestion=bench.ingestion, **queued)
    scorings = ScoringJobs(
        objects=bench.objects,
        ingestion=bench.ingestion,
        registry=bench.registry,
        part_size=PART_SIZE,
        **queued,
    )

    def scorer(lease_s: float = 10.0, resend_s: float = 0.0) -> ScoringAttempts:
        return ScoringAttempts(
            bench=bench, enqueue=lambda _, id, __: sent.append(id), lease_s=lease_s, resend_s=resend_s
        )

    def submit(request_id: str = "", **changes: Any) -> Job:
        archive = packed({"task.py": changes.pop("task", TASK)})
        code = jobs.upload_code(len(archive), iter([archive]))
        spec: dict[str, Any] = {
            "display_name": "a job",
            "experiment": "experiments/shapes",
            "model": "models/shapes",
            "dataset_commit": neighbours.COMMIT,
            "task_code": code.name,
            "entry_point": "task.py:Halves",
            "hyperparameters": {},
            "seed": 1,
            "max_attempts": 0,
        }
        spec |= changes
        return jobs.create(JobSpec(**spec), request_id, repr(sorted(map(str, spec.items()))).encode())

    yield SimpleNamespace(
        jobs=jobs,
        worker=worker,
        attempts=worker(),
        scorings=scorings,
        scorer=scorer,
        sent=sent,
        submit=submit,
        bench=bench,
        database=database,
    )
    channels.close()
    database.close()
    server.stop(None)
