"""Runs and their steps."""

import random
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

MAX_ITEMS = 1000  # of a fan-out
MAX_BACKOFF_S = 300.0


class RunState(Enum):
    """How far a run is."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def ended(self) -> bool:
        """Whether nothing changes any more, unless somebody retries."""
        return self in {RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED}


class StepState(Enum):
    """How far a step is."""

    BLOCKED = "BLOCKED"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"
    UPSTREAM_FAILED = "UPSTREAM_FAILED"
    CANCELLED = "CANCELLED"

    @property
    def ended(self) -> bool:
        """Whether nothing changes any more, unless somebody retries."""
        return self not in {StepState.BLOCKED, StepState.PENDING, StepState.RUNNING}


class Trigger(Enum):
    """What started a run."""

    MANUAL = "MANUAL"
    SCHEDULE = "SCHEDULE"
    ALERT = "ALERT"
    BACKFILL = "BACKFILL"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Steps by state, and how many outputs came from the cache."""

    counts: dict[str, int] = field(default_factory=dict)
    cached: int = 0

    def of(self, *states: StepState) -> int:
        """Return how many are in one of the states."""
        return sum(self.counts.get(state.value, 0) for state in states)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One walk through a graph."""

    id: str
    pipeline: str
    version: str
    parameters: dict[str, Any]
    trigger: Trigger = Trigger.MANUAL
    trigger_source: str = ""
    schedule_time: datetime | None = None
    state: RunState = RunState.PENDING
    error: str = ""
    cancel_requested: bool = False
    retry_count: int = 0
    creator: str = ""
    traceparent: str = ""
    revision: int = 0
    create_time: datetime | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    progress: Progress = field(default_factory=Progress)
    active_steps: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its resource name."""
        return f"pipelines/{self.pipeline}/runs/{self.id}"


@dataclass(frozen=True, kw_only=True)
class StepRun:
    """One step of a run, or one item of its fan-out (`index` from 0; -1 for none).

    Attributes:
        failures: Attempts that failed since the run, or its retry, began.
        deaths: Attempts whose worker died.
        generation: How often a retry of the run made it begin anew; part of its request_id.
        output: JSON text; None until it succeeded.
    """

    run: str
    step: str
    index: int
    state: StepState = StepState.BLOCKED
    attempt: int = 0
    failures: int = 0
    deaths: int = 0
    generation: int = 0
    cache_key: str = ""
    cached_from: str = ""
    output: str | None = None
    names: tuple[str, ...] = ()
    error: str = ""
    log_tail: str = ""
    host: str = ""
    ready_time: datetime | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    due_time: datetime | None = None

    @property
    def id(self) -> str:
        """What a task carries."""
        return f"{self.run}/{self.step}/{self.index}"

    @property
    def key(self) -> tuple[str, int]:
        """Step and index."""
        return self.step, self.index

    @property
    def item(self) -> str:
        """Its name within the run."""
        return self.step if self.index < 0 else f"{self.step}.{self.index}"

    @property
    def request_id(self) -> str:
        """The same in every attempt; another one after a failure that a retry of the run takes up."""
        return f"{self.run}.{self.item}.{self.generation}"


def split_id(id: str) -> tuple[str, str, int]:
    """Return run, step and index of a step run's id."""
    run, step, index = id.split("/")
    return run, step, int(index)


def backoff_s(base_s: float, failures: int) -> float:
    """Return the wait before the next try: doubled with each failure, half of it jitter, at most 5 minutes.

    "Equal jitter" of M. Brooker, Exponential Backoff And Jitter (AWS Architecture Blog, 2015).
    """
    whole = min(base_s * 2.0 ** min(failures - 1, 30), MAX_BACKOFF_S)
    return whole / 2 + random.uniform(0, whole / 2)
