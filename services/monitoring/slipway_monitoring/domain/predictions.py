"""Predicted rows as they are kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from slipway_monitoring.domain.events import Tensor
from slipway_monitoring.domain.names import prediction_name


@dataclass(frozen=True)
class Prediction:
    """One predicted row with its label, if one came; `arrival` counts the rows of its endpoint."""

    prediction_id: str
    row: int
    arrival: int
    endpoint: str
    model_version: str
    role: int
    time: datetime
    trace_id: str
    request_id: str
    latency_ms: float
    predicted_label: str
    confidence: float
    probabilities: Sequence[float]
    captured: bool
    label: str = ""
    label_source: str = ""
    label_time: datetime | None = None

    @property
    def name(self) -> str:
        """Resource name."""
        return prediction_name(self.prediction_id, self.row)


@dataclass(frozen=True)
class Wanted:
    """Which rows of an endpoint are listed; empty and 0 mean all."""

    endpoint: str
    model_version: str = ""
    start_time: datetime | None = None
    end_time: datetime | None = None
    labelled_only: bool = False
    captured_only: bool = False
    max_confidence: float = 0.0


@dataclass(frozen=True)
class Window:
    """Rows of one version in the order of their arrival, as columns of N rows.

    `probabilities` (N, K) and `embeddings` (N, D) are None when the rows have none, or not all the same
    length. `classes` are indexes, -1 where there is none. `inputs` holds a row's captured inputs by name, and
    nothing where none were captured or they are forgotten.
    """

    arrivals: NDArray[np.int64]
    times: Sequence[datetime]
    prediction_ids: Sequence[str]
    rows: Sequence[int]
    classes: NDArray[np.int64]
    confidences: NDArray[np.float64]
    probabilities: NDArray[np.float32] | None
    embeddings: NDArray[np.float32] | None
    inputs: Sequence[Mapping[str, Tensor]]

    def __len__(self) -> int:
        return len(self.arrivals)

    @property
    def last_arrival(self) -> int:
        """Where the next window begins after; 0 when this one is empty."""
        return int(self.arrivals[-1]) if len(self) else 0
