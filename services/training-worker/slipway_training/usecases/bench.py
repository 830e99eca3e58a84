"""What attempts work with, whatever their noun."""

from dataclasses import dataclass
from pathlib import Path

from slipway_runtime.db import Database
from slipway_runtime.objects import ObjectStore

from slipway_training.clients import Ingestion, Registry
from slipway_training.engine.cache import FolderCache


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Stores, neighbours, and this host.

    Attributes:
        work_dir: For attempts; may be lost.
        checkouts: Commits by digest.
        bundles: Bundles by digest.
        threads: Threads of an attempt's process.
        checkpoint_s: Seconds between two checkpoints of a training.
        host: Name of this host.
    """

    database: Database
    objects: ObjectStore
    ingestion: Ingestion
    registry: Registry
    work_dir: Path
    checkouts: FolderCache
    bundles: FolderCache
    threads: int
    checkpoint_s: float
    host: str
