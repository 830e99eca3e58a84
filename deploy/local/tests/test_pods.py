"""Deployments become processes: with a program that answers gRPC health as its command."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from slipway_local import pods, probes
from slipway_local.layout import Layout
from slipway_local.pods import PodEndpoint, Pods
from slipway_local.ports import is_free

NAMESPACE = "slipway-models"
FRONT = """
import os, signal, sys, threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from concurrent.futures import ThreadPoolExecutor
import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
if "drain" in sys.argv:  # as the front does: 0 when all is delivered
    folder = sys.argv[sys.argv.index("--spool") + 1]
    sys.exit(os.path.exists(folder + "/refused"))
if os.environ.get("BROKEN") or os.path.exists(os.environ.get("BROKEN_FILE", "")):
    sys.exit("no model")
server = grpc.server(ThreadPoolExecutor(2))
servicer = health.HealthServicer()
refused = os.environ.get("REFUSED", "")
state = "NOT_SERVING" if refused else "SERVING"
servicer.set("", health_pb2.HealthCheckResponse.ServingStatus.Value(state))
class Probes(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if refused and self.path == "/readyz" else 200)
        self.end_headers()
        self.wfile.write(refused.encode())
probes = HTTPServer(("127.0.0.1", int(os.environ["SLIPWAY_HTTP_PORT"])), Probes)
threading.Thread(target=probes.serve_forever, daemon=True).start()
health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
server.add_insecure_port("127.0.0.1:" + os.environ["SLIPWAY_GRPC_PORT"])
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
server.start()
stop.wait()
"""


class Objects:
    """Holds Deployments and what was written to their status."""

    def __init__(self) -> None:
        self.revision = 0
        self.held: dict[str, dict[str, Any]] = {}

    def put(self, name: str, *, replicas: int = 1, deadline_s: float = 300, **environment: str) -> None:
        """Write a Deployment."""
        env = [{"name": key, "value": value} for key, value in environment.items()]
        mounts = [{"name": "state", "mountPath": "/var/lib/slipway"}]
        container = {"name": "inference", "args": ["serve"], "env": env, "volumeMounts": mounts}
        labels = {"app": name.rpartition("-")[0], "version": name.rpartition("-")[2]}
        self.revision += 1
        self.held[name] = {
            "metadata": {"name": name, "generation": self.revision},
            "spec": {
                "replicas": replicas,
                "progressDeadlineSeconds": deadline_s,
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        }

    def list(self, kind: str, namespace: str) -> list[dict[str, Any]]:
        """Return the Deployments."""
        assert (kind, namespace) == ("Deployment", NAMESPACE)
        return [*self.held.values()]

    def set_status(self, kind: str, namespace: str, name: str, status: dict[str, Any]) -> None:
        """Write a status."""
        if name in self.held:
            self.held[name]["status"] = status


class Loop:
    """Turns the pods and notes what takes traffic."""

    def __init__(self, layout: Layout) -> None:
        self.objects = Objects()
        self.routed: list[PodEndpoint] = []
        self.pods = Pods(
            layout=layout,
            cluster=self.objects,
            namespace=NAMESPACE,
            environment={},
            route_to=self._route,
            command=(sys.executable, "-c", FRONT),
            most_orphan_bytes=1000,
        )

    def until(self, condition: Callable[[], bool], within_s: float = 120.0) -> None:
        """Turn until the condition holds."""
        stop_at = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < stop_at, self.pods.report()
            self.pods.tick(lambda name: True)
            time.sleep(0.02)

    def status(self, name: str) -> dict[str, Any]:
        """Return a Deployment's status."""
        return dict(self.objects.held[name].get("status", {}))

    def processes(self) -> list[dict[str, Any]]:
        """Return the pods as the status shows them."""
        return list(self.pods.report()["pods"])

    def _route(self, pods: Sequence[PodEndpoint]) -> None:
        self.routed = [*pods]


@pytest.fixture
def loop(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    """Return pods that are stopped after the test; one that is slow to answer a probe is not dead."""
    monkeypatch.setattr(probes, "_TIMEOUT_S", 60.0)
    made = Loop(layout)
    yield made
    while not made.pods.stop():
        time.sleep(0.05)


def test_a_deployment_becomes_a_pod_that_takes_traffic_once_it_serves(loop: Loop, layout: Layout) -> None:
    loop.objects.put("flowers-v1")

    loop.until(lambda: loop.status("flowers-v1").get("readyReplicas") == 1)

    (pod,) = loop.routed
    assert dict(pod.labels) == {"app": "flowers", "version": "v1"}
    assert pod.port == layout.pod_ports(0)[0]
    assert loop.status("flowers-v1")["observedGeneration"] == 1


def test_a_pod_loses_its_traffic_before_it_is_stopped_also_when_the_supervisor_stalls(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pods, "_TRAFFIC_GONE_AFTER_S", 0.3)
    loop.objects.put("flowers-v1")
    loop.until(lambda: len(loop.routed) == 1)

    loop.objects.put("flowers-v1", replicas=0)
    loop.pods.tick(lambda name: True)
    time.sleep(0.4)
    loop.until(lambda: not loop.routed)
    states = [pod["state"] for pod in loop.processes()]
    loop.until(lambda: not loop.processes())

    assert states == ["ready"]
    loop.until(lambda: loop.status("flowers-v1")["replicas"] == 0)


def test_a_killed_pod_loses_its_traffic_at_once_and_comes_back(loop: Loop) -> None:
    loop.objects.put("flowers-v1")
    loop.until(lambda: len(loop.routed) == 1)

    pid = loop.processes()[0]["pid"]
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # it is dead, and the loop has not seen it yet
    loop.pods.tick(lambda name: True)
    after_one_turn = loop.routed
    loop.until(lambda: len(loop.routed) == 1)

    assert after_one_turn == []
    assert loop.processes()[0]["restarts"] == 1


def test_another_template_is_rolled_out_without_a_gap(loop: Loop) -> None:
    loop.objects.put("flowers-v1")
    loop.until(lambda: len(loop.routed) == 1)
    first = loop.routed[0].name

    loop.objects.put("flowers-v1", SLIPWAY_THREADS="2")
    gap = []
    loop.until(lambda: gap.append(not loop.routed) or [pod.name for pod in loop.routed] not in ([first], []))
    loop.until(lambda: len(loop.processes()) == 1)

    assert not any(gap)
    assert loop.routed[0].name != first


def test_a_restarted_pod_is_replaced_without_a_gap(loop: Loop) -> None:
    loop.objects.put("flowers-v1")
    loop.until(lambda: len(loop.routed) == 1)
    before = loop.processes()[0]

    known = loop.pods.restart(before["name"]), loop.pods.restart("other-v1-0")
    gap = []
    loop.until(lambda: gap.append(not loop.routed) or len(loop.processes()) == 2)
    loop.until(lambda: gap.append(not loop.routed) or len(loop.processes()) == 1)

    assert known == (True, False)
    assert not any(gap)
    assert loop.processes()[0]["name"] != before["name"]
    assert loop.status("flowers-v1")["readyReplicas"] == 1


def test_a_restarted_pod_stays_while_no_other_serves(loop: Loop, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    loop.objects.put("flowers-v1", BROKEN_FILE=str(broken))
    loop.until(lambda: len(loop.routed) == 1)
    first = loop.routed[0].name

    broken.touch()
    loop.pods.restart(first)
    loop.until(lambda: any(pod["restarts"] > 1 for pod in loop.processes()))
    still = [pod.name for pod in loop.routed]
    broken.unlink()
    loop.until(lambda: len(loop.processes()) == 1)

    assert still == [first]
    assert loop.routed[0].name != first


def test_a_pod_that_never_serves_is_reported_with_its_trouble(loop: Loop) -> None:
    loop.objects.put("flowers-v1", deadline_s=2, BROKEN="yes")

    def late() -> bool:
        conditions = loop.status("flowers-v1").get("conditions", [])
        return any(one.get("reason") == "ProgressDeadlineExceeded" for one in conditions)

    loop.until(late)
    loop.until(lambda: "exit code 1" in json.dumps(loop.status("flowers-v1")))

    assert late()
    assert loop.routed == []


def test_a_pod_whose_bundle_is_refused_says_why_long_before_its_deadline(loop: Loop) -> None:
    why = "slot flowers is REFUSED: golden.npz: output 'probabilities' is off by 0.5"
    loop.objects.put("flowers-v1", deadline_s=300, REFUSED=why)

    def failed() -> list[dict[str, str]]:
        conditions = loop.status("flowers-v1").get("conditions", [])
        return [one for one in conditions if one["type"] == "ReplicaFailure"]

    loop.until(lambda: bool(failed()))

    assert failed() == [
        {"type": "ReplicaFailure", "status": "True", "reason": "ModelRefused", "message": why}
    ]
    assert loop.routed == []


def test_a_pod_that_only_loads_is_not_said_to_have_failed(loop: Loop) -> None:
    loop.objects.put("flowers-v1", REFUSED="slot flowers is LOADING: the registry is away")

    loop.until(lambda: loop.processes() != [] and loop.processes()[0]["state"] == "starting")
    began = time.monotonic()
    loop.until(lambda: time.monotonic() - began > 4)

    assert [one["type"] for one in loop.status("flowers-v1")["conditions"]] == ["Available", "Progressing"]


def test_spools_of_pods_that_are_gone_are_bounded_and_that_of_a_pod_to_come_is_not_one(
    loop: Loop, layout: Layout
) -> None:
    slot = next(n for n in range(layout.pod_slots) if all(map(is_free, layout.pod_ports(n)[:2])))
    to_come = f"flowers-v1-{slot}"
    for pod in (to_come, "gone-v1-1"):
        (layout.spool / pod).mkdir()
        (layout.spool / pod / "000000000000.events").write_bytes(b"x" * 2000)
    loop.objects.put("flowers-v1")

    loop.until(lambda: not (layout.spool / "gone-v1-1").exists())

    assert (layout.spool / to_come).exists()


def test_what_a_pod_left_is_drained_and_removed_and_a_living_pods_spool_is_not(
    loop: Loop, layout: Layout
) -> None:
    loop.objects.put("flowers-v1")
    loop.until(lambda: len(loop.routed) == 1)
    living = loop.processes()[0]["name"]
    for pod in (living, "gone-v1-30"):
        (layout.spool / pod).mkdir()
        (layout.spool / pod / "0.events").write_bytes(b"x")

    loop.until(lambda: [path.name for path in layout.spool.iterdir()] == [living])

    assert (layout.spool / living / "0.events").exists()


def test_what_cannot_be_drained_is_kept_aside_and_does_not_keep_the_others_from_it(
    loop: Loop, layout: Layout
) -> None:
    for pod, refused in (("first-v1-30", True), ("second-v1-31", False)):
        (layout.spool / pod).mkdir()
        (layout.spool / pod / ("refused" if refused else "0.events")).write_bytes(b"x")

    loop.until(lambda: not any(path.name.startswith("second") for path in layout.spool.iterdir()))

    (kept,) = layout.spool.iterdir()
    assert kept.name.startswith("first-v1-30.left-")
    assert (kept / "refused").exists()


def test_a_pod_that_comes_back_under_its_name_does_not_meet_its_orphan(loop: Loop, layout: Layout) -> None:
    loop.objects.put("flowers-v1")
    loop.until(lambda: len(loop.routed) == 1)
    name = loop.processes()[0]["name"]
    loop.objects.put("flowers-v1", replicas=0)
    loop.until(lambda: not loop.processes())
    names = {name, "flowers-v1-0"}  # the first again, when it was replaced because it was slow
    for orphan in names:
        (layout.spool / orphan).mkdir(exist_ok=True)
        (layout.spool / orphan / "refused").write_bytes(b"x")
    loop.until(lambda: not any((layout.spool / orphan).exists() for orphan in names))

    loop.objects.put("flowers-v1")
    loop.until(lambda: len(loop.routed) == 1)

    came = loop.processes()[0]["name"]
    assert came in names
    assert not (layout.spool / came / "refused").exists()


def test_mounted_paths_lie_below_the_state_folder(loop: Loop, layout: Layout) -> None:
    from slipway_local.pods import container_environment

    loop.objects.put("flowers-v1", SLIPWAY_CACHE="/var/lib/slipway/cache", SLIPWAY_THREADS="2")
    spec = loop.objects.held["flowers-v1"]["spec"]["template"]["spec"]

    environment = container_environment(spec, layout, "flowers-v1-0")

    assert Path(environment["SLIPWAY_CACHE"]) == layout.pods / "flowers-v1-0" / "state" / "cache"
    assert environment["SLIPWAY_THREADS"] == "2"
