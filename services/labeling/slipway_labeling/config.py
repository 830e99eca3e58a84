"""Settings of labeling."""

from pydantic import Field
from slipway_runtime.settings import DatabaseSettings, ServiceSettings


class Settings(ServiceSettings, DatabaseSettings):
    """What labeling reads from its environment."""

    ingestion: str = Field(description="address of ingestion; `authority@host:port` through a sidecar")
    snapshot_interval_s: float = Field(
        1.0, description="seconds between two looks for snapshots to make; a new one is made at once"
    )
    snapshot_lease_s: float = Field(
        30.0, description="seconds that a process that died keeps a snapshot; then another goes on with it"
    )
    watch_interval_s: float = Field(
        0.25, description="seconds between two looks of WatchSnapshot at the rows"
    )
    sweep_interval_s: float = Field(2.0, description="seconds between two looks for leases that have run out")
    erasure_interval_s: float = Field(
        2.0, description="seconds between two looks for erasures; so long tasks of erased examples stay open"
    )
    judge_interval_s: float = Field(
        5.0, description="seconds between two looks for projects whose annotators have answered since"
    )
