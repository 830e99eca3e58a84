"""Fixtures for contract tests: real services on real PostgreSQL, Valkey and S3, once per session."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent / "registry"))

from bundles import files, upload, with_manifest
from running import Keys, Service, free_port
from slipway.client.packing import pack_folder
from slipway.ingestion.v1 import ingestion_pb2 as ing
from slipway.ingestion.v1 import ingestion_pb2_grpc as ing_grpc
from slipway.pipelines.v1 import pipelines_pb2 as pip
from slipway.pipelines.v1 import pipelines_pb2_grpc as pip_grpc
from slipway.registry.v1 import registry_pb2 as reg
from slipway.registry.v1 import registry_pb2_grpc as reg_grpc

TASK = """
from slipway.task import Task

class Nothing(Task):
    pass
"""

PIPELINE = """
from slipway.pipeline import pipeline, step


@step
def only():
    pass


@pipeline()
def battery():
    only()
"""


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """Return the keys that all services of the session accept."""
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="session")
def objects(s3: object) -> dict[str, str]:
    """Return the S3 settings of a fresh bucket."""
    return s3.fresh_settings()  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def ingestion(keys: Keys, postgres: object, objects: dict[str, str]) -> Iterator[Service]:
    """Return a running ingestion service."""
    url = postgres.fresh_database()  # type: ignore[attr-defined]
    service = Service("slipway_ingestion.main", keys, database_url=url, **objects).migrate().start()
    yield service
    service.stop()


@pytest.fixture(scope="session")
def registry(keys: Keys, postgres: object, objects: dict[str, str]) -> Iterator[Service]:
    """Return a running registry."""
    url = postgres.fresh_database()  # type: ignore[attr-defined]
    service = Service("slipway_registry.main", keys, database_url=url, **objects).migrate().start()
    yield service
    service.stop()


@pytest.fixture(scope="session")
def training_api(
    keys: Keys,
    postgres: object,
    valkey_url: str,
    objects: dict[str, str],
    ingestion: Service,
    registry: Service,
) -> Iterator[Service]:
    """Return the API server of the training-worker; no worker takes its jobs."""
    service = Service(
        "slipway_training.main",
        keys,
        database_url=postgres.fresh_database(),  # type: ignore[attr-defined]
        broker_url=valkey_url,
        ingestion=ingestion.address,
        registry=registry.address,
        token_file=keys.service_file("training-worker"),
        **objects,
    )
    yield service.migrate().start()
    service.stop()


@pytest.fixture(scope="session")
def rollout_api(keys: Keys, postgres: object, registry: Service) -> Iterator[Service]:
    """Return the API server of rollout, whose registry has the model `battery`; no cluster is near."""
    with registry.channel(keys.user()) as opened:
        reg_grpc.RegistryServiceStub(opened).CreateModel(reg.CreateModelRequest(model_id="battery"))
    service = Service(
        "slipway_rollout.main",
        keys,
        database_url=postgres.fresh_database(),  # type: ignore[attr-defined]
        registry=registry.address,
        monitoring="127.0.0.1:9",
        token_file=keys.service_file("rollout"),
        kubernetes_url="http://127.0.0.1:9",
    )
    yield service.migrate().start()
    service.stop()


@pytest.fixture(scope="session")
def pipelines_api(
    keys: Keys, postgres: object, valkey_url: str, objects: dict[str, str]
) -> Iterator[Service]:
    """Return the API server of pipelines, which has the pipeline `battery`; no worker takes its steps."""
    service = Service(
        "slipway_pipelines.main",
        keys,
        database_url=postgres.fresh_database(),  # type: ignore[attr-defined]
        broker_url=valkey_url,
        **objects,
    )
    yield service.migrate().start()
    service.stop()


@pytest.fixture(scope="session")
def a_pipeline(keys: Keys, pipelines_api: Service, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a pipeline of one step."""
    folder = tmp_path_factory.mktemp("pipeline")
    (folder / "flow.py").write_text(PIPELINE)
    archive = pack_folder(folder)
    header = pip.PipelineHeader(size_bytes=len(archive), entry_point="flow.py:battery")
    parts = [pip.UploadPipelineRequest(header=header), pip.UploadPipelineRequest(chunk=archive)]
    with pipelines_api.channel(keys.user()) as opened:
        version = pip_grpc.PipelinesServiceStub(opened).UploadPipeline(iter(parts))
    return str(version.name.partition("/versions/")[0])


@pytest.fixture(scope="session")
def labeling(keys: Keys, postgres: object, ingestion: Service) -> Iterator[Service]:
    """Return a running labeling service beside ingestion."""
    service = Service(
        "slipway_labeling.main",
        keys,
        database_url=postgres.fresh_database(),  # type: ignore[attr-defined]
        ingestion=ingestion.address,
        token_file=keys.service_file("labeling"),
        sweep_interval_s=0.2,
        judge_interval_s=0.5,
    )
    yield service.migrate().start()
    service.stop()


@pytest.fixture(scope="session")
def monitoring(keys: Keys, postgres: object, ingestion: Service, registry: Service) -> Iterator[Service]:
    """Return a running monitoring service beside ingestion and the registry; no worker makes its imports."""
    service = Service(
        "slipway_monitoring.main",
        keys,
        database_url=postgres.fresh_database(),  # type: ignore[attr-defined]
        registry=registry.address,
        ingestion=ingestion.address,
        token_file=keys.service_file("monitoring"),
        otlp_port=free_port(),
        sweep_interval_s=0.5,
    )
    yield service.migrate().start()
    service.stop()


@pytest.fixture(scope="session")
def a_commit(keys: Keys, ingestion: Service) -> str:
    """Return a commit of one text in the data set `battery`."""
    with ingestion.channel(keys.user()) as opened:
        stub = ing_grpc.IngestionServiceStub(opened)
        stub.CreateDataset(ing.CreateDatasetRequest(dataset_id="battery"))
        parts = [
            ing.UploadExamplesRequest(header=ing.UploadHeader(parent="datasets/battery")),
            ing.UploadExamplesRequest(item=ing.UploadItem(key="a.txt", data=b"a text")),
        ]
        upload = stub.UploadExamples(iter(parts))
        request = ing.CreateCommitRequest(parent="datasets/battery", uploads=[upload.name], message="one")
        return str(stub.CreateCommit(request).name)


@pytest.fixture(scope="session")
def a_version(keys: Keys, registry: Service, a_commit: str) -> str:
    """Return a version of the model `battery-scored`."""
    with registry.channel(keys.user()) as opened:
        stub = reg_grpc.RegistryServiceStub(opened)
        stub.CreateExperiment(reg.CreateExperimentRequest(experiment_id="battery-scored"))
        stub.CreateModel(reg.CreateModelRequest(model_id="battery-scored"))
        run = reg.Run(dataset_commit=a_commit, code_digest="taskCode/" + "0" * 64)
        made = stub.CreateRun(reg.CreateRunRequest(parent="experiments/battery-scored", run=run))
        bundle = upload(stub, *with_manifest(files()))
        version = reg.ModelVersion(run=made.name, bundle=bundle.name)
        request = reg.CreateModelVersionRequest(
            parent="models/battery-scored", model_version=version, attempt=1
        )
        return str(stub.CreateModelVersion(request).name)


@pytest.fixture(scope="session")
def a_task(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the packed folder of a task."""
    folder = tmp_path_factory.mktemp("task")
    (folder / "task.py").write_text(TASK)
    return pack_folder(folder)
