"""A uniform sample of vectors that can be merged: the rows whose keys hash lowest.

Each row has a fixed pseudo-random rank, so the sample of two parts together is the lowest of both samples
("bottom-k sketch", E. Cohen and H. Kaplan, 2007); which rows are in it depends on their keys alone.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SAMPLE_ROWS = 256


@dataclass(frozen=True)
class VectorSample:
    """At most `SAMPLE_ROWS` vectors.

    Attributes:
        vectors: (S, D) float32.
        ranks: (S,) uint64, ascending.
        seen: Vectors that it was taken from.
    """

    vectors: NDArray[np.float32]
    ranks: NDArray[np.uint64]
    seen: int

    @classmethod
    def of(cls, vectors: NDArray[Any], keys: Sequence[str]) -> "VectorSample":
        """Return the sample of vectors (N, D) with their rows' keys; what is not finite is left out."""
        ranks = np.array([_rank(key) for key in keys], dtype=np.uint64)
        finite = np.isfinite(vectors).all(axis=1)
        return _lowest(np.asarray(vectors, dtype=np.float32)[finite], ranks[finite], int(finite.sum()))

    def merged(self, other: "VectorSample") -> "VectorSample":
        """Return the sample of both."""
        vectors = np.concatenate([self.vectors, other.vectors])
        return _lowest(vectors, np.concatenate([self.ranks, other.ranks]), self.seen + other.seen)


def _lowest(vectors: NDArray[np.float32], ranks: NDArray[np.uint64], seen: int) -> VectorSample:
    order = np.argsort(ranks, kind="stable")[:SAMPLE_ROWS]
    return VectorSample(vectors[order], ranks[order], seen)


def _rank(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest())
