"""Settings of monitoring."""

from pydantic import Field
from slipway_runtime.settings import DatabaseSettings, ServiceSettings


class Settings(ServiceSettings, DatabaseSettings):
    """What monitoring reads from its environment; `otlp_endpoint` stays empty: no spans about spans."""

    registry: str = Field(description="address of the registry; `authority@host:port` through a sidecar")
    ingestion: str = Field(description="address of ingestion; `authority@host:port` through a sidecar")
    otlp_port: int = Field(4317, description="port of the OTLP gRPC receiver; no token is asked for there")
    retention_hours: float = Field(24.0, description="hours that spans are kept")
    max_spans: int = Field(1_000_000, description="spans kept; beyond that the oldest go")
    event_retention_hours: float = Field(
        168.0, description="hours that predicted rows, their labels and their counts are kept"
    )
    max_rows: int = Field(
        2_000_000, description="predicted rows kept, some 700 bytes each; beyond that the oldest go"
    )
    max_captured_bytes: int = Field(
        1 << 30, description="bytes of captured inputs kept; beyond that the oldest go, their rows stay"
    )
    spool_silence_s: float = Field(
        600.0, description="seconds after which a silent spool is given up: what it still owes counts as lost"
    )
    sweep_interval_s: float = Field(
        60.0, description="seconds between two looks for what to forget and for silent spools"
    )
    pipelines: str = Field(
        "",
        description="address of pipelines; `authority@host:port` by a sidecar; empty: alerts start no run",
    )
    watch_interval_s: float = Field(
        1.0, description="seconds between two looks for full windows, actions and imports that are due"
    )
    import_lease_s: float = Field(
        60.0, description="seconds that a worker that died keeps an import of captured inputs"
    )
    objective_interval_s: float = Field(5.0, description="seconds between two judgements of objectives")
    downtime_s: float = Field(
        60.0, description="seconds in which calls came and none succeeded that are a downtime"
    )
