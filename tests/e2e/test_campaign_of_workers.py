"""The campaign over services with a worker: server and worker are killed in turn, jobs still end once.

`make campaign` runs the full form (200 effects and 10 kills per process), `make test` a shorter one.
"""

import io
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from campaign import Audit, Journal, campaign
from cluster import Operator, serve_known_models
from laptop import Laptop
from PIL import Image
from running import Keys, Service
from slipway.client.packing import pack_folder
from slipway.ingestion.v1 import ingestion_pb2 as ing
from slipway.ingestion.v1 import ingestion_pb2_grpc as ing_grpc
from slipway.registry.v1 import registry_pb2 as reg
from slipway.registry.v1 import registry_pb2_grpc as reg_grpc
from slipway.rollout.v1 import rollout_pb2 as rol
from slipway.rollout.v1 import rollout_pb2_grpc as rol_grpc
from slipway.training.v1 import training_pb2 as trn
from slipway.training.v1 import training_pb2_grpc as trn_grpc
from test_campaign import FULL, WITHIN_S, pages

pytestmark = [pytest.mark.xdist_group("campaign"), pytest.mark.timeout(WITHIN_S)]
JOBS = {"effects": 200, "kills": 20} if FULL else {"effects": 6, "kills": 4}
ENDPOINTS = {"effects": 200, "kills": 20} if FULL else {"effects": 30, "kills": 6}
SUBMIT_EVERY_S = 2.0  # attempts take a few seconds: a longer queue would only make the end come later
OPEN = {trn.TrainingJob.PENDING, trn.TrainingJob.RUNNING}
TASK = Path(__file__).parents[1] / "contract/training/halves.py"


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


@pytest.fixture
def service(keys: Keys) -> Iterator[Callable[..., Service]]:
    """Return a function that starts a service; all are stopped at the end."""
    running: list[Service] = []

    def start(module: str, verb: str = "serve", **settings: object) -> Service:
        running.append(Service(module, keys, verb, **settings))
        return (running[-1].migrate() if verb == "serve" else running[-1]).start()

    yield start
    for one in reversed(running):
        one.stop()


def commit_of_halves(stub: Any) -> str:
    """Return a commit of small grey images: a bright left or a bright right half."""
    random = np.random.default_rng(0)

    def requests() -> Iterator[ing.UploadExamplesRequest]:
        yield ing.UploadExamplesRequest(header=ing.UploadHeader(parent="datasets/halves"))
        for index in range(120):
            pixels = random.integers(0, 90, (6, 6), dtype=np.uint8)
            pixels[:, 3 * (index % 2) : 3 * (index % 2) + 3] += 120
            data = io.BytesIO()
            Image.fromarray(pixels).save(data, "PNG")
            label = ("left", "right")[index % 2]
            yield ing.UploadExamplesRequest(
                item=ing.UploadItem(key=f"{index:04d}", data=data.getvalue(), label=label)
            )

    stub.CreateDataset(ing.CreateDatasetRequest(dataset_id="halves"))
    upload = stub.UploadExamples(requests())
    request = ing.CreateCommitRequest(parent="datasets/halves", uploads=[upload.name], message="halves")
    return str(stub.CreateCommit(request).name)


class Training:
    """A training service with its worker, beside real neighbours."""

    def __init__(
        self, service: Callable[..., Service], keys: Keys, settings: dict[str, Any], tmp_path: Path
    ) -> None:
        fresh = settings.pop("fresh_database")
        ingestion = service("slipway_ingestion.main", database_url=fresh(), **settings)
        self.registry = service("slipway_registry.main", database_url=fresh(), **settings)
        own = {
            "database_url": fresh(),
            "ingestion": ingestion.address,
            "registry": self.registry.address,
            "token_file": keys.service_file("training-worker"),
            "work_dir": tmp_path / "work",
            "lease_s": 2.0,
            "sweep_interval_s": 0.5,
            "resend_s": 1.0,
            "worker_threads": 2,
        }
        own |= settings
        self.server = service("slipway_training.main", **own)
        self.worker = service("slipway_training.main", "worker", **own)
        (tmp_path / "code").mkdir()
        (tmp_path / "code" / "task.py").write_text(TASK.read_text())
        self._code = pack_folder(tmp_path / "code")
        self._keys = keys
        with ingestion.channel(keys.user()) as opened:
            self._commit = commit_of_halves(ing_grpc.IngestionServiceStub(opened))

    def campaign(self, journal: Journal, effects: int, kills: int, settle_s: float) -> Audit:
        """Submit jobs under kills; each acknowledged one must end with one version of the model."""
        token = self._keys.user()
        with self.server.channel(token) as opened, self.registry.channel(token) as registry:
            stub, kept = trn_grpc.TrainingServiceStub(opened), reg_grpc.RegistryServiceStub(registry)
            header = trn.TaskCodeHeader(size_bytes=len(self._code))
            parts = [trn.UploadTaskCodeRequest(header=header), trn.UploadTaskCodeRequest(chunk=self._code)]
            code = stub.UploadTaskCode(iter(parts)).name

            def effect(id: str) -> None:
                job = trn.TrainingJob(
                    display_name=id,
                    experiment="experiments/halves",
                    model="models/halves",
                    dataset_commit=self._commit,
                    task_code=code,
                    entry_point="task.py:Halves",
                    max_attempts=20,
                )
                request = trn.CreateTrainingJobRequest(training_job=job, request_id=id)
                stub.CreateTrainingJob(request, timeout=5)
                time.sleep(SUBMIT_EVERY_S)

            def present() -> Iterable[str]:
                jobs = self._settled(stub, settle_s)
                listing = reg.ListModelVersionsRequest(parent="models/halves", page_size=1000)
                for version in pages(kept.ListModelVersions, listing, "model_versions"):
                    yield from (job.display_name for job in jobs if job.run == version.run)

            return campaign(
                victims=[self.worker, self.server],
                effect=effect,
                present=present,
                journal=journal,
                effects=effects,
                kills=kills,
                pause_s=(0.0, 2.0),
            )

    def _settled(self, stub: Any, settle_s: float) -> list[trn.TrainingJob]:
        """Return the jobs once all have ended, or as they are when the time is over."""
        stop_at = time.monotonic() + settle_s
        while True:
            jobs = list(pages(stub.ListTrainingJobs, trn.ListTrainingJobsRequest(), "training_jobs"))
            if not any(job.state in OPEN for job in jobs) or time.monotonic() > stop_at:
                return jobs
            time.sleep(0.5)


@pytest.fixture
def settings(postgres: Any, objects: dict[str, str], valkey_url: str) -> dict[str, Any]:
    return {"fresh_database": postgres.fresh_database, "broker_url": valkey_url, **objects}


def test_every_acknowledged_job_ends_with_one_version(
    service: Callable[..., Service],
    keys: Keys,
    settings: dict[str, Any],
    journal: Journal,
    tmp_path: Path,
) -> None:
    training = Training(service, keys, settings, tmp_path)

    audit = training.campaign(journal, settle_s=300 + 10 * JOBS["effects"], **JOBS)

    assert audit.clean, audit
    assert audit.acknowledged >= JOBS["effects"]
    assert audit.kills >= JOBS["kills"]


def test_without_the_sweeper_the_campaign_finds_jobs_that_never_end(
    service: Callable[..., Service],
    keys: Keys,
    settings: dict[str, Any],
    journal: Journal,
    tmp_path: Path,
) -> None:
    training = Training(service, keys, {**settings, "sweep_interval_s": 3600}, tmp_path)

    audit = training.campaign(journal, effects=2, kills=1, settle_s=20)

    assert audit.missing
    assert not audit.doubled


def test_every_acknowledged_endpoint_is_served_once(
    service: Callable[..., Service], keys: Keys, postgres: Any, journal: Journal, tmp_path: Path
) -> None:
    laptop = Laptop(tmp_path / "kube", keys)
    registry, address = serve_known_models()
    settings = {
        "database_url": postgres.fresh_database(),
        "registry": address,
        "monitoring": "127.0.0.1:9",
        "kubernetes_url": laptop.url,
        "kubernetes_token_file": laptop.token_file,
        "reconcile_interval_s": 0.05,
        "propagation_s": 0.3,
    }
    server = service("slipway_rollout.main", **settings)
    worker = service("slipway_rollout.main", "worker", **settings)
    operator = Operator(laptop.url, laptop.token_file)
    with server.channel(keys.user()) as opened:
        stub = rol_grpc.RolloutServiceStub(opened)

        def effect(id: str) -> None:
            endpoint = rol.Endpoint(model="models/m")
            create = rol.CreateEndpointRequest(endpoint_id=id, endpoint=endpoint, request_id=id)
            name = stub.CreateEndpoint(create, timeout=5).name
            version = "models/m/versions/1"
            deploy = rol.DeployVersionRequest(name=name, model_version=version, request_id=f"{id}-deploy")
            stub.DeployVersion(deploy, timeout=5)

        def served(endpoint: rol.Endpoint) -> bool:
            id = endpoint.name.partition("/")[2]
            versions = [(v.subset, v.weight, v.state) for v in endpoint.served_versions]
            there = all(operator.get(kind, id) for kind in ("Service", "VirtualService", "DestinationRule"))
            deployed = operator.get("Deployment", f"{id}-v1")
            ready = versions == [("v1", 100, rol.ServedVersion.READY)]
            return bool(ready and there and deployed and operator.weights(id) == {"v1": 100})

        def present() -> Iterable[str]:
            stop_at = time.monotonic() + 480  # hundreds of endpoints, one after another
            while True:
                endpoints = list(pages(stub.ListEndpoints, rol.ListEndpointsRequest(), "endpoints"))
                names = [e.name.partition("/")[2] for e in endpoints if served(e)]
                if len(names) == len(endpoints) or time.monotonic() > stop_at:
                    return names
                time.sleep(0.5)

        audit = campaign(
            victims=[worker, server], effect=effect, present=present, journal=journal, **ENDPOINTS
        )
    registry.stop(None)
    laptop.close()

    assert audit.clean, audit
    assert audit.acknowledged >= ENDPOINTS["effects"]
    assert audit.kills >= ENDPOINTS["kills"]
