"""A part of a job's scores as one object: npz, the rows in it as JSON. Equal scores are equal bytes."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class ScoredRow:
    """What the commit says of one example, and whether the version was trained on it."""

    key: str
    label: str
    split: str
    in_training: bool
    group: str
    attributes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Rows with what the models say of them.

    Attributes:
        probabilities: (N, K) float32.
        embedding: (N, D) float32.
        champion_probabilities: (N, L) float32; L is 0 without a champion.
    """

    rows: Sequence[ScoredRow]
    probabilities: NDArray[np.float32]
    embedding: NDArray[np.float32]
    champion_probabilities: NDArray[np.float32]


def pack(rows: Sequence[ScoredRow], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return rows and arrays as the bytes of one object.

    Raises:
        ValueError: an array has another length than the rows.
    """
    wrong = {name: len(array) for name, array in arrays.items() if len(array) != len(rows)}
    if wrong:
        raise ValueError(f"{len(rows)} examples were sent to be scored, answers came for {wrong}")
    listed = json.dumps([asdict(row) for row in rows], sort_keys=True, separators=(",", ":")).encode()
    data = io.BytesIO()
    np.savez(data, allow_pickle=False, rows=np.frombuffer(listed, dtype=np.uint8), **arrays)
    return data.getvalue()


def unpack(data: bytes) -> Scores:
    """Return what `pack` packed."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        rows = [ScoredRow(**row) for row in json.loads(arrays["rows"].tobytes())]
        nothing = np.empty((len(rows), 0), dtype=np.float32)
        return Scores(
            rows=rows,
            probabilities=arrays["probabilities"],
            embedding=arrays["embedding"],
            champion_probabilities=arrays.get("champion_probabilities", nothing),
        )
