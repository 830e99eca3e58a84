"""The Istio objects of `deploy/istio`, and the questions that the renderer asks of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]

FOLDER = Path(__file__).resolve().parents[3] / "istio"
REST_GATEWAY = "slipway/rest"
GRPC_GATEWAY = "slipway/grpc"
MODELS = "slipway-models"
RPC_PORT = 8500
INGRESS = "ingress"
_INGRESS_ACCOUNT = "cluster.local/ns/istio-system/sa/istio-ingressgateway-service-account"


class ObjectError(Exception):
    """An object that cannot be enforced; the text names it and what is wrong."""


def spiffe_id(identity: str) -> str:
    """Return the SPIFFE id of a service, of model pods, or of the doors."""
    if identity == INGRESS:
        return f"spiffe://{_INGRESS_ACCOUNT}"
    namespace = MODELS if identity == "inference" else "slipway"
    return f"spiffe://cluster.local/ns/{namespace}/sa/{identity}"


@dataclass(frozen=True)
class IstioObjects:
    """The static objects."""

    manifests: tuple[Manifest, ...]

    @classmethod
    def read(cls, folder: Path = FOLDER) -> "IstioObjects":
        """Return every object of the folder's YAML files.

        Raises:
            ObjectError: There are none: the folder is missing.
        """
        paths = sorted(path for path in folder.glob("*.yaml") if path.name != "kustomization.yaml")
        found = [one for path in paths for one in yaml.safe_load_all(path.read_text()) if one]
        if not found:
            raise ObjectError(f"{folder} holds no Istio objects; run from a whole clone")
        return cls(tuple(found))

    def of(self, kind: str, namespace: str = "") -> Iterator[Manifest]:
        """Yield the objects of a kind."""
        for manifest in self.manifests:
            if manifest["kind"] == kind and namespace in ("", manifest["metadata"]["namespace"]):
                yield manifest

    def door_routes(self, gateway: str) -> list[Manifest]:
        """Return the HTTP routes of the door that is this Gateway."""
        found: list[Manifest] = []
        for manifest in self.of("VirtualService"):
            if gateway in manifest["spec"].get("gateways", []) and manifest["spec"]["hosts"] == ["*"]:
                found += manifest["spec"]["http"]
        return found

    def mesh_services(self) -> Iterator[tuple[str, list[Manifest]]]:
        """Yield host and routes of every service's RPCs inside the mesh; other ports are dialled directly."""
        for manifest in self.of("VirtualService"):
            if "gateways" not in manifest["spec"]:
                routes = [route for route in manifest["spec"]["http"] if _takes_rpcs(route)]
                yield manifest["spec"]["hosts"][0], routes

    def http_filter(self, name: str) -> Manifest:
        """Return the HTTP filter that the EnvoyFilter of that name inserts.

        Raises:
            ObjectError: There is none.
        """
        for manifest in self.of("EnvoyFilter"):
            if manifest["metadata"]["name"] == name:
                return dict(manifest["spec"]["configPatches"][0]["patch"]["value"])
        raise ObjectError(f"there is no EnvoyFilter {name!r} in deploy/istio; run from a whole clone")

    def issuers(self, workload: str, namespace: str) -> list[Manifest]:
        """Return the JWT rules that hold for a workload."""
        return [
            rule
            for manifest in self.of("RequestAuthentication", namespace)
            if _selects(manifest, workload)
            for rule in manifest["spec"]["jwtRules"]
        ]

    def policies(self, workload: str, namespace: str) -> list[Manifest]:
        """Return the AuthorizationPolicies that hold for a workload."""
        return [m for m in self.of("AuthorizationPolicy", namespace) if _selects(m, workload)]


def _selects(manifest: Manifest, workload: str) -> bool:
    labels = manifest["spec"].get("selector", {}).get("matchLabels", {})
    return not labels or labels.get("app.kubernetes.io/name") == workload


def _takes_rpcs(route: Manifest) -> bool:
    ports = [match["port"] for match in route.get("match") or [] if "port" in match]
    return not ports or RPC_PORT in ports


def host_name(host: str) -> str:
    """Return the first label of a host in the mesh."""
    return host.partition(".")[0]
