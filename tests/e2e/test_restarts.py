"""Under load, versions are swapped and every service restarts; callers see nothing unexpected."""

import re
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import tritonclient.grpc as triton
from laptop_platform import Platform
from served import Taught, images, removed, serve, until
from slipway.client import Client, SlipwayError, pages
from slipway.ingestion.v1 import ingestion_pb2 as ing
from slipway.labeling.v1 import labeling_pb2 as lab
from slipway.pipelines.v1 import pipelines_pb2 as pip
from slipway.registry.v1 import registry_pb2 as reg
from slipway.rollout.v1 import rollout_pb2 as rol
from slipway.training.v1 import training_pb2 as trn
from slipway_local.layout import Layout
from tritonclient.utils import InferenceServerException

pytestmark = [pytest.mark.xdist_group("platform"), pytest.mark.timeout(600)]
SERVICES = ("gateway", "ingestion", "labeling", "monitoring", "pipelines", "registry", "rollout", "training")
SWAPS = 6


@pytest.fixture(scope="module")
def endpoint(platform: Platform, taught: Taught) -> Iterator[str]:
    """Return an endpoint that serves two versions; the first has all traffic."""
    name = f"restarts-{uuid.uuid4().hex[:8]}"
    with Client.local() as client:
        serve(client, platform, name, taught.name, versions=2)
        yield name
        removed(client, platform, name)


class Caller(threading.Thread):
    """Does one thing over and over, each time with another name; what cannot be done now it tries again.

    Args:
        act: Does it; the name makes a repeat known. Raises `SlipwayError`.
        tries_again: Whether UNAVAILABLE is waited out, as the rule for callers says, or is a failure.
    """

    def __init__(self, act: Callable[[str], Any], *, tries_again: bool = True, every_s: float = 0.05) -> None:
        super().__init__(daemon=True)
        self.done: list[str] = []
        self.repeats = 0
        self.failures: list[str] = []
        self._act = act
        self._tries_again = tries_again
        self._every_s = every_s
        self._stopped = threading.Event()
        self.start()

    def run(self) -> None:
        """Act until stopped."""
        while not self._stopped.wait(self._every_s):
            self._insist(f"r{uuid.uuid4().hex[:12]}")

    def _insist(self, name: str) -> None:
        stop_at = time.monotonic() + 60.0
        while True:
            try:
                self._act(name)
                self.done.append(name)
                return
            except SlipwayError as error:
                if not self._tries_again or error.code != "UNAVAILABLE" or time.monotonic() > stop_at:
                    self.failures.append(f"{error.code} {error.reason}: {error.message}")
                    return
                self.repeats += 1
                time.sleep(0.1)

    def stop(self) -> list[str]:
        """Stop; return the names of what was done."""
        self._stopped.set()
        self.join()
        return self.done


def asker(endpoint: str, versions: Counter[str], token: str, door: str) -> Callable[[str], None]:
    """Return what asks the endpoint as a client of Triton does, with no rule for another try."""
    client, rows = triton.InferenceServerClient(door), images(2)[..., None]
    tensor = triton.InferInput("image", rows.shape, "UINT8")
    tensor.set_data_from_numpy(rows)
    headers = {"authorization": f"Bearer {token}", "slipway-endpoint": endpoint}

    def ask(name: str) -> None:
        try:
            answer = client.infer(endpoint, [tensor], headers=headers, request_id=name, client_timeout=60.0)
        except InferenceServerException as error:
            raise SlipwayError(str(error.status()).rpartition(".")[2], "", error.message()) from error
        versions[answer.get_response().model_version] += 1

    return ask


def failed(callers: list[Caller]) -> list[str]:
    return [failure for caller in callers for failure in caller.failures]


def mesh_retries(platform: Platform, endpoint: str) -> int:
    """Return how often the mesh has tried a call to the endpoint again."""
    port = Layout(platform.state, platform.port_base).envoy_admin
    page = httpx.get(f"http://127.0.0.1:{port}/stats?filter=upstream_rq_retry", timeout=60).text
    counts = re.findall(rf"^cluster\..*{endpoint}.*\.upstream_rq_retry: (\d+)$", page, re.M)
    assert counts
    return sum(map(int, counts))


def test_versions_are_swapped_under_load_without_one_failed_or_retried_request(
    platform: Platform, endpoint: str
) -> None:
    versions: Counter[str] = Counter()
    with Client.local() as client:
        door, token = client.places.grpc, client.token()
        callers = [
            Caller(asker(endpoint, versions, token, door), tries_again=False, every_s=0.005) for _ in range(3)
        ]
        retried = mesh_retries(platform, endpoint)
        for turn in range(SWAPS):
            to, other = (2, 1) if turn % 2 == 0 else (1, 2)
            client.rollout.SetSplit(
                rol.SetSplitRequest(name=f"endpoints/{endpoint}", weights={f"v{to}": 100, f"v{other}": 0})
            )
            wanted = versions[str(to)] + 100
            until(lambda to=str(to), wanted=wanted: versions[to] >= wanted or failed(callers) != [])
        platform.slipway("endpoint", "undeploy", endpoint, "v2")
        platform.slipway("endpoint", "deploy", endpoint, "v2")
        client.rollout.SetSplit(
            rol.SetSplitRequest(name=f"endpoints/{endpoint}", weights={"v1": 0, "v2": 100})
        )
        platform.slipway("endpoint", "undeploy", endpoint, "v1")
        platform.slipway("endpoint", "deploy", endpoint, "v1")
        done = [name for caller in callers for name in caller.stop()]

    assert failed(callers) == []
    assert mesh_retries(platform, endpoint) == retried
    assert len(done) > 500
    assert min(versions["1"], versions["2"]) > 100


def test_every_service_restarts_under_load_and_callers_need_only_try_again(
    platform: Platform, endpoint: str, taught: Taught
) -> None:
    rows: list[str] = []
    with Client.local() as client:

        def label(name: str) -> None:
            if rows:
                client.record_feedback([(rows[-1], "left")], source="imports/restarts", request_id=name)

        def predict(name: str) -> None:
            rows.extend(client.infer(endpoint, {"image": images(2)[..., None]}).rows)

        def dataset(name: str) -> None:
            client.ingestion.CreateDataset(ing.CreateDatasetRequest(dataset_id=name, request_id=name))

        def model(name: str) -> None:
            client.registry.CreateModel(reg.CreateModelRequest(model_id=name, request_id=name))

        schema = lab.LabelSchema(classification=lab.Classification(labels=["left", "right"]))
        project = lab.Project(dataset=f"datasets/{taught.name}", schema=schema, overlap=1)

        def labelling(name: str) -> None:
            client.labeling.CreateProject(
                lab.CreateProjectRequest(project_id=name, project=project, request_id=name)
            )

        def reads(name: str) -> None:
            client.training.ListTrainingJobs(trn.ListTrainingJobsRequest())
            client.pipelines.ListPipelines(pip.ListPipelinesRequest())
            client.rollout.GetEndpoint(rol.GetEndpointRequest(name=f"endpoints/{endpoint}"))

        acts = (predict, label, dataset, model, labelling, reads)
        callers = {act.__name__: Caller(act, every_s=0.1) for act in acts}
        until(lambda: all(caller.done for caller in callers.values()))
        names = [p["name"] for p in platform.slipway("status")["processes"] if p["name"].startswith(SERVICES)]
        for name in [*names, f"{endpoint}-v1-0"]:
            platform.slipway("restart", name)
        counts = {act: len(caller.done) for act, caller in callers.items()}
        until(lambda: all(len(caller.done) > counts[act] for act, caller in callers.items()))
        done = {act: caller.stop() for act, caller in callers.items()}
        listed = {
            "dataset": pages(client.ingestion.ListDatasets, ing.ListDatasetsRequest(), "datasets"),
            "model": pages(client.registry.ListModels, reg.ListModelsRequest(), "models"),
            "labelling": pages(client.labeling.ListProjects, lab.ListProjectsRequest(), "projects"),
        }
        made = {act: [one.name for one in found] for act, found in listed.items()}

    assert {act: caller.failures for act, caller in callers.items() if caller.failures} == {}
    assert [service for service in SERVICES if not any(name.startswith(service) for name in names)] == []
    assert sum(caller.repeats for caller in callers.values()) > 0  # or nothing was away
    for act, found in made.items():
        there = Counter(name.rpartition("/")[2] for name in found)
        assert set(done[act]) - set(there) == set()
        assert max(there.values()) == 1
