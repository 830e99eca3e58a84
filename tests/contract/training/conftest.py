"""The training service as its callers see it, beside a real ingestion and a real registry."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[3] / "services/training-worker/tests"))

from half_images import commit_of, items
from running import Keys, Service
from slipway.ingestion.v1 import ingestion_pb2 as ing
from slipway.ingestion.v1 import ingestion_pb2_grpc as ing_grpc
from slipway.training.v1 import training_pb2_grpc


@pytest.fixture(scope="session")
def commit(keys: Keys, ingestion: Service) -> str:
    """Return a commit of small grey images: a bright left or a bright right half."""
    with ingestion.channel(keys.user()) as opened:
        stub = ing_grpc.IngestionServiceStub(opened)
        stub.CreateDataset(ing.CreateDatasetRequest(dataset_id="halves"))
        return commit_of(stub, "datasets/halves", items(150))


@pytest.fixture(scope="module")
def training_settings(
    keys: Keys,
    postgres: Any,
    valkey_url: str,
    objects: dict[str, str],
    ingestion: Service,
    registry: Service,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, object]:
    """Return what server and workers of this module share."""
    return {
        "database_url": postgres.fresh_database(),
        "broker_url": valkey_url,
        "ingestion": ingestion.address,
        "registry": registry.address,
        "token_file": keys.service_file("training-worker"),
        "work_dir": str(tmp_path_factory.mktemp("work")),
        "lease_s": 2.0,
        "sweep_interval_s": 0.5,
        "resend_s": 1.0,
        "checkpoint_s": 0.05,
        "worker_threads": 2,
        "score_part_size": 40,
        **objects,
    }


@pytest.fixture(scope="module")
def training(keys: Keys, training_settings: dict[str, object]) -> Iterator[Service]:
    """Return the running API server."""
    service = Service("slipway_training.main", keys, **training_settings).migrate().start()
    yield service
    service.stop()


@pytest.fixture
def start_worker(
    keys: Keys, training: Service, training_settings: dict[str, object]
) -> Iterator[Callable[..., Service]]:
    """Return a function that starts a worker; those still alive at the end are killed."""
    started: list[Service] = []

    def start(module: str = "slipway_training.main", **changes: object) -> Service:
        service = Service(module, keys, "worker", **{**training_settings, **changes})
        started.append(service.start())
        return service

    yield start
    for service in started:
        service.kill()


@pytest.fixture
def stub(keys: Keys, training: Service) -> Iterator[Any]:
    with training.channel(keys.user()) as opened:
        yield training_pb2_grpc.TrainingServiceStub(opened)


@pytest.fixture(scope="session")
def task_file() -> str:
    """Return the source of a small task."""
    return (Path(__file__).parent / "halves.py").read_text()
