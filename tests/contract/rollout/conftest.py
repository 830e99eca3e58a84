"""A running rollout (serve and worker) on real PostgreSQL and the laptop's Kubernetes API."""

import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from running import Keys, Service
from slipway.rollout.v1 import rollout_pb2 as pb
from slipway.rollout.v1 import rollout_pb2_grpc

sys.path.insert(0, str(Path(__file__).parent))

from callers import Admin, Behaviour, Callers, Outcomes, serve_outcomes
from cluster import Meddler, Operator, serve_known_models, until
from laptop import Laptop


@dataclass
class House:
    """Rollout and what stands around it."""

    stub: Any
    operator: Operator
    laptop: Laptop
    meddler: Meddler
    serve: Service
    worker: Service
    database_url: str
    outcomes: Outcomes
    admin: Admin
    made: list[str] = field(default_factory=list)
    calling: list[Callers] = field(default_factory=list)

    def endpoint(self, *versions: int, model: str = "models/m") -> str:
        """Make an endpoint that serves these versions, all ready; return its id."""
        id = f"e{uuid.uuid4().hex[:8]}"
        self.stub.CreateEndpoint(pb.CreateEndpointRequest(endpoint_id=id, endpoint=pb.Endpoint(model=model)))
        self.made.append(id)
        for number in versions:
            self.deploy(id, number, model=model)
            if number == versions[0]:
                self.ready(id, number)
        for number in versions[1:]:
            self.ready(id, number)
        return id

    def deploy(self, id: str, number: int, model: str = "models/m", **fields: Any) -> pb.Endpoint:
        """Deploy a version."""
        name = f"{model}/versions/{number}"
        return self.stub.DeployVersion(
            pb.DeployVersionRequest(name=f"endpoints/{id}", model_version=name, **fields)
        )

    def get(self, id: str) -> pb.Endpoint:
        """Return an endpoint."""
        return self.stub.GetEndpoint(pb.GetEndpointRequest(name=f"endpoints/{id}"))

    def state(self, id: str, number: int) -> str:
        """Return how ready a version is; nothing when it is not served."""
        for version in self.get(id).served_versions:
            if version.subset == f"v{number}":
                return pb.ServedVersion.State.Name(version.state)
        return ""

    def ready(self, id: str, number: int) -> None:
        """Wait until a version is ready."""
        until(lambda: self.state(id, number) == "READY")

    def rollout(self, id: str, number: int, **fields: Any) -> pb.Rollout:
        """Begin a rollout."""
        asked = pb.Rollout(model_version=f"models/m/versions/{number}", **fields)
        return self.stub.CreateRollout(pb.CreateRolloutRequest(parent=f"endpoints/{id}", rollout=asked))

    def now(self, rollout: pb.Rollout) -> pb.Rollout:
        """Return a rollout as it is."""
        return self.stub.GetRollout(pb.GetRolloutRequest(name=rollout.name))

    def ended(self, rollout: pb.Rollout, within_s: float = 200) -> pb.Rollout:
        """Wait until a rollout has ended and its route is written; return it."""
        over = (pb.Rollout.SUCCEEDED, pb.Rollout.FAILED, pb.Rollout.ABORTED)
        try:
            return until(lambda: (r := self.now(rollout)).settled and r.state in over and r, within_s)
        except AssertionError as late:
            raise AssertionError(f"{late}: {self.now(rollout)}") from late

    def callers(self, id: str, versions: dict[str, Behaviour], **fields: Any) -> Callers:
        """Let callers call an endpoint."""
        made = Callers(id, self.operator, self.outcomes, self.admin, versions, **fields)
        self.calling.append(made)
        return made

    def split(self, id: str, etag: str = "", request_id: str = "", **weights: int) -> pb.Endpoint:
        """Set the weights."""
        return self.stub.SetSplit(
            pb.SetSplitRequest(name=f"endpoints/{id}", weights=weights, etag=etag, request_id=request_id)
        )


@pytest.fixture(scope="session")
def laptop(tmp_path_factory: pytest.TempPathFactory, keys: Keys) -> Iterator[Laptop]:
    """Return the laptop's Kubernetes API with pods that come up at once."""
    started = Laptop(tmp_path_factory.mktemp("kube"), keys)
    yield started
    started.close()


@pytest.fixture
def house(running: House) -> Iterator[House]:
    """Return the running rollout; what the test made in it is taken away after."""
    yield running
    for callers in running.calling:
        callers.stop()
    running.calling.clear()
    running.meddler.reset()
    for id in running.made:
        running.stub.DeleteEndpoint(pb.DeleteEndpointRequest(name=f"endpoints/{id}", force=True))
    running.made.clear()


@pytest.fixture(scope="session")
def running(keys: Keys, postgres: Any, laptop: Laptop) -> Iterator[House]:
    """Return a running rollout."""
    meddler = Meddler(laptop.url)
    registry, address = serve_known_models()
    monitoring, monitoring_address, outcomes = serve_outcomes()
    admin = Admin()
    url = postgres.fresh_database()
    settings = {
        "database_url": url,
        "registry": address,
        "monitoring": monitoring_address,
        "mesh_counters_url": admin.url,
        "mesh_counters_form": "envoy",
        "judge_interval_s": 0.1,
        "kubernetes_url": meddler.url,
        "kubernetes_token_file": laptop.token_file,
        "kubernetes_timeout_s": 60,
        "propagation_s": 0.3,
        "reconcile_interval_s": 0.05,
        "resync_interval_s": 1,
        "progress_deadline_s": 3,
        "watch_interval_s": 0.05,
    }
    serve = Service("slipway_rollout.main", keys, **settings).migrate().start()
    worker = Service("slipway_rollout.main", keys, "worker", **settings).start()
    channel = serve.channel(keys.user())
    stub = rollout_pb2_grpc.RolloutServiceStub(channel)
    yield House(
        stub, Operator(laptop.url, laptop.token_file), laptop, meddler, serve, worker, url, outcomes, admin
    )
    channel.close()
    worker.stop()
    serve.stop()
    registry.stop(None)
    monitoring.stop(None)
    admin.close()
    meddler.close()
