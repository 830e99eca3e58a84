"""The objects that an overlay makes, and how a finding about one reads."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]
WORKLOADS = ("Deployment", "StatefulSet")


@dataclass(frozen=True)
class Finding:
    """Something wrong: where, which field, and what."""

    where: str
    field: str
    problem: str

    def __str__(self) -> str:
        return f"{self.where}: {self.field}: {self.problem}"


@dataclass(frozen=True)
class Pod:
    """The pods of one workload: what they are called, who they are, what runs in them."""

    where: str
    kind: str
    name: str
    namespace: str
    labels: dict[str, str]
    annotations: dict[str, str]
    claims: tuple[str, ...]
    spec: Manifest

    def containers(self) -> Iterator[tuple[str, Manifest]]:
        """Yield every container with its path in the pod's spec."""
        for group in ("initContainers", "containers"):
            for index, container in enumerate(self.spec.get(group) or []):
                yield f"{group}[{index}]", container


class Objects:
    """What stands in a cluster once an overlay is applied.

    Args:
        manifests: All of them, as read.
    """

    def __init__(self, manifests: list[Manifest]) -> None:
        self.all = manifests

    def of(self, *kinds: str) -> Iterator[Manifest]:
        """Yield the objects of these kinds."""
        return (manifest for manifest in self.all if manifest["kind"] in kinds)

    def find(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """Return an object, or None."""
        for manifest in self.of(kind):
            if (namespace_of(manifest), manifest["metadata"]["name"]) == (namespace, name):
                return manifest
        return None

    def pods(self) -> Iterator[Pod]:
        """Yield the pods of every workload."""
        for manifest in self.of(*WORKLOADS):
            template = manifest["spec"]["template"]
            yield Pod(
                where=where(manifest),
                kind=manifest["kind"],
                name=manifest["metadata"]["name"],
                namespace=namespace_of(manifest),
                labels=template["metadata"].get("labels") or {},
                annotations=template["metadata"].get("annotations") or {},
                claims=tuple(
                    claim["metadata"]["name"] for claim in manifest["spec"].get("volumeClaimTemplates") or []
                ),
                spec=template["spec"],
            )

    def hit_by(self, selector: dict[str, str], namespace: str) -> list[Pod]:
        """Return the pods in a namespace that have all labels of a selector; Istio's own are not here."""
        return [
            pod
            for pod in self.pods()
            if pod.namespace == namespace and selector.items() <= pod.labels.items()
        ]


def namespace_of(manifest: Manifest) -> str:
    """Return the object's namespace; nothing for a kind that has none."""
    return str(manifest["metadata"].get("namespace", ""))


def where(manifest: Manifest) -> str:
    """Return how a finding calls the object."""
    namespace = namespace_of(manifest)
    return f"{manifest['kind']} {namespace + '/' if namespace else ''}{manifest['metadata']['name']}"


def render(root: Path, overlay: str) -> Objects:
    """Return what `kubectl kustomize` makes of an overlay; kubectl is the wheel's.

    Raises:
        RuntimeError: kustomize refused the files; the text is its own.
    """
    kubectl = Path(sys.executable).with_name("kubectl")
    command = [str(kubectl), "kustomize", str(root / "deploy/k8s/overlays" / overlay)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return Objects([manifest for manifest in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader) if manifest])


def endpoint_objects() -> list[Manifest]:
    """Return what rollout writes for an endpoint with a split, a tester route and a shadow.

    They are as much part of the cluster as the files are, so they pass the same checks. The settings are
    those that the files give to rollout, as far as they matter here.
    """
    from slipway_rollout.domain import Endpoint, ServedVersion, State
    from slipway_rollout.engine import manifests

    placement = manifests.Placement(
        namespace="slipway-models",
        image="slipway-inference",
        service_account="inference",
        gateway="slipway/grpc",
        environment=(),
        cpu_request="250m",
        cpu_limit="2",
        memory_request="512Mi",
        memory_limit="2Gi",
        progress_deadline_s=300,
    )
    versions = tuple(
        ServedVersion(f"models/numbers/versions/{number}", weight, State.READY, routed=True)
        for number, weight in ((1, 90), (2, 10), (3, 0))
    )
    endpoint = Endpoint("numbers", "models/numbers", versions=versions, shadow="v3", shadow_percent=100)
    return [
        manifests.service(endpoint, placement),
        manifests.destination_rule(endpoint, ["v1", "v2", "v3"], placement),
        manifests.virtual_service(endpoint, versions, placement),
        *(manifests.deployment(endpoint, version, placement) for version in versions),
    ]
