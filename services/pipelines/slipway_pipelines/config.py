"""Settings of the pipelines service, read once by main."""

import os

from pydantic import Field
from slipway_runtime.settings import DatabaseSettings, ObjectSettings, QueueSettings, ServiceSettings


class Settings(ServiceSettings, DatabaseSettings, QueueSettings, ObjectSettings):
    """What pipelines needs to know: services that steps call, where attempts work, how long leases hold."""

    worker_threads: int = Field(
        max(2, os.cpu_count() or 1), description="steps that one worker runs at a time, each in a process"
    )
    ingestion: str = Field("", description="address of ingestion for steps; `authority@host:port` by sidecar")
    labeling: str = Field("", description="address of labeling for steps; empty: steps cannot call it")
    training: str = Field("", description="address of training for steps; empty: steps cannot call it")
    registry: str = Field("", description="address of the registry for steps; empty: steps cannot call it")
    rollout: str = Field("", description="address of rollout for steps; empty: steps cannot call it")
    monitoring: str = Field("", description="address of monitoring for steps; empty: steps cannot call it")
    work_dir: str = Field(".slipway/pipelines", description="folder for code and attempts; may be lost")
    lease_s: float = Field(
        10.0, description="seconds that a silent worker keeps a step; then another takes it and fences it off"
    )
    sweep_interval_s: float = Field(
        0.5,
        description="seconds between two looks for steps and schedules that are due: how late they may be",
    )
    resend_s: float = Field(5.0, description="seconds that a sent step may wait before it is sent again")
    schedule_grace_s: float = Field(
        60.0, description="seconds that a time of a schedule may be late and still not count as missed"
    )
    watch_interval_s: float = Field(
        0.25, description="seconds between two looks of the Watch call at the rows"
    )

    def services(self) -> dict[str, str]:
        """Return the addresses of the services that steps may call, by name."""
        names = ("ingestion", "labeling", "training", "registry", "rollout", "monitoring")
        return {name: getattr(self, name) for name in names if getattr(self, name)}
