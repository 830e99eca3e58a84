"""Scoring jobs on real PostgreSQL and S3: every key once, deaths, fences, evaluation, refusals."""

import io
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import neighbours
import numpy as np
import pytest
from blake3 import blake3
from image_bundles import answers, image_bundle
from numpy.typing import NDArray
from PIL import Image
from slipway.registry.v1 import registry_pb2 as reg
from slipway_runtime.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable
from slipway_training.domain import FencedError, Part, ScoringJob, ScoringSpec, State
from slipway_training.engine.parts import ScoredRow, Scores
from slipway_training.engine.process import EngineProcess
from slipway_training.store import ScoringStore
from slipway_training.usecases.scoring_jobs import part_key, parts_prefix

VERSION, CHAMPION = "models/shapes/versions/2", "models/shapes/versions/1"
CLASSES = ("left", "right")


@pytest.fixture
def score(house: Any, registry: neighbours.Registry, tmp_path: Path) -> Callable[..., ScoringJob]:
    """Return a function that asks for a scoring job; version 2 and its champion are there."""
    for name, seed, classes in ((VERSION, 2, CLASSES), (CHAMPION, 1, CLASSES[::-1])):
        registry.add_version(name, image_bundle(tmp_path / f"bundle-{seed}", classes, seed=seed)[1])

    def ask(request_id: str = "", **changes: Any) -> ScoringJob:
        spec: dict[str, Any] = {
            "model_version": VERSION,
            "dataset_commit": neighbours.COMMIT,
            "split": "",
            "unlabelled_only": False,
            "evaluate": False,
            "champion_version": "",
            "max_attempts": 0,
        }
        spec |= changes
        return house.scorings.create(ScoringSpec(**spec), request_id, repr(spec).encode())

    return ask


def ended(house: Any, job: ScoringJob) -> ScoringJob:
    """Return the job after one attempt."""
    house.scorer().run(job.id)
    return house.scorings.get(job.name)


def images(ingestion: neighbours.Ingestion) -> NDArray[np.uint8]:
    return np.stack([np.asarray(Image.open(io.BytesIO(data)))[..., None] for _, data in ingestion.kept])


def rows(parts: list[Scores]) -> list[ScoredRow]:
    return [row for part in parts for row in part.rows]


def forget(ingestion: neighbours.Ingestion, keys: set[str]) -> None:
    for example, _ in ingestion.kept:
        example.label = "" if example.key in keys else example.label


def model_of(registry: neighbours.Registry, name: str) -> bytes:
    bundle = next(version.bundle for version in registry.versions if version.name == name)
    return registry.bundles[bundle]["model.onnx"]


def test_scores_are_those_of_the_graph_run_directly_each_key_once_in_order(
    house: Any, score: Callable[..., ScoringJob], ingestion: neighbours.Ingestion, registry: Any
) -> None:
    done = ended(house, score())

    parts = list(house.scorings.scores(done.name))
    assert (done.state, done.error) == (State.SUCCEEDED, "")
    assert (done.done_count, done.total_count, done.classes) == (120, 120, CLASSES)
    assert [len(part.rows) for part in parts] == [30, 30, 30, 30]
    assert [row.key for row in rows(parts)] == [example.key for example, _ in ingestion.kept]
    probabilities, embedding = answers(model_of(registry, VERSION), images(ingestion), rows=30)
    assert np.array_equal(np.concatenate([part.probabilities for part in parts]), probabilities)
    assert np.array_equal(np.concatenate([part.embedding for part in parts]), embedding)


def test_in_training_says_which_keys_the_version_had_labelled_in_its_train_split(
    house: Any, score: Callable[..., ScoringJob], ingestion: neighbours.Ingestion
) -> None:
    forget(ingestion, {"0004"})  # index 4 to 9 of each ten are the train split

    done = ended(house, score())

    trained = {row.key for row in rows(list(house.scorings.scores(done.name))) if row.in_training}
    assert trained == {e.key for e, _ in ingestion.kept if e.split == "train"} - {"0004"}


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({"split": "test"}, lambda example: example.split == "test"),
        ({"unlabelled_only": True}, lambda example: not example.label),
        ({"split": "train", "unlabelled_only": True}, lambda e: e.split == "train" and not e.label),
    ],
)
def test_only_what_is_selected_is_scored_and_read(
    house: Any,
    score: Callable[..., ScoringJob],
    ingestion: neighbours.Ingestion,
    asked: dict[str, Any],
    wanted: Callable[[Any], bool],
) -> None:
    forget(ingestion, {f"{index:04d}" for index in range(0, 120, 3)})

    done = ended(house, score(**asked))

    keys = [example.key for example, _ in ingestion.kept if wanted(example)]
    assert [row.key for row in rows(list(house.scorings.scores(done.name)))] == keys
    assert [key for read in ingestion.reads for key in read] == keys


def test_a_selection_of_nothing_succeeds_with_no_scores(house: Any, score: Callable[..., ScoringJob]) -> None:
    done = ended(house, score(unlabelled_only=True))

    assert (done.state, done.total_count) == (State.SUCCEEDED, 0)
    assert list(house.scorings.scores(done.name)) == []


def test_a_resumed_attempt_scores_only_the_parts_that_are_not_there(
    house: Any,
    score: Callable[..., ScoringJob],
    ingestion: neighbours.Ingestion,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = score()
    real, calls = ScoringStore.add_part, []

    def dies_at_the_third(store: ScoringStore, id: str, attempt: int, part: Part) -> None:
        calls.append(part.number)
        if len(calls) == 3:
            raise OSError("the disk is gone")
        real(store, id, attempt, part)

    monkeypatch.setattr(ScoringStore, "add_part", dies_at_the_third)
    first = ended(house, job)
    ingestion.reads.clear()

    second = ended(house, job)

    assert (first.state, first.done_count, first.failures) == (State.PENDING, 60, 1)
    assert (second.state, second.done_count, second.attempt) == (State.SUCCEEDED, 120, 2)
    assert calls == [0, 1, 2, 2, 3]
    assert [read[0] for read in ingestion.reads] == ["0060", "0090"]


def test_a_killed_scoring_process_is_lost_and_the_next_attempt_ends_the_job(
    house: Any, score: Callable[..., ScoringJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = score()
    real = EngineProcess.order
    monkeypatch.setattr(EngineProcess, "order", lambda process, _: os.kill(process.pid, signal.SIGKILL))
    lost = ended(house, job)
    monkeypatch.setattr(EngineProcess, "order", real)

    done = ended(house, job)

    assert (lost.state, lost.failures) == (State.PENDING, 1)
    assert done.state is State.SUCCEEDED


def test_a_job_whose_every_attempt_dies_is_dead_lettered_and_leaves_nothing(
    house: Any, score: Callable[..., ScoringJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = score(max_attempts=2)
    monkeypatch.setattr(EngineProcess, "order", lambda process, _: os.kill(process.pid, signal.SIGKILL))

    ended(house, job)
    dead = ended(house, job)

    assert dead.state is State.FAILED
    assert dead.error == (
        "gave up after 2 attempts that died; the last: the scoring process was killed by SIGKILL"
    )
    assert house.bench.objects.list(parts_prefix(job.id)) == []
    assert not (house.bench.work_dir / "scoring" / job.id).exists()


def test_an_attempt_that_lost_its_lease_adds_no_part(house: Any, score: Callable[..., ScoringJob]) -> None:
    job = score()
    first = house.scorer(lease_s=0.05)._claim(job.id)
    time.sleep(0.1)
    house.scorer()._claim(job.id)

    part = Part(number=0, count=30, digest="0" * 64)
    with pytest.raises(FencedError), house.database.transaction() as connection:
        ScoringStore(connection).add_part(job.id, first.attempt, part)

    assert house.scorings.get(job.name).done_count == 0


def test_a_part_that_comes_twice_is_counted_once(house: Any, score: Callable[..., ScoringJob]) -> None:
    job = score()
    claimed = house.scorer()._claim(job.id)

    for _ in range(2):
        with house.database.transaction() as connection:
            part = Part(number=0, count=30, digest="0" * 64)
            ScoringStore(connection).add_part(job.id, claimed.attempt, part)

    assert house.scorings.get(job.name).done_count == 30


def test_objects_that_a_dead_attempt_left_are_dropped_at_the_end(
    house: Any, score: Callable[..., ScoringJob]
) -> None:
    job = score()
    left = part_key(job.id, Part(number=1, count=30, digest="0" * 64))
    house.bench.objects.put(left, b"never named by a row")

    ended(house, job)

    kept = house.bench.objects.list(parts_prefix(job.id))
    assert left not in kept
    assert len(kept) == 4


def test_a_cancelled_job_kills_its_process_and_drops_its_scores(
    house: Any, score: Callable[..., ScoringJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, pids = score(), []
    monkeypatch.setattr(EngineProcess, "order", lambda process, _: pids.append(process.pid))  # it waits
    thread = threading.Thread(target=house.scorer().run, args=(job.id,))
    thread.start()
    stop_at = time.monotonic() + 120
    while not pids and time.monotonic() < stop_at:
        time.sleep(0.02)

    house.scorings.cancel(job.name, "", b"")
    thread.join(120)

    assert house.scorings.get(job.name).state is State.CANCELLED
    with pytest.raises(ProcessLookupError):
        os.killpg(pids[0], 0)
    assert house.bench.objects.list(parts_prefix(job.id)) == []


def test_the_sweeper_sends_what_waits(house: Any, score: Callable[..., ScoringJob]) -> None:
    job = score()
    house.sent.clear()

    house.scorer().sweep()

    assert house.sent == [job.id]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ((5, 4), "image '0007' is 5x4, the model takes 6x6; bring it to that size"),
        (b"hello", "example '0007' is not an image; take it out with `slipway dataset remove`"),
    ],
)
def test_an_example_that_the_model_cannot_take_fails_the_job_by_name(
    house: Any,
    score: Callable[..., ScoringJob],
    ingestion: neighbours.Ingestion,
    content: Any,
    why: str,
) -> None:
    data = io.BytesIO(content if isinstance(content, bytes) else b"")
    if not isinstance(content, bytes):
        Image.new("L", content).save(data, "PNG")
    ingestion.kept[7][0].blob = blake3(data.getvalue()).hexdigest()
    ingestion.kept[7] = (ingestion.kept[7][0], data.getvalue())

    failed = ended(house, score())

    assert (failed.state, failed.attempt) == (State.FAILED, 1)
    assert failed.error.startswith(why.partition(";")[0])


def test_bytes_that_arrive_damaged_are_read_again(
    house: Any, score: Callable[..., ScoringJob], ingestion: neighbours.Ingestion
) -> None:
    whole = ingestion.kept[7]
    ingestion.kept[7] = (whole[0], b"damaged")
    job = score()
    first = ended(house, job)
    ingestion.kept[7] = whole

    second = ended(house, job)

    assert first.state is State.PENDING
    assert second.state is State.SUCCEEDED


def test_a_bundle_that_arrives_damaged_is_not_run(
    house: Any, score: Callable[..., ScoringJob], registry: neighbours.Registry
) -> None:
    job = score(max_attempts=1)
    bundle = next(version.bundle for version in registry.versions if version.name == VERSION)
    registry.bundles[bundle]["model.onnx"] += b"\0"

    failed = ended(house, job)

    assert failed.state is State.FAILED
    assert failed.error.endswith(f"{bundle}: model.onnx arrived damaged")
    assert not (house.bench.work_dir / bundle).exists()


def test_an_evaluation_has_both_versions_on_the_same_labelled_examples_and_their_latency(
    house: Any, score: Callable[..., ScoringJob], ingestion: neighbours.Ingestion, registry: Any
) -> None:
    forget(ingestion, {"0000"})
    for example, _ in ingestion.kept:
        example.attributes["scanner"] = "b" if example.key < "0060" else "a"
        example.group = "pair" if example.key in {"0010", "0011"} else ""

    done = ended(house, score(evaluate=True, split="test", champion_version=CHAMPION))

    assert (done.state, done.error) == (State.SUCCEEDED, "")
    assert done.evaluation == f"{VERSION}/evaluations/{done.id}"
    header, examples = registry.evaluations[done.evaluation]
    wanted = [e for e, _ in ingestion.kept if e.split == "test" and e.label]
    assert [(e.key, e.label, e.attributes["scanner"]) for e in examples] == [
        (e.key, e.label, e.attributes["scanner"]) for e in wanted
    ]
    assert [e.group for e in examples if e.key in {"0010", "0020"}] == ["pair", "0020"]
    pixels = images(ingestion)[[int(e.key) for e in wanted]]
    for name, got in (
        (VERSION, [e.probabilities for e in examples]),
        (CHAMPION, [e.champion_probabilities for e in examples]),
    ):
        assert np.array_equal(np.array(got, dtype=np.float32), answers(model_of(registry, name), pixels)[0])
    assert (header.champion_version, header.split) == (CHAMPION, "test")
    assert (tuple(header.classes), tuple(header.champion_classes)) == (CLASSES, CLASSES[::-1])
    assert len(header.latency_ms) == len(header.champion_latency_ms) >= 10
    assert min(*header.latency_ms, *header.champion_latency_ms) > 0
    assert (header.latency_batch_rows, header.golden_count) == (len(wanted), 4)
    assert header.golden_max_abs_diff < 1e-6


def test_an_evaluation_may_have_no_champion(
    house: Any, score: Callable[..., ScoringJob], registry: neighbours.Registry
) -> None:
    done = ended(house, score(evaluate=True))

    header, examples = registry.evaluations[done.evaluation]
    assert len(examples) == 120
    assert len(header.latency_ms) >= 10
    assert not header.champion_latency_ms
    assert not any(len(example.champion_probabilities) for example in examples)


def test_nothing_labelled_to_evaluate_fails_with_what_to_do(
    house: Any, score: Callable[..., ScoringJob], ingestion: neighbours.Ingestion
) -> None:
    forget(ingestion, {example.key for example, _ in ingestion.kept})

    failed = ended(house, score(evaluate=True, split="test"))

    assert failed.state is State.FAILED
    assert failed.error.endswith(
        "has no labelled example in the split 'test'; label some, or choose another split"
    )


def test_an_evaluation_is_recorded_once_when_the_attempt_dies_right_after(
    house: Any,
    score: Callable[..., ScoringJob],
    registry: neighbours.Registry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = score(evaluate=True, champion_version=CHAMPION)
    doomed = house.scorer(lease_s=0.3)
    monkeypatch.setattr(doomed, "_end", lambda job, ending: None)  # dies between recording and its own row
    doomed.run(job.id)
    time.sleep(0.4)

    done = ended(house, job)

    assert (done.state, done.attempt) == (State.SUCCEEDED, 2)
    assert list(registry.evaluations) == [done.evaluation]


def test_measures_are_not_taken_again_when_the_registry_was_away(
    house: Any,
    score: Callable[..., ScoringJob],
    registry: neighbours.Registry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def away(*_: object) -> str:
        raise Unavailable("UNAVAILABLE", "the registry is away")

    job = score(evaluate=True, max_attempts=1)
    with monkeypatch.context() as patched:
        patched.setattr(house.bench.registry, "record_evaluation", away)
        waiting = ended(house, job)

    done = ended(house, job)

    assert (waiting.state, waiting.failures, waiting.done_count) == (State.PENDING, 0, 120)
    header: reg.EvaluationHeader = registry.evaluations[done.evaluation][0]
    assert waiting.measures is not None
    assert list(header.latency_ms) == list(waiting.measures.latency_ms)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"model_version": "models/shapes"}, "model_version"),
        ({"model_version": "models/shapes/versions/0"}, "model_version"),
        ({"dataset_commit": "datasets/x"}, "dataset_commit"),
        ({"split": "holdout"}, "split"),
        ({"evaluate": True, "unlabelled_only": True}, "unlabelled_only"),
        ({"champion_version": CHAMPION}, "champion_version"),
        ({"evaluate": True, "champion_version": "models/other/versions/1"}, "champion_version"),
        ({"max_attempts": 21}, "max_attempts"),
    ],
)
def test_a_refused_job_names_its_field(
    score: Callable[..., ScoringJob], asked: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        score(**asked)

    assert [violation.field for violation in refused.value.violations] == [f"scoring_job.{field}"]


def test_an_unknown_version_is_not_found_with_near_ones(score: Callable[..., ScoringJob]) -> None:
    with pytest.raises(NotFound) as missing:
        score(model_version="models/shapes/versions/9")

    assert missing.value.reason == "MODEL_VERSION_NOT_FOUND"
    assert VERSION in missing.value.metadata["near"]


def test_an_unknown_commit_and_an_unknown_job_are_not_found(
    house: Any, score: Callable[..., ScoringJob]
) -> None:
    with pytest.raises(NotFound) as commit:
        score(dataset_commit="datasets/shapes/commits/" + "cd" * 32)
    with pytest.raises(NotFound) as job:
        house.scorings.get("scoringJobs/nothing")

    assert [commit.value.reason, job.value.reason] == ["DATASET_COMMIT_NOT_FOUND", "SCORING_JOB_NOT_FOUND"]


def test_scores_are_not_ready_before_success_and_an_ended_job_is_not_cancelled(
    house: Any, score: Callable[..., ScoringJob]
) -> None:
    job = score()
    with pytest.raises(FailedPrecondition) as early:
        house.scorings.scores(job.name)
    house.scorings.cancel(job.name, "", b"")

    with pytest.raises(FailedPrecondition) as again:
        house.scorings.cancel(job.name, "", b"")

    assert [early.value.reason, again.value.reason] == ["SCORES_NOT_READY", "SCORING_JOB_ENDED"]
