"""Seeded faults: each is one slip that a person could make, and what must be said about it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Manifest = dict[str, Any]
Change = Callable[[list[Manifest]], None]
BASE = "deploy/k8s/base"


@dataclass(frozen=True)
class Fault:
    """One slip in a file (`old` becomes `new` once), or in an object (`change`).

    `place` and `field` are what the finding must name.
    """

    id: str
    place: str
    field: str
    file: str = ""
    old: str = ""
    new: str = ""
    change: Change | None = None
    overlay: str = "dev"

    def plant(self, root: Path) -> None:
        """Make the slip in a copy of the files."""
        if not self.file:
            return
        path = root / self.file
        text = path.read_text()
        assert self.old in text, f"{self.file} has no {self.old!r} any more: renew the fault {self.id}"
        path.write_text(text.replace(self.old, self.new, 1))


def _one(objects: list[Manifest], kind: str, name: str) -> Manifest:
    return next(o for o in objects if (o["kind"], o["metadata"]["name"]) == (kind, name))


def _route(objects: list[Manifest], name: str) -> Manifest:
    routes = _one(objects, "VirtualService", "numbers")["spec"]["http"]
    return dict.__getitem__({route["name"]: route for route in routes}, name)


def _weight(value: int) -> Change:
    def change(objects: list[Manifest]) -> None:
        _route(objects, "split")["route"][1]["weight"] = value

    return change


def _lose_subset(objects: list[Manifest]) -> None:
    del _one(objects, "DestinationRule", "numbers")["spec"]["subsets"][1]


def _misspell_retries(objects: list[Manifest]) -> None:
    _route(objects, "split")["retrys"] = _route(objects, "split").pop("retries")


def _mirror_elsewhere(objects: list[Manifest]) -> None:
    _route(objects, "split")["mirror"]["subset"] = "shade"


def _other_gateway(objects: list[Manifest]) -> None:
    _one(objects, "VirtualService", "numbers")["spec"]["gateways"] = ["mesh", "slipway/back-door"]


def _other_host(objects: list[Manifest]) -> None:
    _route(objects, "split")["route"][0]["destination"]["host"] = "letters.slipway-models.svc.cluster.local"


def _other_port(objects: list[Manifest]) -> None:
    _route(objects, "split")["route"][0]["destination"]["port"] = {"number": 8700}


def _label_without_pods(objects: list[Manifest]) -> None:
    _one(objects, "DestinationRule", "numbers")["spec"]["subsets"][0]["labels"] = {"version": "v9"}


def _no_duration(objects: list[Manifest]) -> None:
    _route(objects, "split")["timeout"] = "5 seconds"


def _unread_variable(objects: list[Manifest]) -> None:
    container = _one(objects, "Deployment", "numbers-v1")["spec"]["template"]["spec"]["containers"][0]
    container["env"].append({"name": "SLIPWAY_SLOT", "value": "numbers=models/numbers/versions/1"})


def _first_policy(objects: list[Manifest]) -> Manifest:
    """Return the rule source with principals that stands first in the files."""
    for policy in (o for o in objects if o["kind"] == "AuthorizationPolicy"):
        for rule in policy["spec"].get("rules") or []:
            for source in rule.get("from") or []:
                if source["source"].get("principals"):
                    return dict.__getitem__({"source": source["source"]}, "source")
    raise AssertionError("no AuthorizationPolicy names a principal any more")


def _wrong_principal(objects: list[Manifest]) -> None:
    _first_policy(objects)["principals"][0] = "cluster.local/ns/slipway/sa/regsitry"


def _policy_without_pods(objects: list[Manifest]) -> None:
    policy = _one(objects, "AuthorizationPolicy", "registry")
    labels = policy["spec"]["selector"]["matchLabels"]
    labels[next(iter(labels))] = "regsitry"


_SPLIT = ("VirtualService slipway-models/numbers", "spec.http[split]")
_REGISTRY = ("Deployment slipway/registry", f"{BASE}/registry/deployment.yaml")
_SKAFFOLD = "skaffold.yaml"

FAULTS = (
    Fault("negative-weight", _SPLIT[0], f"{_SPLIT[1]}.route.weight: -5", change=_weight(-5)),
    Fault(
        "weights-not-100", _SPLIT[0], f"{_SPLIT[1]}.route.weight: the weights sum to 95", change=_weight(5)
    ),
    Fault("lost-subset", _SPLIT[0], f"{_SPLIT[1]}.route.destination.subset", change=_lose_subset),
    Fault("misspelt-istio-field", _SPLIT[0], "retrys", change=_misspell_retries),
    Fault(
        "mirror-to-no-subset", _SPLIT[0], f"{_SPLIT[1]}.mirror.destination.subset", change=_mirror_elsewhere
    ),
    Fault("unknown-gateway", _SPLIT[0], "spec.gateways", change=_other_gateway),
    Fault("unknown-host", _SPLIT[0], f"{_SPLIT[1]}.route.destination.host", change=_other_host),
    Fault("unknown-route-port", _SPLIT[0], f"{_SPLIT[1]}.route.destination.port", change=_other_port),
    Fault("no-duration", _SPLIT[0], "timeout", change=_no_duration),
    Fault(
        "subset-hits-no-pod",
        "DestinationRule slipway-models/numbers",
        "spec.subsets[v1].labels",
        change=_label_without_pods,
    ),
    Fault(
        "model-pod-variable-unread",
        "Deployment slipway-models/numbers-v1",
        "env.SLIPWAY_SLOT",
        change=_unread_variable,
    ),
    Fault("wrong-principal", "AuthorizationPolicy", "from.principals", change=_wrong_principal),
    Fault("policy-hits-no-pod", "AuthorizationPolicy", "spec.selector", change=_policy_without_pods),
    Fault(
        "service-hits-no-pod",
        "Service slipway/registry",
        "spec.selector",
        f"{BASE}/registry/service.yaml",
        "{app: registry}",
        "{app: regsitry}",
    ),
    Fault(
        "deployment-selects-others",
        _REGISTRY[0],
        "spec.selector",
        _REGISTRY[1],
        "matchLabels: {app: registry}",
        "matchLabels: {app: gateway}",
    ),
    Fault("misspelt-field", _REGISTRY[0], "'revisionHistoryLimits'", _REGISTRY[1], "Limit: 3", "Limits: 3"),
    Fault("wrong-type", _REGISTRY[0], "runAsGroup", _REGISTRY[1], "runAsGroup: 10001", "runAsGroup: slipway"),
    Fault("request-above-limit", _REGISTRY[0], "requests.cpu", _REGISTRY[1], "{cpu: 50m", '{cpu: "3"'),
    Fault("no-quantity", _REGISTRY[0], "limits.memory", _REGISTRY[1], "256Mi", "256MB"),
    Fault(
        "probe-asks-no-port",
        _REGISTRY[0],
        "readinessProbe",
        _REGISTRY[1],
        "{port: 8500}\n            periodSeconds: 5",
        "{port: 8600}\n            periodSeconds: 5",
    ),
    Fault(
        "runs-as-root",
        _REGISTRY[0],
        "securityContext.runAsUser",
        _REGISTRY[1],
        "runAsUser: 10001",
        "runAsUser: 0",
    ),
    Fault(
        "privileges",
        _REGISTRY[0],
        "allowPrivilegeEscalation",
        _REGISTRY[1],
        "Escalation: false",
        "Escalation: true",
    ),
    Fault(
        "writable-root",
        _REGISTRY[0],
        "readOnlyRootFilesystem",
        _REGISTRY[1],
        "readOnlyRootFilesystem: true",
        "readOnlyRootFilesystem: false",
        overlay="prod",
    ),
    Fault("no-account", _REGISTRY[0], "serviceAccountName", _REGISTRY[1], "Name: registry", "Name: regsitry"),
    Fault("no-volume", _REGISTRY[0], "volumeMounts", _REGISTRY[1], "{name: scratch, m", "{name: scrap, m"),
    Fault(
        "no-config-map", _REGISTRY[0], "envFrom", _REGISTRY[1], "{name: slipway-platform}", "{name: platform}"
    ),
    Fault("no-secret-key", _REGISTRY[0], "env.SLIPWAY_DATABASE_URL", _REGISTRY[1], "key: url", "key: uri"),
    Fault(
        "no-image",
        _REGISTRY[0],
        "containers[0].image",
        _REGISTRY[1],
        "registry\n          image: slipway-registry",
        "registry\n          image: slipway-regsitry",
    ),
    Fault(
        "unread-variable",
        "Deployment slipway/rollout",
        "env.SLIPWAY_REGISTY",
        f"{BASE}/rollout/service/deployment.yaml",
        "SLIPWAY_REGISTRY",
        "SLIPWAY_REGISTY",
    ),
    Fault(
        "refused-value",
        "Deployment slipway/rollout",
        "SLIPWAY_GRPC_PORT",
        f"{BASE}/platform/settings.yaml",
        '"8500"',
        '"85oo"',
    ),
    Fault(
        "port-without-protocol",
        "Service slipway/registry",
        "spec.ports.api",
        f"{BASE}/registry/service.yaml",
        "{name: grpc, port: 8500, targetPort: 8500, appProtocol: grpc}",
        "{name: api, port: 8500, targetPort: 8500}",
    ),
    Fault(
        "port-to-nowhere",
        "Service slipway/registry",
        "spec.ports.grpc",
        f"{BASE}/registry/service.yaml",
        "targetPort: 8500",
        "targetPort: 8502",
    ),
    Fault(
        "budget-hits-no-pod",
        "PodDisruptionBudget slipway/registry",
        "spec.selector",
        f"{BASE}/registry/disruption-budget.yaml",
        "{app: registry}",
        "{app: regsitry}",
    ),
    Fault(
        "scales-nothing",
        "HorizontalPodAutoscaler slipway/gateway",
        "spec.scaleTargetRef",
        "deploy/k8s/overlays/prod/gateway-autoscaler.yaml",
        "kind: Deployment, name: gateway",
        "kind: Deployment, name: gatway",
        overlay="prod",
    ),
    Fault(
        "too-many-rights",
        "Role slipway-models/rollout",
        "rules.secrets: 'get' is more",
        f"{BASE}/rollout/role.yaml",
        "resources: [services]",
        "resources: [services, secrets]",
    ),
    Fault(
        "too-few-rights",
        "Role slipway-models/rollout",
        "rules.virtualservices: 'patch' is missing",
        f"{BASE}/rollout/role.yaml",
        "destinationrules]\n    verbs: [get, create, patch, delete]",
        "destinationrules]\n    verbs: [get, create, delete]",
    ),
    Fault(
        "weights-policy-not-bound",
        "ValidatingAdmissionPolicy",
        "spec.policyName",
        f"{BASE}/rollout/admission-policy.yaml",
        "policyName: slipway-route-weights",
        "policyName: slipway-weights",
    ),
    Fault(
        "image-runs-as-root",
        "Dockerfile",
        "stage service",
        "Dockerfile",
        'USER 10001:10001\nENTRYPOINT ["/opt/venv/bin/service"]',
        'USER root\nENTRYPOINT ["/opt/venv/bin/service"]',
    ),
    Fault(
        "unpinned-image", "Dockerfile", "DL3007", "Dockerfile", "python:3.11-slim-bookworm", "python:latest"
    ),
    Fault(
        "copies-nothing", "Dockerfile", "COPY protos", "Dockerfile", "COPY proto proto", "COPY protos proto"
    ),
    Fault("no-stage", f"{_SKAFFOLD} gateway", "docker.target", _SKAFFOLD, "target: service", "target: serve"),
    Fault("no-module", _SKAFFOLD, "requires: there is no module", _SKAFFOLD, "[registry]", "[regsitry]"),
    Fault("other-schema", f"{_SKAFFOLD} slipway", "apiVersion", _SKAFFOLD, "v4beta13", "v4beta99"),
    Fault(
        "no-overlay",
        f"{_SKAFFOLD} slipway",
        "manifests.kustomize.paths",
        _SKAFFOLD,
        "overlays/prod",
        "overlays/live",
    ),
    Fault(
        "sync-of-nothing",
        f"{_SKAFFOLD} rollout",
        "sync.manual.src",
        _SKAFFOLD,
        "src: services/rollout/slipway_rollout",
        "src: services/rollout/slipway_roll",
    ),
    Fault(
        "forwards-nothing",
        f"{_SKAFFOLD} slipway",
        "portForward",
        _SKAFFOLD,
        "resourceName: slipway-doors",
        "resourceName: slipway-door",
    ),
)
