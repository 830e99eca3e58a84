"""The pipelines service as its callers see it, with workers that a test may kill or stall."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from running import Keys, Service
from slipway.pipelines.v1 import pipelines_pb2_grpc


@pytest.fixture(scope="module")
def pipelines_settings(
    keys: Keys, postgres: Any, valkey_url: str, objects: dict[str, str]
) -> dict[str, object]:
    """Return what server and workers of this module share."""
    return {
        "database_url": postgres.fresh_database(),
        "broker_url": valkey_url,
        "token_file": keys.service_file("pipelines"),
        "lease_s": 30.0,
        "sweep_interval_s": 0.1,
        "resend_s": 1.0,
        "worker_threads": 2,
        **objects,
    }


@pytest.fixture(scope="module")
def pipelines(keys: Keys, pipelines_settings: dict[str, object]) -> Iterator[Service]:
    """Return the running API server."""
    service = Service("slipway_pipelines.main", keys, **pipelines_settings).migrate().start()
    yield service
    service.stop()


@pytest.fixture
def start_worker(
    keys: Keys, pipelines: Service, pipelines_settings: dict[str, object], tmp_path: Path
) -> Iterator[Callable[..., Service]]:
    """Return a function that starts a worker; those still alive at the end are killed."""
    started: list[Service] = []

    def start(module: str = "slipway_pipelines.main", **changes: object) -> Service:
        own = {"work_dir": tmp_path / f"work-{len(started)}"}
        service = Service(module, keys, "worker", **{**pipelines_settings, **own, **changes})
        started.append(service.start())
        return service

    yield start
    for service in started:
        service.kill()


@pytest.fixture
def stub(keys: Keys, pipelines: Service) -> Iterator[Any]:
    with pipelines.channel(keys.user()) as opened:
        yield pipelines_pb2_grpc.PipelinesServiceStub(opened)
