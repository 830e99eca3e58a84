"""Model pods: makes processes of the Deployments that the Kubernetes API holds, as a cluster would.

A pod takes traffic while its gRPC health says SERVING; it loses traffic before it is stopped. What came of a
Deployment is written back to its status, so that the rollout service sees the same fields as on a cluster.
"""

import hashlib
import json
import logging
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from slipway_local import deployments, spools
from slipway_local.drains import Drains
from slipway_local.layout import HOST, Layout
from slipway_local.ports import is_free
from slipway_local.probes import grpc_serving, http_ok, http_refusal
from slipway_local.processes import Process, Program, State
from slipway_local.servers import Server
from slipway_local.supervisor import describe

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0
_PROBE_EVERY_S = 1.0
_SPOOLS_EVERY_S = 30.0
_TRAFFIC_GONE_AFTER_S = 1.5
_NEEDED = ("envoy", "registry")
_REFUSED = " is REFUSED: "  # as a front's /readyz says that it will never serve what it was given


@dataclass(frozen=True)
class PodEndpoint:
    """A pod that takes traffic: where, and by which labels Services and subsets select it."""

    name: str
    namespace: str
    labels: tuple[tuple[str, str], ...]
    port: int
    inbound_port: int


class Cluster(Protocol):
    """What the pods need of the Kubernetes API."""

    @property
    def revision(self) -> int:
        """Grows with every write."""

    def list(self, kind: str, namespace: str) -> list[dict[str, Any]]:
        """Return the objects of a kind."""

    def set_status(self, kind: str, namespace: str, name: str, status: dict[str, Any]) -> None:
        """Write an object's status; nothing happens when it is gone."""


class Pod:
    """One process of a Deployment's template."""

    def __init__(
        self, *, name: str, deployment: str, template: dict[str, Any], slot: int, process: Process
    ) -> None:
        self.name = name
        self.deployment = deployment
        self.slot = slot
        self._digest = digest(template)
        self.labels = tuple(sorted(template["metadata"].get("labels", {}).items()))
        self.process = process
        self.serving = False
        self.leaving = False
        self.unrouted_since: float | None = None
        self.refused = ""
        self.replaced = False
        self._answer: Future[bool] | None = None
        self._probe_at = 0.0
        self._missed = 0
        self._why: Future[str | None] | None = None
        self._why_at = 0.0

    def is_of(self, template: dict[str, Any]) -> bool:
        """Say whether it is as the template says, and is to stay."""
        return not self.replaced and self._digest == digest(template)

    def probe(self, background: ThreadPoolExecutor, ask: Callable[[], bool]) -> None:
        """Keep `serving` true to the health service; two misses in a row count, one does not."""
        if self.process.state is not State.READY:
            self.serving, self._answer, self._missed = False, None, 0
            return
        if self._answer is None:
            if not self.serving and not self._missed:
                self.serving = True  # the start's probe has just said so
            if time.monotonic() >= self._probe_at:
                self._answer = background.submit(ask)
            return
        if self._answer.done():
            self._missed = 0 if self._answer.result() else self._missed + 1
            self.serving = self._missed == 0 or (self.serving and self._missed < 2)
            self._answer, self._probe_at = None, time.monotonic() + _PROBE_EVERY_S

    def ask_why(self, background: ThreadPoolExecutor, ask: Callable[[], str | None]) -> None:
        """Keep `refused` true to what a pod that does not serve says of itself."""
        if self.serving:
            self.refused = ""
        elif self._why is None and time.monotonic() >= self._why_at:
            self._why = background.submit(ask)
        elif self._why is not None and self._why.done():
            said = self._why.result()
            if said is not None:  # without an answer, as between two starts, the last one holds
                self.refused = said if _REFUSED in said else ""
            self._why, self._why_at = None, time.monotonic() + _PROBE_EVERY_S


class Pods:
    """Reconciles Deployments into processes; a companion of the supervisor.

    Args:
        layout: Of the platform.
        cluster: Holds the Deployments.
        namespace: Of the Deployments.
        environment: Settings of every pod; they win over the template's.
        route_to: Told of the pods that take traffic, whenever these change.
        command: What the image runs; a container's `args` follow.
        most_orphan_bytes: Of events that pods left behind; more are removed, the oldest first.
    """

    def __init__(
        self,
        *,
        layout: Layout,
        cluster: Cluster,
        namespace: str,
        environment: dict[str, str],
        route_to: Callable[[Sequence[PodEndpoint]], None],
        command: Sequence[str] = (sys.executable, "-m", "slipway_inference.main"),
        most_orphan_bytes: int = spools.MOST_ORPHAN_BYTES,
    ) -> None:
        self._layout = layout
        self._cluster = cluster
        self._namespace = namespace
        self._environment = environment
        self._route_to = route_to
        self._command = tuple(command)
        self._most_orphan_bytes = most_orphan_bytes
        self._spools_at = 0.0
        self._background = ThreadPoolExecutor(max_workers=8, thread_name_prefix="pod-probe")
        self._drains = Drains(
            layout=layout, environment=environment, command=command, background=self._background
        )
        self._pods: dict[str, Pod] = {}
        self._routed: list[PodEndpoint] | None = None
        self._looked: tuple[int, float] = (-1, 0.0)
        self._begun: dict[str, tuple[int, float]] = {}
        self._statuses: dict[str, str] = {}

    def tick(self, ready: Callable[[str], bool]) -> None:
        """Make pods what the Deployments say, one step."""
        self._turn()
        if not all(ready(name) for name in _NEEDED):
            return
        revision, now = self._cluster.revision, time.monotonic()
        if revision != self._looked[0] or now - self._looked[1] > _LOOK_EVERY_S:
            self._looked = (revision, now)
            found = {
                one["metadata"]["name"]: one for one in self._cluster.list("Deployment", self._namespace)
            }
            self._reconcile(found)
            self._write_statuses(found)
            self._bound_spools(now)
        if ready("monitoring"):
            self._drains.tick(self._pods)

    def _bound_spools(self, now: float) -> None:
        """Once all pods are there that should be: before, each spool looks like an orphan's."""
        if now >= self._spools_at:
            kept = {*self._pods, self._drains.busy_with}
            spools.bound(self._layout.spool, kept, self._most_orphan_bytes)
            self._spools_at = now + _SPOOLS_EVERY_S

    def report(self) -> dict[str, Any]:
        """Return the pods for the status, and what spools of theirs still hold."""
        return {
            "pods": [
                describe(pod.process) | {"serving": pod.serving, "replaced": pod.replaced}
                for pod in self._pods.values()
            ]
        }

    def restart(self, name: str) -> bool:
        """Let another pod take its place, as after a new template: it goes once the other one serves."""
        pod = self._pods.get(name)
        if pod is None:
            return False
        pod.replaced = True
        self._looked = (-1, 0.0)
        return True

    def stop(self) -> bool:
        """Take all traffic away, then stop all pods."""
        for pod in self._pods.values():
            pod.process.stop()
        drained = self._drains.stop()
        self._turn(routing=False)
        if self._pods or not drained:
            return False
        self._background.shutdown()
        return True

    def _turn(self, routing: bool = True) -> None:
        for pod in list(self._pods.values()):
            pod.process.tick()
            ports = self._layout.pod_ports(pod.slot)
            pod.probe(self._background, grpc_serving(ports[0]))
            pod.ask_why(self._background, http_refusal(ports[1], "/readyz"))
            if pod.process.state is State.STOPPED:
                del self._pods[pod.name]
        if routing:
            self._route()
        for pod in self._pods.values():
            gone = pod.unrouted_since
            if gone is not None and time.monotonic() - gone > _TRAFFIC_GONE_AFTER_S:
                pod.process.stop()

    def _route(self) -> None:
        routed = [
            PodEndpoint(pod.name, self._namespace, pod.labels, *self._layout.pod_ports(pod.slot)[::2])
            for pod in self._pods.values()
            if pod.serving and not pod.leaving
        ]
        if routed != self._routed:
            self._route_to(routed)
            self._routed = routed
        for pod in self._pods.values():
            if pod.leaving and pod.unrouted_since is None:
                pod.unrouted_since = time.monotonic()

    def _reconcile(self, found: dict[str, dict[str, Any]]) -> None:
        for name, deployment in found.items():
            template = deployment["spec"]["template"]
            wanted = int(deployment["spec"].get("replicas", 1))
            current = [pod for pod in self._of(name) if pod.is_of(template)]
            for _ in range(wanted - len(current)):
                self._add(name, template)
            for pod in current[wanted:]:
                pod.leaving = True
            if sum(pod.serving for pod in current) >= wanted:
                for pod in self._of(name):
                    if not pod.is_of(template):
                        pod.leaving = True
        for pod in self._pods.values():
            if pod.deployment not in found:
                pod.leaving = True

    def _of(self, deployment: str) -> list[Pod]:
        return [pod for pod in self._pods.values() if pod.deployment == deployment and not pod.leaving]

    def _add(self, deployment: str, template: dict[str, Any]) -> None:
        slot = self._free_slot()
        if slot is None:
            log.error("no ports are left for a pod of %s; scale another down", deployment)
            return
        name = f"{deployment}-{slot}"
        shutil.rmtree(self._layout.pods / name, ignore_errors=True)
        process = Process(
            self._program(name, template, slot),
            logs=self._layout.logs,
            mark=str(self._layout.state),
            background=self._background,
        )
        self._pods[name] = Pod(
            name=name, deployment=deployment, template=template, slot=slot, process=process
        )
        process.start()

    def _free_slot(self) -> int | None:
        used = {pod.slot for pod in self._pods.values()}
        for slot in range(self._layout.pod_slots):
            if slot not in used and all(is_free(port) for port in self._layout.pod_ports(slot)[:2]):
                return slot
        return None

    def _program(self, name: str, template: dict[str, Any], slot: int) -> Program:
        port, http_port, _ = self._layout.pod_ports(slot)
        spec = template["spec"]
        environment = container_environment(spec, self._layout, name) | self._environment
        environment |= {
            "SLIPWAY_HOST": HOST,
            "SLIPWAY_GRPC_PORT": str(port),
            "SLIPWAY_HTTP_PORT": str(http_port),
            "SLIPWAY_SPOOL_DIR": str(self._layout.spool / name),
        }
        server = Server(
            name=name,
            command=(*self._command, *spec["containers"][0].get("args", ["serve"])),
            ports=(port, http_port),
            ready=grpc_serving(port),
            stop_within_s=float(spec.get("terminationGracePeriodSeconds", 30)),
            ready_within_s=300,
            environment=environment,
            folder=self._layout.work,
        )
        return Program(name, lambda: server, alive=http_ok(http_port, "/healthz"))

    def _write_statuses(self, found: dict[str, dict[str, Any]]) -> None:
        for name, deployment in found.items():
            generation = int(deployment["metadata"].get("generation", 0))
            if self._begun.get(name, (-1, 0.0))[0] != generation:
                self._begun[name] = (generation, time.monotonic())
            mine = [pod for pod in self._pods.values() if pod.deployment == name]
            current = [pod for pod in mine if pod.is_of(deployment["spec"]["template"])]
            status = deployments.status(
                deployment,
                replicas=len(mine),
                updated=len(current),
                ready=sum(pod.serving for pod in mine if not pod.leaving),
                age_s=time.monotonic() - self._begun[name][1],
                trouble="; ".join(f"{pod.name} {pod.process.trouble}" for pod in mine if pod.process.trouble),
                refused=next((pod.refused for pod in current if pod.refused), ""),
            )
            text = json.dumps(status, sort_keys=True)
            if self._statuses.get(name) != text:
                self._cluster.set_status("Deployment", self._namespace, name, status)
                self._statuses[name] = text
        self._statuses = {name: text for name, text in self._statuses.items() if name in found}


def digest(template: dict[str, Any]) -> str:
    """Return a digest of a pod template: another one makes other pods."""
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]


def container_environment(spec: dict[str, Any], layout: Layout, pod: str) -> dict[str, str]:
    """Return a container's variables, with its mounts put where a laptop has them.

    An `emptyDir` becomes a folder below `.slipway/pods/<pod>`, empty at the pod's start. Events are not kept
    in it but in `.slipway/spool/<pod>`, where they outlive the pod.
    """
    container = spec["containers"][0]
    places = {}
    for mount in container.get("volumeMounts", []):
        local = layout.tokens if mount["name"] == "token" else layout.pods / pod / mount["name"]
        if mount["name"] != "token":
            local.mkdir(parents=True, exist_ok=True)
        places[mount["mountPath"]] = local
    pairs = ((one["name"], str(one.get("value", ""))) for one in container.get("env", []))
    return {name: _placed(value, places) for name, value in pairs}


def _placed(value: str, places: dict[str, Path]) -> str:
    for mounted, local in places.items():
        if value == mounted or value.startswith(f"{mounted}/"):
            return f"{local}{value.removeprefix(mounted)}"
    return value
