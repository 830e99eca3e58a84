"""The objects that an endpoint is made of, as the Kubernetes API takes them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from slipway_rollout.domain import SHADOW_SUBSET, Endpoint, ServedVersion
from slipway_rollout.engine import buckets
from slipway_rollout.engine.route import SPLIT, STICKY, stamped

Manifest = dict[str, Any]

MANAGED_BY = "slipway-rollout"
GRPC_PORT = 8500
HTTP_PORT = 8501
USER_ID = 10001
STATE_PATH = "/var/lib/slipway"
TOKEN_PATH = "/var/run/secrets/slipway"
ISTIO_API = "networking.istio.io/v1"
# The sidecar is there before the front asks for its bundle, stays until the events are delivered, and
# hands on the metrics.
ANNOTATIONS = {
    "proxy.istio.io/config": "holdApplicationUntilProxyStarts: true\nterminationDrainDuration: 20s\n",
    "prometheus.io/scrape": "true",
    "prometheus.io/port": str(HTTP_PORT),
    "prometheus.io/path": "/metrics",
}


@dataclass(frozen=True)
class Placement:
    """Where and how model pods run: what is the same for every endpoint.

    `environment` is given to every pod; `cpu_*` and `memory_*` are Kubernetes quantities.
    """

    namespace: str
    image: str
    service_account: str
    gateway: str
    environment: tuple[tuple[str, str], ...]
    cpu_request: str
    cpu_limit: str
    memory_request: str
    memory_limit: str
    progress_deadline_s: int

    def host(self, endpoint: Endpoint) -> str:
        """Return the endpoint's host in the mesh."""
        return f"{endpoint.id}.{self.namespace}.svc.cluster.local"


def deployment_name(endpoint: Endpoint, version: ServedVersion) -> str:
    """Return the name of the version's Deployment."""
    return f"{endpoint.id}-{version.subset}"


def _metadata(endpoint: Endpoint, name: str, placement: Placement) -> Manifest:
    labels = {"app.kubernetes.io/managed-by": MANAGED_BY, "app": endpoint.id}
    return {"name": name, "namespace": placement.namespace, "labels": labels}


def service(endpoint: Endpoint, placement: Placement) -> Manifest:
    """Return the Service: the endpoint's host, and every pod of every version behind it."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(endpoint, endpoint.id, placement),
        "spec": {
            "selector": {"app": endpoint.id},
            "ports": [
                {"name": "grpc", "port": GRPC_PORT, "targetPort": GRPC_PORT, "appProtocol": "grpc"},
            ],
        },
    }


def destination_rule(endpoint: Endpoint, subsets: Iterable[str], placement: Placement) -> Manifest:
    """Return the DestinationRule with one subset per version, and one of its own for the shadow."""
    listed = [{"name": subset, "labels": {"version": subset}} for subset in subsets]
    if endpoint.shadow:
        listed.append({"name": SHADOW_SUBSET, "labels": {"version": endpoint.shadow}})
    return {
        "apiVersion": ISTIO_API,
        "kind": "DestinationRule",
        "metadata": _metadata(endpoint, endpoint.id, placement),
        "spec": {"host": placement.host(endpoint), "subsets": listed},
    }


def virtual_service(endpoint: Endpoint, versions: Iterable[ServedVersion], placement: Placement) -> Manifest:
    """Return the VirtualService: routes for testers, routes for buckets, and the split for all others.

    There is one per version of the first two kinds. What comes by the last two is mirrored.

    A retry would reach the same subset again and multiply the load, so there are none here. The object
    carries the serial number of the next write.
    """
    versions = list(versions)
    routes = [_tester(endpoint, version, placement) for version in versions]
    owned = buckets.ranges({version.number: version.weight for version in versions})
    routes += [_sticky(endpoint, version, owned[version.number], placement) for version in versions]
    routes.append(_split(endpoint, versions, placement))
    manifest = {
        "apiVersion": ISTIO_API,
        "kind": "VirtualService",
        "metadata": _metadata(endpoint, endpoint.id, placement),
        "spec": {
            "hosts": [placement.host(endpoint)],
            "gateways": ["mesh", placement.gateway],
            "http": routes,
        },
    }
    return stamped(manifest, endpoint.route_serial + 1)


def _destination(endpoint: Endpoint, subset: str, placement: Placement) -> Manifest:
    return {"host": placement.host(endpoint), "port": {"number": GRPC_PORT}, "subset": subset}


def _tester(endpoint: Endpoint, version: ServedVersion, placement: Placement) -> Manifest:
    return {
        "name": f"tester-{version.subset}",
        "match": [{"headers": {"slipway-version": {"exact": version.subset}}}],
        "route": [{"destination": _destination(endpoint, version.subset, placement), "weight": 100}],
        "retries": {"attempts": 0},
    }


def _sticky(
    endpoint: Endpoint, version: ServedVersion, owned: tuple[int, int], placement: Placement
) -> Manifest:
    return {
        "name": f"{STICKY}{version.subset}",
        "match": [{"headers": {buckets.HEADER: buckets.condition(*owned)}}],
        "route": [{"destination": _destination(endpoint, version.subset, placement), "weight": 100}],
        "retries": {"attempts": 0},
        **_mirror(endpoint, placement),
    }


def _split(endpoint: Endpoint, versions: list[ServedVersion], placement: Placement) -> Manifest:
    return {
        "name": SPLIT,
        "route": [
            {"destination": _destination(endpoint, version.subset, placement), "weight": version.weight}
            for version in versions
        ],
        "retries": {"attempts": 0},
        **_mirror(endpoint, placement),
    }


def _mirror(endpoint: Endpoint, placement: Placement) -> Manifest:
    if not endpoint.shadow:
        return {}
    return {
        "mirror": _destination(endpoint, SHADOW_SUBSET, placement),
        "mirrorPercentage": {"value": endpoint.shadow_percent},
    }


def deployment(endpoint: Endpoint, version: ServedVersion, placement: Placement) -> Manifest:
    """Return the Deployment of one served version."""
    selector = {"app": endpoint.id, "version": version.subset}
    metadata = _metadata(endpoint, deployment_name(endpoint, version), placement)
    metadata["labels"]["version"] = version.subset
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": endpoint.config.replicas,
            "progressDeadlineSeconds": placement.progress_deadline_s,
            "revisionHistoryLimit": 1,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "selector": {"matchLabels": selector},
            "template": {
                "metadata": {"labels": {**metadata["labels"], **selector}, "annotations": ANNOTATIONS},
                "spec": _pod(endpoint, version, placement),
            },
        },
    }


def _pod(endpoint: Endpoint, version: ServedVersion, placement: Placement) -> Manifest:
    token = {"path": "token", "audience": "slipway", "expirationSeconds": 3600}
    return {
        "serviceAccountName": placement.service_account,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 30,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(endpoint, version, placement)],
        "volumes": [
            {"name": "state", "emptyDir": {"sizeLimit": "4Gi"}},
            {"name": "scratch", "emptyDir": {"sizeLimit": "1Gi"}},
            {"name": "token", "projected": {"sources": [{"serviceAccountToken": token}]}},
        ],
    }


def _container(endpoint: Endpoint, version: ServedVersion, placement: Placement) -> Manifest:
    probe = {"grpc": {"port": GRPC_PORT}, "periodSeconds": 2, "timeoutSeconds": 2}
    return {
        "name": "inference",
        "image": placement.image,
        "args": ["serve"],
        "env": [{"name": name, "value": value} for name, value in _environment(endpoint, version, placement)],
        "ports": [
            {"name": "grpc", "containerPort": GRPC_PORT},
            {"name": "http-metrics", "containerPort": HTTP_PORT},
        ],
        "startupProbe": {**probe, "failureThreshold": max(placement.progress_deadline_s // 2, 1)},
        "readinessProbe": {**probe, "failureThreshold": 2},
        "livenessProbe": {
            "httpGet": {"path": "/healthz", "port": HTTP_PORT},
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
        "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
        "resources": {
            "requests": {"cpu": placement.cpu_request, "memory": placement.memory_request},
            "limits": {"cpu": placement.cpu_limit, "memory": placement.memory_limit},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "state", "mountPath": STATE_PATH},
            {"name": "scratch", "mountPath": "/tmp"},
            {"name": "token", "mountPath": TOKEN_PATH, "readOnly": True},
        ],
    }


def _environment(endpoint: Endpoint, version: ServedVersion, placement: Placement) -> list[tuple[str, str]]:
    config = endpoint.config
    return [
        ("SLIPWAY_HOST", "0.0.0.0"),
        ("SLIPWAY_GRPC_PORT", str(GRPC_PORT)),
        ("SLIPWAY_HTTP_PORT", str(HTTP_PORT)),
        ("SLIPWAY_TOKEN_FILE", f"{TOKEN_PATH}/token"),
        ("SLIPWAY_SLOTS", f"{endpoint.id}={version.model_version}"),
        ("SLIPWAY_ENGINE", config.engine),
        ("SLIPWAY_THREADS", str(config.threads)),
        ("SLIPWAY_MAX_BATCH_ROWS", str(config.max_batch_rows)),
        ("SLIPWAY_LATENCY_OBJECTIVE_MS", f"{config.latency_objective_ms:g}"),
        ("SLIPWAY_MAX_QUEUE_ROWS", str(config.max_queue_rows)),
        ("SLIPWAY_CAPTURE_POLICY", config.capture_policy),
        ("SLIPWAY_SPOOL_DIR", f"{STATE_PATH}/spool"),
        ("SLIPWAY_CACHE_DIR", f"{STATE_PATH}/bundles"),
        *placement.environment,
    ]


def scale_patch(found: Manifest, replicas: int) -> list[Manifest]:
    """Return the patch that gives a Deployment as read another number of pods."""
    version = found["metadata"]["resourceVersion"]
    return [
        {"op": "test", "path": "/metadata/resourceVersion", "value": version},
        {"op": "replace", "path": "/spec/replicas", "value": replicas},
    ]
