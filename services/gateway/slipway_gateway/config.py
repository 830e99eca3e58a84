"""Settings of the gateway, read once by main."""

from pydantic import Field
from slipway_runtime.settings import DatabaseSettings, ServiceSettings


class Settings(ServiceSettings, DatabaseSettings):
    """What the gateway needs to know: its door, the services behind it, keys, and limits."""

    rest_port: int = Field(8080, description="port of the REST door; 0 picks a free one")
    ingestion: str = Field(
        "ingestion.slipway.svc.cluster.local:8500",
        description="address of ingestion; `authority@host:port` through a sidecar",
    )
    training: str = Field(
        "training-worker.slipway.svc.cluster.local:8500", description="address of training; as ingestion"
    )
    registry: str = Field(
        "registry.slipway.svc.cluster.local:8500", description="address of the registry; as ingestion"
    )
    rollout: str = Field(
        "rollout.slipway.svc.cluster.local:8500", description="address of rollout; as ingestion"
    )
    monitoring: str = Field(
        "monitoring.slipway.svc.cluster.local:8500", description="address of monitoring; as ingestion"
    )
    labeling: str = Field(
        "labeling.slipway.svc.cluster.local:8500", description="address of labeling; as ingestion"
    )
    pipelines: str = Field(
        "pipelines.slipway.svc.cluster.local:8500", description="address of pipelines; as ingestion"
    )
    models: str = Field(
        "",
        description="host:port of the sidecar that routes model calls by authority; empty: dial the host",
    )
    model_domain: str = Field(
        "slipway-models.svc.cluster.local", description="an endpoint's host is `{endpoint}.{model_domain}`"
    )
    model_port: int = Field(8500, description="gRPC port of an endpoint's host")
    signing_key_file: str = Field(
        "",
        description="PEM of the Ed25519 key that signs users' JWTs; empty: made once, kept in the database",
    )
    extra_jwks: str = Field(
        "", description="file or URL of keys that the JWKS lists besides the gateway's own; empty: none"
    )
    bootstrap_token_file: str = Field(
        "", description="file with an API token (`slp_…`) that `users/admin` gets at the start; empty: none"
    )
    access_token_s: int = Field(
        900, description="seconds that a user's JWT is good; a revoked user keeps it so long"
    )
    api_token_cache_s: float = Field(
        10.0, description="seconds that an API token is believed without asking the database"
    )
    max_body_bytes: int = Field(
        32 << 20, description="bytes of a request body; a larger one is refused with 413"
    )
    rpc_timeout_s: float = Field(30.0, description="seconds that a service has to answer; then 504")
    infer_timeout_s: float = Field(30.0, description="seconds that a model has to answer; then 504")
    watch_timeout_s: float = Field(
        3600.0, description="seconds after which a watch ends; the caller asks again"
    )
