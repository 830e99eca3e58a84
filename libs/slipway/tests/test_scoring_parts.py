"""Scores as messages and arrays, and streams that are lost on the way."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from slipway.client import ENDED, SlipwayError
from slipway.client.scoring import as_arrays, score_messages, watched, write_npz
from slipway.training.v1 import training_pb2 as trn

State = trn.TrainingJob.State


def scores(count: int) -> list[trn.ExampleScore]:
    return [
        trn.ExampleScore(
            key=f"{number:04d}", probabilities=[0.25, 0.75], embedding=[1.0, 2.0, 3.0], label="rose",
            split="train", in_training=number % 2 == 0,
        )
        for number in range(count)
    ]  # fmt: skip


def test_scores_go_out_with_a_header_first_and_in_parts() -> None:
    job = trn.ScoringJob(model_version="models/flowers/versions/2", classes=["rose", "tulip"])

    header, *parts = score_messages("labelingProjects/p", job, scores(1201))

    assert (header.header.parent, header.header.model_version) == (
        "labelingProjects/p",
        "models/flowers/versions/2",
    )
    assert list(header.header.classes) == ["rose", "tulip"]
    assert [len(part.scores.scores) for part in parts] == [500, 500, 201]
    assert [one.key for part in parts for one in part.scores.scores] == [one.key for one in scores(1201)]
    assert parts[0].scores.scores[0].in_training


def test_scores_survive_a_file_of_arrays(tmp_path: Path) -> None:
    write_npz(tmp_path / "scores.npz", as_arrays(scores(3), ["rose", "tulip"]))

    with np.load(tmp_path / "scores.npz", allow_pickle=False) as read:
        assert read["probabilities"].shape == (3, 2)
        assert read["embedding"].shape == (3, 3)
        assert list(read["keys"]) == ["0000", "0001", "0002"]
        assert list(read["in_training"]) == [True, False, True]


def test_no_scores_are_arrays_without_rows() -> None:
    arrays = as_arrays([], ["rose", "tulip"])

    assert arrays["probabilities"].shape == (0, 2)


def lost(code: str) -> SlipwayError:
    return SlipwayError(code, code, "the connection is lost")


def test_watching_goes_on_over_lost_connections_until_the_end() -> None:
    turns: list[list[Any]] = [
        [trn.ScoringJob(state=State.RUNNING), lost("UNAVAILABLE")],
        [lost("UNAVAILABLE")],
        [trn.ScoringJob(state=State.RUNNING)],
        [trn.ScoringJob(state=State.SUCCEEDED), trn.ScoringJob(state=State.PENDING)],
    ]

    def stream() -> Iterator[Any]:
        for one in turns.pop(0):
            if isinstance(one, SlipwayError):
                raise one
            yield one

    seen = [job.state for job in watched(stream, ENDED)]

    assert seen == [State.RUNNING, State.RUNNING, State.SUCCEEDED]


def test_a_refusal_and_a_connection_that_stays_away_end_the_watching() -> None:
    calls = []

    def away() -> Iterator[Any]:
        calls.append(1)
        raise lost("UNAVAILABLE")
        yield

    def refused() -> Iterator[Any]:
        raise lost("NOT_FOUND")
        yield

    with pytest.raises(SlipwayError):
        list(watched(away, ENDED))
    with pytest.raises(SlipwayError, match="lost"):
        list(watched(refused, ENDED))

    assert len(calls) == 6
