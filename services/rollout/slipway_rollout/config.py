"""Settings of the rollout service, read once by main."""

from typing import Literal

from pydantic import Field
from slipway_runtime.settings import DatabaseSettings, ServiceSettings


class Settings(ServiceSettings, DatabaseSettings):
    """What rollout needs to know: the registry, the Kubernetes API, and how model pods look."""

    registry: str = Field(description="address of the registry; `authority@host:port` through a sidecar")
    monitoring: str = Field(
        description="address of monitoring, which counts predictions; `authority@host:port` through a sidecar"
    )
    mesh_counters_url: str = Field(
        "", description="URL of the mesh's counters; empty: none, and gates on errors and latency hold"
    )
    mesh_counters_form: Literal["envoy", "prometheus"] = Field(
        "prometheus",
        description="what is there: Envoy's administration port, or a Prometheus of Istio's metrics",
    )
    judge_interval_s: float = Field(
        0.5, description="seconds between two looks at running rollouts: how late a FAIL can be"
    )
    ready_timeout_s: float = Field(
        300.0, description="seconds that a rollout waits for its version's pods unless it says otherwise"
    )
    kubernetes_url: str = Field(
        "", description="URL of the Kubernetes API; empty: the pod's own cluster, else the kubeconfig"
    )
    kubernetes_token_file: str = Field(
        "", description="file with a bearer token for kubernetes_url; empty: calls carry none"
    )
    kubernetes_ca_file: str = Field(
        "", description="file with the CA of an https kubernetes_url; empty: the system's CAs"
    )
    kubernetes_timeout_s: float = Field(
        5.0, description="seconds that one call to the Kubernetes API may take; then UNAVAILABLE"
    )
    model_namespace: str = Field("slipway-models", description="namespace that model pods and routes live in")
    model_image: str = Field("slipway-inference:latest", description="image of a model pod")
    model_service_account: str = Field("inference", description="ServiceAccount of model pods")
    model_gateway: str = Field(
        "slipway/grpc", description="`namespace/name` of the Gateway through which callers from outside come"
    )
    model_environment: str = Field(
        "", description="NAME=value,NAME=value: variables that every model pod gets besides its slot"
    )
    model_cpu_request: str = Field("250m", description="Kubernetes quantity; CPU set aside for a model pod")
    model_cpu_limit: str = Field("2", description="Kubernetes quantity; a model pod is throttled above it")
    model_memory_request: str = Field("512Mi", description="Kubernetes quantity; memory set aside per pod")
    model_memory_limit: str = Field("2Gi", description="Kubernetes quantity; a model pod is killed above it")
    progress_deadline_s: int = Field(
        300, description="seconds in which a version's pods must come up; later it is FAILED with the reason"
    )
    propagation_s: float = Field(
        5.0, description="seconds that a route needs to reach every sidecar; pods stop no sooner after it"
    )
    reconcile_interval_s: float = Field(
        0.5, description="seconds between two looks at endpoints on which something is left to do"
    )
    resync_interval_s: float = Field(
        5.0, description="seconds between two looks at settled endpoints: how late a foreign edit is seen"
    )
    watch_interval_s: float = Field(0.25, description="seconds between two looks of a watch at the rows")

    def pod_environment(self) -> tuple[tuple[str, str], ...]:
        """Return the variables of `model_environment`, in order."""
        pairs = [pair.partition("=") for pair in self.model_environment.split(",") if pair.strip()]
        return tuple((name.strip(), value.strip()) for name, _, value in pairs)
