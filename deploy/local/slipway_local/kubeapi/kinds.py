"""The kinds that are served, and which fields they have.

A field that is not listed here is refused when the caller asks for strict validation, in the words of the
real API server. What is listed is what the platform understands, which is less than what a cluster takes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Fields = dict[str, Any]
ANY = None  # a leaf, or a map of free keys


@dataclass(frozen=True)
class Kind:
    """One kind of object: its REST path and its fields."""

    kind: str
    api_version: str
    plural: str
    spec: Fields

    @property
    def group_path(self) -> str:
        """Path before the namespace."""
        return f"/api/{self.api_version}" if "/" not in self.api_version else f"/apis/{self.api_version}"

    @property
    def qualified(self) -> str:
        """Plural with its group, as error messages name it."""
        group = self.api_version.partition("/")[0] if "/" in self.api_version else ""
        return f"{self.plural}.{group}" if group else self.plural


_METADATA: Fields = dict.fromkeys(
    (
        "name",
        "namespace",
        "labels",
        "annotations",
        "resourceVersion",
        "uid",
        "generation",
        "creationTimestamp",
    )
)
_PROBE: Fields = {
    "grpc": {"port": ANY, "service": ANY},
    "httpGet": {"path": ANY, "port": ANY, "scheme": ANY},
    **dict.fromkeys(("periodSeconds", "timeoutSeconds", "failureThreshold", "initialDelaySeconds")),
}
_CONTAINER: Fields = {
    **dict.fromkeys(("name", "image", "imagePullPolicy", "args", "command", "resources", "securityContext")),
    "env": [{"name": ANY, "value": ANY, "valueFrom": ANY}],
    "ports": [dict.fromkeys(("name", "containerPort", "protocol"))],
    "volumeMounts": [dict.fromkeys(("name", "mountPath", "readOnly", "subPath"))],
    "startupProbe": _PROBE,
    "readinessProbe": _PROBE,
    "livenessProbe": _PROBE,
    "lifecycle": ANY,
}
_POD: Fields = {
    **dict.fromkeys(
        (
            "serviceAccountName",
            "automountServiceAccountToken",
            "terminationGracePeriodSeconds",
            "securityContext",
            "volumes",
            "nodeSelector",
            "tolerations",
        )
    ),
    "containers": [_CONTAINER],
}
_DESTINATION: Fields = {"host": ANY, "subset": ANY, "port": {"number": ANY}}
_HEADERS: Fields = {side: dict.fromkeys(("set", "add", "remove")) for side in ("request", "response")}
_HTTP: Fields = {
    "name": ANY,
    "match": [dict.fromkeys(("name", "headers", "uri", "authority", "port", "method"))],
    "route": [{"destination": _DESTINATION, "weight": ANY, "headers": _HEADERS}],
    "mirror": _DESTINATION,
    "mirrorPercentage": {"value": ANY},
    "retries": dict.fromkeys(("attempts", "retryOn", "perTryTimeout")),
    "timeout": ANY,
    "headers": _HEADERS,
    "directResponse": {"status": ANY, "body": {"string": ANY}},
}

KINDS = (
    Kind(
        "Service",
        "v1",
        "services",
        {
            "selector": ANY,
            "type": ANY,
            "clusterIP": ANY,
            "ports": [dict.fromkeys(("name", "port", "targetPort", "appProtocol", "protocol"))],
        },
    ),
    Kind(
        "Deployment",
        "apps/v1",
        "deployments",
        {
            "replicas": ANY,
            "progressDeadlineSeconds": ANY,
            "revisionHistoryLimit": ANY,
            "minReadySeconds": ANY,
            "strategy": ANY,
            "selector": {"matchLabels": ANY},
            "template": {"metadata": {"labels": ANY, "annotations": ANY}, "spec": _POD},
        },
    ),
    Kind(
        "VirtualService",
        "networking.istio.io/v1",
        "virtualservices",
        {"hosts": ANY, "gateways": ANY, "http": [_HTTP], "exportTo": ANY},
    ),
    Kind(
        "DestinationRule",
        "networking.istio.io/v1",
        "destinationrules",
        {"host": ANY, "subsets": [{"name": ANY, "labels": ANY}], "trafficPolicy": ANY, "exportTo": ANY},
    ),
)


def unknown_fields(kind: Kind, manifest: dict[str, Any]) -> list[str]:
    """Return the paths of fields that the kind does not have, such as `spec.http[0].retrys`."""
    top = {"apiVersion": ANY, "kind": ANY, "metadata": _METADATA, "spec": kind.spec, "status": ANY}
    return list(_unknown(top, manifest, ""))


def _unknown(fields: Any, value: Any, path: str) -> Iterator[str]:
    if fields is ANY:
        return
    if isinstance(fields, list):
        if isinstance(value, list):
            for index, item in enumerate(value):
                yield from _unknown(fields[0], item, f"{path}[{index}]")
        return
    if isinstance(value, dict):
        for name, inner in value.items():
            inside = f"{path}.{name}" if path else name
            if name not in fields:
                yield inside
            else:
                yield from _unknown(fields[name], inner, inside)
