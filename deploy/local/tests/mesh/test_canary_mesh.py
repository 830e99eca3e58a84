"""What a canary needs of a real Envoy: buckets that stay with a version, counters that rollout reads."""

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from slipway_local.layout import Layout
from slipway_local.testing_ports import free_port_base
from slipway_rollout.clients.counters import EnvoyCounters
from slipway_rollout.domain import Counters, Endpoint, ServedVersion, State
from slipway_rollout.engine import counting, manifests

sys.path.insert(0, str(Path(__file__).parent))

from test_mesh import House, answers, call, until

PLACEMENT = manifests.Placement(
    namespace="slipway-models",
    image="",
    service_account="",
    gateway="slipway/grpc",
    environment=(),
    cpu_request="1",
    cpu_limit="1",
    memory_request="1Gi",
    memory_limit="1Gi",
    progress_deadline_s=60,
)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    layout = Layout(tmp_path_factory.mktemp("canary") / ".slipway", free_port_base())
    layout.make_folders()
    made = House(layout)
    for version in ("v1", "v2"):
        made.pod("flowers", version)
    named = [replace(pod, name=f"{pod.name}-{slot}") for slot, pod in enumerate(made.pods.values())]
    made.mesh.set_pods(named)  # as the platform names them
    put(made, 100, 0)
    until(answers(made, "flowers"))
    yield made
    made.close()


def put(mesh: House, *weights: int, **fields: Any) -> None:
    """Write the objects that rollout writes for these weights."""
    versions = tuple(
        ServedVersion(f"models/m/versions/{number}", weight, State.READY, routed=True)
        for number, weight in enumerate(weights, 1)
    )
    endpoint = replace(Endpoint("flowers", "models/m", versions=versions), **fields)
    rule = manifests.destination_rule(endpoint, ["v1", "v2"], PLACEMENT)
    route = manifests.virtual_service(endpoint, versions, PLACEMENT)
    written = (manifests.service(endpoint, PLACEMENT), rule, route)
    mesh.put("flowers", **{manifest["kind"]: manifest["spec"] for manifest in written})


def by_bucket(mesh: House, buckets: range) -> dict[int, str]:
    with mesh.door() as channel:
        return {b: call(channel, slipway_endpoint="flowers", slipway_bucket=f"{b:02}") for b in buckets}


def test_a_bucket_goes_where_its_weight_says_and_stays_while_the_weight_grows(mesh: House) -> None:
    owned: set[int] = set()

    for weight in (0, 1, 5, 25, 50, 100):
        put(mesh, 100 - weight, weight)
        seen = by_bucket(mesh, range(100))
        new = {bucket for bucket, version in seen.items() if version == "flowers-v2"}
        assert len(new) == weight
        assert owned <= new
        owned = new


def test_callers_without_a_bucket_or_with_nonsense_in_it_are_split_by_weight(mesh: House) -> None:
    put(mesh, 50, 50)

    with mesh.door() as channel:
        bare = Counter(call(channel, slipway_endpoint="flowers") for _ in range(200))
        odd = Counter(call(channel, slipway_endpoint="flowers", slipway_bucket="7") for _ in range(200))

    assert 60 < bare["flowers-v2"] < 140
    assert 60 < odd["flowers-v2"] < 140


def test_what_comes_by_a_bucket_is_mirrored(mesh: House) -> None:
    put(mesh, 100, 0, shadow="v2", shadow_percent=100)
    before = mesh.echoes["flowers-v2"].calls

    seen = set(by_bucket(mesh, range(20)).values())

    until(lambda: mesh.echoes["flowers-v2"].calls - before == 20)
    assert seen == {"flowers-v1"}


def test_rollout_reads_requests_errors_and_latencies_of_both_versions(mesh: House) -> None:
    put(mesh, 50, 50)
    with broken(mesh, "flowers-v2"):
        before = read(mesh)
        with mesh.door() as channel:
            for bucket in range(40, 60):
                answer(channel, slipway_bucket=str(bucket))
        grown = grown_since(mesh, before, stable=10, new=10)

    stable, new = counting.traffic(grown, "stable"), counting.traffic(grown, "new")
    assert (stable.count, stable.errors, sum(stable.by_latency.values())) == (10, 0, 10)
    assert (new.count, new.errors, new.server_errors) == (10, 10, 10)
    assert sum(new.by_latency.values()) == 10


def test_rollout_reads_what_became_of_mirrored_requests(mesh: House) -> None:
    put(mesh, 100, 0, shadow="v2", shadow_percent=100)
    with broken(mesh, "flowers-v2"):
        before = read(mesh)
        with mesh.door() as channel:
            for _ in range(30):
                answer(channel)
        grown = grown_since(mesh, before, shadow=30)

    shadow = counting.traffic(grown, "shadow")
    assert (shadow.count, shadow.errors, sum(shadow.by_latency.values())) == (30, 30, 30)
    assert counting.traffic(grown, "stable").errors == 0


def grown_since(mesh: House, before: Counters, **wanted: int) -> counting.Growth:
    """Return by how much the counters grew, once so many calls and their latencies are counted."""
    stop_at = time.monotonic() + 90
    while True:
        grown = counting.growth(before, read(mesh))
        found = {arm: counting.traffic(grown, arm) for arm in wanted}
        counts = {arm: {one.count, sum(one.by_latency.values())} for arm, one in found.items()}
        if counts == {arm: {count} for arm, count in wanted.items()} or time.monotonic() > stop_at:
            return grown


def flushes(mesh: House) -> str:
    return mesh.admin("/stats?filter=^server.uptime$")  # as of the last time that statistics were flushed


def read(mesh: House) -> Counters:
    """Return the counters after two flushes: histograms are merged in each, and one may be under way."""
    for _ in range(2):
        before = flushes(mesh)
        until(lambda before=before: flushes(mesh) != before)
    found = EnvoyCounters(f"http://127.0.0.1:{mesh.layout.envoy_admin}").read("flowers", "v1", "v2")
    assert found is not None
    return found


def answer(channel: grpc.Channel, **headers: str) -> None:
    with contextlib.suppress(grpc.RpcError):
        call(channel, slipway_endpoint="flowers", **headers)


@contextlib.contextmanager
def broken(mesh: House, name: str) -> Iterator[None]:
    echo = mesh.echoes[name]
    whole = echo.service
    echo.service = failing  # type: ignore[method-assign]
    try:
        yield
    finally:
        echo.service = whole  # type: ignore[method-assign]


def failing(details: Any) -> Any:
    def fail(request: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(grpc.StatusCode.INTERNAL, "broken")
        raise AssertionError

    return grpc.unary_unary_rpc_method_handler(fail)
