"""What a process tells its parent, and what its parent orders: one JSON object per line.

Events come on a pipe of their own; a scoring process takes orders on its standard input.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any, get_args


@dataclass(frozen=True)
class Stage:
    """A stage began: `smoke`, `baseline`, `train`, `evaluate`, `export`."""

    name: str


@dataclass(frozen=True)
class Progress:
    """How far the training is, with the latest figures."""

    step: int
    total_steps: int
    epoch: int
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Metrics:
    """Figures measured at a step, by series."""

    step: int
    values: dict[str, float]


@dataclass(frozen=True)
class Saved:
    """A checkpoint is on disk, synced and renamed."""

    step: int
    path: str


@dataclass(frozen=True)
class Resumed:
    """The training goes on from this step; 0 is a fresh start."""

    step: int


@dataclass(frozen=True)
class Done:
    """The bundle is in this folder."""

    folder: str
    digest: str


@dataclass(frozen=True)
class Failed:
    """The attempt cannot succeed; `retry` says whether another one might."""

    message: str
    retry: bool = False


@dataclass(frozen=True)
class Scored:
    """The examples of a folder are scored; `scores.npz` lies in it."""

    folder: str


@dataclass(frozen=True)
class Measured:
    """Median milliseconds per batch of each pass, and how golden answers differ."""

    latency_ms: list[float]
    champion_latency_ms: list[float]
    latency_batch_rows: int
    golden_max_abs_diff: float
    golden_count: int


@dataclass(frozen=True)
class Score:
    """Score the examples that are checked out in this folder."""

    folder: str


@dataclass(frozen=True)
class Measure:
    """Measure latency on the examples that are checked out in this folder, and replay golden answers."""

    folder: str


Event = Stage | Progress | Metrics | Saved | Resumed | Done | Failed | Scored | Measured
Order = Score | Measure
_KINDS: dict[str, Any] = {kind.__name__: kind for kind in (*get_args(Event), *get_args(Order))}


def encode(message: Event | Order) -> bytes:
    """Return the event or order as one line."""
    return json.dumps({"event": type(message).__name__, **asdict(message)}).encode() + b"\n"


def decode(line: bytes) -> Any:
    """Return the event or order of a line.

    Raises:
        ValueError: the line is neither.
    """
    try:
        fields = json.loads(line)
        return _KINDS[fields.pop("event")](**fields)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an event: {line[:80]!r}") from error
