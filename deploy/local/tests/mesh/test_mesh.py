"""The mesh with a real Envoy: weights, headers, shadows, refusals, identity."""

import json
import subprocess
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from scipy.stats import binomtest
from slipway_local.credentials import service_token, write_keys_and_tokens
from slipway_local.layout import Layout
from slipway_local.mesh import Mesh
from slipway_local.testing_ports import free_port_base

NAMESPACE = "slipway-models"
INFER = "/inference.GRPCInferenceService/ModelInfer"
REGISTRY = "/slipway.registry.v1.RegistryService/GetModel"


@dataclass(frozen=True)
class PodAt:
    """A pod as the supervisor names it."""

    name: str
    labels: tuple[tuple[str, str], ...]
    port: int
    inbound_port: int


class Objects:
    """What the mesh needs of the Kubernetes API, in memory; the API itself has tests of its own."""

    def __init__(self) -> None:
        self.revision = 1
        self.found: dict[tuple[str, str], dict[str, Any]] = {}
        self.statuses: dict[str, Any] = {}

    def put(self, kind: str, name: str, spec: dict[str, Any]) -> None:
        self.found[kind, name] = {"kind": kind, "metadata": {"name": name}, "spec": spec}
        self.revision += 1

    def list(self, kind: str, namespace: str) -> list[dict[str, Any]]:
        return [one for (known, _), one in self.found.items() if known == kind]

    def set_status(self, kind: str, namespace: str, name: str, status: dict[str, Any]) -> None:
        self.statuses[name] = status


class Echo(grpc.GenericRpcHandler):
    """Answers every unary call with its own name, and counts."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls = 0
        self.metadata: dict[str, str] = {}
        self.request_ids: list[str] = []

    def service(self, details: Any) -> Any:
        self.calls += 1
        self.metadata = dict(details.invocation_metadata)
        self.request_ids.append(self.metadata.get("x-request-id", ""))
        return grpc.unary_unary_rpc_method_handler(lambda request, context: self.name.encode())


class House:
    """A mesh, an Envoy, and small servers behind it."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        write_keys_and_tokens(layout)
        self.objects = Objects()
        self.mesh = Mesh(layout=layout, cluster=self.objects)
        self._puts = 0
        self._servers: list[grpc.Server] = []
        self.pods: dict[str, PodAt] = {}
        self.echoes: dict[str, Echo] = {}
        server = self.mesh.prepare()
        self.envoy = subprocess.Popen(server.command, stderr=(layout.logs / "envoy.log").open("wb"))
        until(server.ready)

    def serve(self, name: str, port: int) -> Echo:
        echo = Echo(name)
        server = grpc.server(futures.ThreadPoolExecutor(8), handlers=(echo,))
        server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()
        self._servers.append(server)
        self.echoes[name] = echo
        return echo

    def pod(self, endpoint: str, version: str) -> None:
        slot = len(self.pods)
        port, _, inbound = self.layout.pod_ports(slot)
        self.serve(f"{endpoint}-{version}", port)
        labels = (("app", endpoint), ("version", version))
        self.pods[f"{endpoint}-{version}"] = PodAt(f"{endpoint}-{version}", labels, port, inbound)
        self.mesh.set_pods(list(self.pods.values()))

    def route(self, endpoint: str, weights: dict[str, int], *, shadow: str = "", lost: str = "") -> None:
        host = f"{endpoint}.{NAMESPACE}.svc.cluster.local"

        def to(subset: str) -> dict[str, Any]:
            return {"host": host, "subset": subset, "port": {"number": 8500}}

        testers = [
            {
                "name": f"tester-{subset}",
                "match": [{"headers": {"slipway-version": {"exact": subset}}}],
                "route": [{"destination": to(subset), "weight": 100}],
                "retries": {"attempts": 0},
            }
            for subset in weights
        ]
        listed = [{"destination": to(subset), "weight": weight} for subset, weight in weights.items()]
        split: dict[str, Any] = {"name": "split", "route": listed, "retries": {"attempts": 0}}
        if shadow:
            split |= {"mirror": to("shadow"), "mirrorPercentage": {"value": 100}}
        subsets = [{"name": subset, "labels": {"version": subset}} for subset in weights if subset != lost]
        if shadow:
            subsets.append({"name": "shadow", "labels": {"version": shadow}})
        spec = {"hosts": [host], "gateways": ["mesh", "slipway/grpc"], "http": [*testers, split]}
        self.put(
            endpoint,
            Service={"selector": {"app": endpoint}},
            DestinationRule={"host": host, "subsets": subsets},
            VirtualService=spec,
        )

    def put(self, endpoint: str, **specs: dict[str, Any]) -> None:
        """Write an endpoint's objects; return once Envoy has taken them."""
        self._puts += 1
        *others, last = specs["VirtualService"]["http"]
        mark = f"{last['name']} of put {self._puts}"
        specs["VirtualService"] |= {"http": [*others, last | {"name": mark}]}
        for kind, spec in specs.items():
            self.objects.put(kind, endpoint, spec)
        until(lambda: self._taken(json.dumps(mark)))

    def admin(self, path: str) -> str:
        """Return what Envoy's administration port answers."""
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.layout.envoy_admin}{path}", timeout=60
        ) as answer:
            return str(answer.read().decode())

    def _taken(self, mark: str) -> bool:
        """Say whether Envoy has the written clusters, and the mark in its routes as often as written."""
        self.mesh.tick()
        written = self.layout.folder("envoy") / "xds"
        clusters = json.loads((written / "cds.json").read_text())["resources"]
        known = self.admin("/config_dump?resource=dynamic_active_clusters")
        routes = self.admin("/config_dump?resource=dynamic_route_configs")
        marked = sum(path.read_text().count(mark) for path in (written / "rds").glob("*.json"))
        return routes.count(mark) == marked and all(json.dumps(one["name"]) in known for one in clusters)

    def door(self) -> grpc.Channel:
        return grpc.insecure_channel(f"127.0.0.1:{self.layout.grpc_door}")

    def close(self) -> None:
        self.envoy.kill()
        self.envoy.wait()
        for server in self._servers:
            server.stop(0)


def until(ask: Callable[[], bool], within_s: float = 90) -> None:
    stop_at = time.monotonic() + within_s
    while not ask():
        assert time.monotonic() < stop_at
        time.sleep(0.05)


def call(channel: grpc.Channel, path: str = INFER, timeout: float = 60, **headers: str) -> str:
    metadata = [(key.replace("_", "-"), value) for key, value in headers.items()]
    return str(channel.unary_unary(path)(b"", metadata=metadata, timeout=timeout).decode())


def answers(house: House, endpoint: str) -> Callable[[], bool]:
    def ask() -> bool:
        try:
            with house.door() as channel:
                call(channel, slipway_endpoint=endpoint, timeout=5)
        except grpc.RpcError:
            return False
        return True

    return ask


def refused_as(house: House, endpoint: str) -> grpc.StatusCode | None:
    try:
        with house.door() as channel:
            call(channel, slipway_endpoint=endpoint)
    except grpc.RpcError as error:
        return error.code()
    return None


def refusal(ask: Callable[[], Any]) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        ask()
    return caught.value


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    layout = Layout(tmp_path_factory.mktemp("mesh") / ".slipway", free_port_base())
    layout.make_folders()
    made = House(layout)
    made.serve("registry", layout.app_port("registry"))
    for version in ("v1", "v2"):
        made.pod("flowers", version)
    made.pod("trees", "v1")
    made.route("flowers", {"v1": 90, "v2": 10})
    made.route("trees", {"v1": 100})
    until(answers(made, "flowers"))
    until(answers(made, "trees"))
    yield made
    made.close()


def test_a_split_is_what_was_asked_for(house: House) -> None:
    house.route("flowers", {"v1": 90, "v2": 10})

    with house.door() as channel:
        counts = Counter(call(channel, slipway_endpoint="flowers") for _ in range(1500))

    interval = binomtest(counts["flowers-v2"], 1500).proportion_ci(0.999_99, method="exact")
    assert interval.low <= 0.1 <= interval.high
    assert set(counts) == {"flowers-v1", "flowers-v2"}


def test_weights_move_under_load_without_a_failed_call(house: House) -> None:
    stopped = threading.Event()
    seen: Counter[str] = Counter()

    def caller() -> None:
        with house.door() as channel:
            while not stopped.is_set():
                try:
                    seen[call(channel, slipway_endpoint="flowers")] += 1
                except grpc.RpcError as error:
                    seen[str(error.code())] += 1

    callers = [threading.Thread(target=caller) for _ in range(4)]
    for one in callers:
        one.start()
    for flip in range(10):
        before = seen.total()
        house.route("flowers", {"v1": 10 * flip, "v2": 100 - 10 * flip})
        until(lambda before=before: seen.total() > before + 50)
    stopped.set()
    for one in callers:
        one.join()

    assert set(seen) == {"flowers-v1", "flowers-v2"}


def test_a_tester_reaches_a_version_by_header_and_authority_means_the_same(house: House) -> None:
    house.route("flowers", {"v1": 100, "v2": 0})
    options = [("grpc.default_authority", f"flowers.{NAMESPACE}.svc.cluster.local")]

    with house.door() as channel:
        assert call(channel, slipway_endpoint="flowers", slipway_version="v2") == "flowers-v2"
        assert call(channel, slipway_endpoint="trees") == "trees-v1"
    with grpc.insecure_channel(f"127.0.0.1:{house.layout.grpc_door}", options=options) as channel:
        assert call(channel) == "flowers-v1"


@pytest.mark.parametrize("headers", [{}, {"slipway_endpoint": "grass"}])
def test_no_endpoint_or_an_unknown_one_is_not_found_and_names_those_there_are(
    house: House, headers: dict[str, str]
) -> None:
    with house.door() as channel:
        error = refusal(lambda: call(channel, **headers))

    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert "slipway-endpoint" in error.details()
    assert "flowers, trees" in error.details()


def test_a_shadow_gets_the_calls_and_nobody_sees_its_answers(house: House) -> None:
    house.route("flowers", {"v1": 100, "v2": 0}, shadow="v2")
    before = house.echoes["flowers-v2"].calls

    with house.door() as channel:
        seen = {call(channel, slipway_endpoint="flowers") for _ in range(100)}

    until(lambda: house.echoes["flowers-v2"].calls - before == 100)
    assert seen == {"flowers-v1"}
    assert house.echoes["flowers-v2"].metadata["slipway-role"] == "shadow"


def gateways_sidecar(house: House, endpoint: str) -> grpc.Channel:
    options = [("grpc.default_authority", f"{endpoint}.{NAMESPACE}.svc.cluster.local:8500")]
    return grpc.insecure_channel(f"127.0.0.1:{house.layout.outbound_port('gateway')}", options=options)


@pytest.mark.parametrize("way", ["door", "gateway"])
def test_a_call_and_its_mirror_have_one_request_id_and_no_other_call_has_it(house: House, way: str) -> None:
    house.route("flowers", {"v1": 100, "v2": 0}, shadow="v2")
    live, shadow = house.echoes["flowers-v1"], house.echoes["flowers-v2"]
    live.request_ids.clear()
    shadow.request_ids.clear()

    with house.door() if way == "door" else gateways_sidecar(house, "flowers") as channel:
        for _ in range(50):
            call(channel, slipway_endpoint="flowers")

    until(lambda: len(shadow.request_ids) == 50)
    assert set(live.request_ids) == set(shadow.request_ids)
    assert len(set(live.request_ids)) == 50
    assert all(len(found) == 36 for found in live.request_ids)


def test_a_testers_call_says_so_to_the_front_and_is_not_mirrored(house: House) -> None:
    house.route("flowers", {"v1": 100, "v2": 0}, shadow="v2")
    before = house.echoes["flowers-v2"].calls

    with house.door() as channel:
        call(channel, slipway_endpoint="flowers", slipway_version="v1")
    time.sleep(0.5)

    assert house.echoes["flowers-v1"].metadata["slipway-version"] == "v1"
    assert house.echoes["flowers-v2"].calls == before


def test_a_caller_cannot_pass_for_a_shadow(house: House) -> None:
    house.route("flowers", {"v1": 100, "v2": 0})

    with house.door() as channel:
        call(channel, slipway_endpoint="flowers", slipway_role="shadow")

    assert "slipway-role" not in house.echoes["flowers-v1"].metadata


def test_an_object_that_makes_no_sense_is_named_and_the_last_good_routes_stay(house: House) -> None:
    house.route("trees", {"v1": 60, "v7": 40}, lost="v7")

    with house.door() as channel:
        seen = {call(channel, slipway_endpoint="trees") for _ in range(30)}

    (condition,) = house.objects.statuses["trees"]["conditions"]
    assert "'v7'" in condition["message"]
    assert seen == {"trees-v1"}
    house.route("trees", {"v1": 100})
    assert house.objects.statuses["trees"] == {}


def test_a_pod_that_leaves_gets_no_more_calls(house: House) -> None:
    house.route("flowers", {"v1": 100, "v2": 0})
    staying = [pod for name, pod in house.pods.items() if name != "flowers-v1"]

    house.mesh.set_pods(staying)
    until(lambda: refused_as(house, "flowers") is grpc.StatusCode.UNAVAILABLE)

    house.mesh.set_pods(list(house.pods.values()))
    until(answers(house, "flowers"))


def sidecar(house: House, caller: str) -> grpc.Channel:
    options = [("grpc.default_authority", "registry.slipway.svc.cluster.local:8500")]
    return grpc.insecure_channel(f"127.0.0.1:{house.layout.outbound_port(caller)}", options=options)


@pytest.mark.parametrize(
    ("caller", "code"),
    [
        ("training-worker", None),
        ("rollout", None),
        ("inference", None),
        ("gateway", None),
        ("monitoring", None),
        ("labeling", grpc.StatusCode.PERMISSION_DENIED),
        ("ingestion", grpc.StatusCode.PERMISSION_DENIED),
    ],
)
def test_only_those_whom_the_policy_names_reach_the_registry(house: House, caller: str, code: Any) -> None:
    with sidecar(house, caller) as channel:
        if code is None:
            assert call(channel, REGISTRY) == "registry"
        else:
            assert refusal(lambda: call(channel, REGISTRY)).code() is code


def test_without_a_certificate_nobody_is_heard(house: House) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{house.layout.inbound_port('registry')}") as channel:
        assert refusal(lambda: call(channel, REGISTRY)).code() is grpc.StatusCode.UNAVAILABLE


def test_a_good_token_passes_and_a_bad_one_is_unauthenticated(house: House) -> None:
    pem = (house.layout.keys / "platform.pem").read_bytes()
    key = serialization.load_pem_private_key(pem, password=None)
    good = service_token(key, "rollout")  # type: ignore[arg-type]
    forged = good[:-8] + ("AAAAAAAA" if good[-8:] != "AAAAAAAA" else "BBBBBBBB")
    stale = jwt.encode(
        {"iss": "slipway-platform", "aud": "slipway", "sub": "x", "exp": 1},
        key,  # type: ignore[arg-type]
        algorithm="EdDSA",
        headers={"kid": "platform"},
    )

    with house.door() as channel:
        assert call(channel, REGISTRY, authorization=f"Bearer {good}") == "registry"
        for bad in (forged, stale):
            error = refusal(lambda b=bad: call(channel, REGISTRY, authorization=f"Bearer {b}"))
            assert error.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_trace_goes_on_through_the_door_to_the_app(house: House) -> None:
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"

    with house.door() as channel:
        call(channel, REGISTRY, traceparent=f"00-{trace_id}-00f067aa0ba902b7-01")

    assert house.echoes["registry"].metadata["traceparent"].split("-")[1] == trace_id


def test_envoy_took_every_update(house: House) -> None:
    stats = json.loads(house.admin("/stats?filter=update_rejected&format=json"))["stats"]

    assert {stat["name"]: stat["value"] for stat in stats if stat.get("value")} == {}


def test_certificates_are_kept_private(house: House) -> None:
    folder: Path = house.layout.folder("envoy")

    keys = [*folder.rglob("*-key.pem"), *folder.rglob("sds/*.json")]

    assert len(keys) > 8
    assert {path.stat().st_mode & 0o077 for path in keys} == {0}
