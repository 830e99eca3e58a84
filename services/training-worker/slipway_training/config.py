"""Settings of the training service, read once by main."""

import os

from pydantic import Field
from slipway_runtime.settings import DatabaseSettings, ObjectSettings, QueueSettings, ServiceSettings


class Settings(ServiceSettings, DatabaseSettings, QueueSettings, ObjectSettings):
    """What training needs to know: its neighbours, where attempts work, and how long leases hold."""

    worker_threads: int = Field(
        max(1, (os.cpu_count() or 1) // 2),
        description="attempts that one worker runs at a time; default half the cores; more share the cores",
    )
    ingestion: str = Field(description="address of ingestion; `authority@host:port` through a sidecar")
    registry: str = Field(description="address of the registry; `authority@host:port` through a sidecar")
    work_dir: str = Field(
        ".slipway/training",
        description="folder for checkouts and attempts; may be lost, checkpoints are in S3 too",
    )
    cache_max_bytes: int = Field(
        5 << 30,
        ge=0,
        description="bytes of commits kept on disk, and again of bundles; more are removed, the longest "
        "unused first, and read again when an attempt needs them",
    )
    attempt_threads: int = Field(
        1,
        description="threads of an attempt's process; another number changes last bits of weights and scores",
    )
    checkpoint_s: float = Field(
        2.0,
        description="seconds between two checkpoints: how much training a death costs; 0 saves every step",
    )
    score_part_size: int = Field(
        512,
        ge=1,
        le=1000,
        description="examples of one part of a scoring job, kept as one object: what a death costs at most",
    )
    lease_s: float = Field(
        10.0, description="seconds that a silent worker keeps a job; then another takes it and fences it off"
    )
    sweep_interval_s: float = Field(
        2.0, description="seconds between two looks for jobs that nobody works at"
    )
    resend_s: float = Field(5.0, description="seconds that a job may wait before its task is sent again")
    watch_interval_s: float = Field(
        0.25, description="seconds between two looks of the Watch calls at the rows"
    )
