"""Settings of an inference front, read once by main."""

from pydantic import Field
from slipway_runtime.settings import ServiceSettings


class Settings(ServiceSettings):
    """What a front needs to know: its slots, its limits, and where it keeps bundles and events."""

    slots: str = Field("", description="NAME=models/M/versions/N, commas between; empty: only --repository's")
    engine: str = Field("onnx", pattern="^(onnx|torch)$", description="onnx or torch; what runs the batches")
    threads: int = Field(1, ge=1, description="CPU threads inside one batch")
    max_batch_rows: int = Field(64, ge=1, description="rows per batch at most; 1 turns batching off")
    latency_objective_ms: float = Field(
        100.0, gt=0, description="ms in the front (queue and engine) that batches are sized for"
    )
    max_queue_rows: int = Field(
        2048, ge=1, description="rows that may wait; more are refused with RESOURCE_EXHAUSTED"
    )
    capture_policy: str = Field(
        "none", description="inputs kept with the event: none, all, sample:<0-1> or low_confidence:<0-1>"
    )
    capture_max_bytes: int = Field(1 << 20, description="bytes; a larger input is not kept with its event")
    load_timeout_s: float = Field(120.0, description="seconds from an engine's start to its warm-up's end")
    batch_timeout_s: float = Field(30.0, description="seconds that one batch may take; then it is killed")
    registry: str = Field(
        "registry.slipway.svc.cluster.local:8500",
        description="address of the registry; `authority@host:port` through a sidecar",
    )
    monitoring: str = Field(
        "",
        description="address of monitoring, which takes the events; empty: they stay in the spool",
    )
    cache_dir: str = Field("/tmp/slipway-bundles", description="folder of verified bundles; may be lost")
    spool_dir: str = Field("", description="folder of events that wait; empty: events are counted, not kept")
    spool_max_bytes: int = Field(256 << 20, description="bytes of events kept; then the oldest go, counted")
    spool_drain_s: float = Field(
        8.0,
        description="seconds after SIGTERM's calls in which events are still delivered; drain gets them, too",
    )
    front_max_message_bytes: int = Field(
        64 << 20, description="bytes of one request; a larger one is refused"
    )
