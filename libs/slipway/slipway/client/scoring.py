"""Scores and evaluations: jobs watched to their end, scores as arrays and into a labelling project."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from slipway.client.errors import SlipwayError
from slipway.labeling.v1 import labeling_pb2 as lab
from slipway.training.v1 import training_pb2 as trn

SCORES_PER_MESSAGE = 500
_MAY_GO_ON = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"}
_FAILURES_IN_A_ROW = 5


def watched(stream: Callable[[], Iterator[Any]], ended: Iterable[int]) -> Iterator[Any]:
    """Yield what a stream says until a state that ends it; goes on over lost connections.

    Raises:
        SlipwayError: The stream was refused, or failed six times in a row.
    """
    failures, last = 0, frozenset(ended)
    while True:
        try:
            for seen in stream():
                failures = 0
                yield seen
                if seen.state in last:
                    return
        except SlipwayError as error:
            failures += 1
            if error.code not in _MAY_GO_ON or failures > _FAILURES_IN_A_ROW:
                raise


def score_messages(
    project: str, job: trn.ScoringJob, scores: Iterable[trn.ExampleScore]
) -> Iterator[lab.ImportScoresRequest]:
    """Yield a scoring job's scores as the messages in which labeling takes them."""
    header = lab.ScoresHeader(parent=project, model_version=job.model_version, classes=job.classes)
    yield lab.ImportScoresRequest(header=header)
    part: list[lab.Score] = []
    for one in scores:
        part.append(
            lab.Score(
                key=one.key,
                probabilities=one.probabilities,
                embedding=one.embedding,
                in_training=one.in_training,
            )
        )
        if len(part) == SCORES_PER_MESSAGE:
            yield lab.ImportScoresRequest(scores=lab.Scores(scores=part))
            part = []
    if part:
        yield lab.ImportScoresRequest(scores=lab.Scores(scores=part))


def as_arrays(scores: Iterable[trn.ExampleScore], classes: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Return scores as arrays in key order.

    `keys`, `labels` and `splits` (N,) text; `probabilities` (N, K) and `embedding` (N, D) float32;
    `in_training` (N,) bool; `classes` (K,) text.
    """
    rows = list(scores)
    named = list(classes)
    probabilities = np.asarray([row.probabilities for row in rows], np.float32)
    embedding = np.asarray([row.embedding for row in rows], np.float32)
    return {
        "keys": np.asarray([row.key for row in rows], np.str_),
        "labels": np.asarray([row.label for row in rows], np.str_),
        "splits": np.asarray([row.split for row in rows], np.str_),
        "probabilities": probabilities.reshape(len(rows), len(named)),
        "embedding": embedding.reshape(len(rows), -1) if rows else embedding.reshape(0, 0),
        "in_training": np.asarray([row.in_training for row in rows], np.bool_),
        "classes": np.asarray(named, np.str_),
    }


def write_npz(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write arrays to an npz file, no pickle in it."""
    np.savez_compressed(path, allow_pickle=False, **arrays)


__all__ = ["as_arrays", "score_messages", "watched", "write_npz"]
