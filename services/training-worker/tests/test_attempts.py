"""Attempts on real PostgreSQL and S3: claims, leases, deaths, fences, cancellation."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import neighbours
import pytest
from halves_task import TASK, crawling
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from slipway.registry.v1 import registry_pb2 as reg
from slipway_runtime import telemetry
from slipway_runtime.errors import Unavailable
from slipway_training.domain import FencedError, Job, Outcome, State
from slipway_training.engine.data import Row, check_out
from slipway_training.store import Store, leases

LONG = {"epochs": 150, "lr": 0.001}


def recorded_spans() -> InMemorySpanExporter:
    """Return where the spans of this process are kept from now on; its provider is set only once."""
    if not isinstance(trace.get_tracer_provider(), TracerProvider):
        trace.set_tracer_provider(TracerProvider())
    exporter = InMemorySpanExporter()
    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter


def until(condition: Callable[[], Any], within_s: float = 120.0) -> Any:
    """Return what the condition gives once it is true."""
    stop_at = time.monotonic() + within_s
    while time.monotonic() < stop_at:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not come true in time")


@pytest.fixture
def go(tmp_path: Path) -> Path:
    """Return the file that lets crawling tasks run."""
    return tmp_path / "go"


def in_thread(work: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def trained(house: Any, name: str, step: int) -> Callable[[], Job | None]:
    """Return a condition: the running job has passed a step and stored a checkpoint."""

    def condition() -> Job | None:
        job: Job = house.jobs.get(name)
        with house.database.transaction() as connection:
            stored = Store(connection).checkpoints(job.id)
        return job if job.progress.step >= step and stored and job.progress.stage == "train" else None

    return condition


def test_a_job_ends_with_one_version_metrics_and_a_whole_bundle(
    house: Any, registry: neighbours.Registry
) -> None:
    job = house.submit(hyperparameters={"epochs": 3})
    spans = recorded_spans()

    with telemetry.tracer.start_as_current_span("caller"):
        house.attempts.run(job.id)

    done = house.jobs.get(job.name)
    assert (done.state, done.error) == (State.SUCCEEDED, "")
    assert done.model_version == registry.versions[0].name == "models/shapes/versions/1"
    assert [attempt.outcome for attempt in done.attempts] == [Outcome.SUCCEEDED]
    assert registry.state == reg.Run.State.SUCCEEDED
    assert registry.params["activation"] == "relu"
    assert registry.params["epochs"] == 3
    losses = [step for key, step in registry.points if key == "train/loss"]
    assert sorted(losses) == list(range(1, done.progress.total_steps + 1))
    files = registry.bundles[registry.versions[0].bundle]
    manifest = json.loads(files["manifest.json"])
    assert set(manifest["files"]) | {"manifest.json"} == set(files)
    assert manifest["dataset_commit"] == neighbours.COMMIT
    stages = ["checkout", "smoke", "train", "baseline", "evaluate", "export", "register"]
    finished = spans.get_finished_spans()
    assert [span.name for span in finished if span.name.startswith("stage")] == [f"stage {s}" for s in stages]
    assert len({span.context.trace_id for span in finished}) == 1


def test_a_training_process_killed_in_mid_training_resumes_from_its_checkpoint(
    house: Any, registry: neighbours.Registry, go: Path
) -> None:
    job = house.submit(task=crawling(TASK, go), hyperparameters=LONG)
    thread = in_thread(lambda: house.attempts.run(job.id))
    seen = until(trained(house, job.name, 50))

    os.kill(seen.attempts[0].pid, signal.SIGKILL)
    thread.join(120)
    lost = house.jobs.get(job.name)
    go.touch()
    house.attempts.run(house.sent[-1])

    done = house.jobs.get(job.name)
    assert lost.state is State.PENDING
    assert lost.attempts[0].outcome is Outcome.LOST
    assert "SIGKILL" in lost.attempts[0].error
    assert done.state is State.SUCCEEDED
    assert 0 < done.attempts[1].start_step < done.progress.total_steps  # reported steps lag behind saved ones
    assert registry.resume_steps == [0, done.attempts[1].start_step]
    losses = {step for key, step in registry.points if key == "train/loss"}
    assert losses == {step for step in range(1, done.progress.total_steps + 1) if step % _every(done) == 0}


def _every(job: Job) -> int:
    return max(1, job.progress.total_steps // 2000)


def test_another_host_resumes_from_the_stored_checkpoint(house: Any, tmp_path: Path, go: Path) -> None:
    import shutil

    job = house.submit(task=crawling(TASK, go), hyperparameters=LONG)
    thread = in_thread(lambda: house.attempts.run(job.id))
    seen = until(trained(house, job.name, 50))
    os.kill(seen.attempts[0].pid, signal.SIGKILL)
    thread.join(120)
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    go.touch()

    house.attempts.run(job.id)

    done = house.jobs.get(job.name)
    assert done.state is State.SUCCEEDED
    assert done.attempts[1].start_step > 0


def test_a_job_is_dead_lettered_with_its_reason_when_every_attempt_dies(
    house: Any, registry: neighbours.Registry
) -> None:
    dying = TASK + "\nimport os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"
    job = house.submit(task=dying, max_attempts=2)

    house.attempts.run(job.id)
    house.attempts.run(job.id)
    house.attempts.run(job.id)

    dead = house.jobs.get(job.name)
    assert dead.state is State.FAILED
    assert dead.error.startswith(
        "gave up after 2 attempts that died; the last: the training process was killed"
    )
    assert len(dead.attempts) == 2
    assert registry.state == reg.Run.State.FAILED


def test_an_error_of_the_task_fails_the_job_at_once_and_names_the_line(house: Any) -> None:
    job = house.submit(task=TASK.replace("size = self", "size = 1 // 0 * self"))

    house.attempts.run(job.id)

    failed = house.jobs.get(job.name)
    assert failed.state is State.FAILED
    assert failed.error == "ZeroDivisionError: integer division or modulo by zero (at task.py:13)"


def test_a_job_that_failed_before_its_training_began_ends_its_run_and_is_closed(
    house: Any, registry: neighbours.Registry
) -> None:
    job = house.submit(task="raise RuntimeError('no task')\n\nclass Halves:\n    pass\n")

    house.attempts.run(job.id)

    assert house.jobs.get(job.name).state is State.FAILED
    assert registry.state == reg.Run.State.FAILED
    with house.database.transaction() as connection:
        assert Store(connection).unclosed() == []


def test_a_loss_that_does_not_fall_fails_in_the_smoke_stage_with_the_reason(house: Any) -> None:
    job = house.submit(
        task=TASK + "\n    def loss(self, logits, targets):\n        return (logits * 0).sum() + 1\n"
    )

    house.attempts.run(job.id)

    failed = house.jobs.get(job.name)
    assert failed.state is State.FAILED
    assert failed.error.startswith("smoke stage: the loss of one batch of 32 went from 1 to 1 in 100 steps")


def test_a_commit_of_forgotten_labels_trains_on_the_labelled_examples_alone(
    house: Any, ingestion: neighbours.Ingestion, registry: neighbours.Registry
) -> None:
    for number, (example, _) in enumerate(ingestion.kept):
        if example.split == "train" and number % 5:
            example.label = ""
    ingestion.kept[0][0].label = ""  # of the test split
    job = house.submit(hyperparameters={"epochs": 3})

    house.attempts.run(job.id)

    done = house.jobs.get(job.name)
    assert (done.state, done.error) == (State.SUCCEEDED, "")
    labelled = [example for example, _ in ingestion.kept if example.label]
    train = [example for example in labelled if example.split == "train"]
    test = [example for example in labelled if example.split == "test"]
    assert done.progress.total_steps == 3 * (len(train) // 8)
    evaluation = json.loads(registry.bundles[done.bundle]["evaluation.json"])
    assert evaluation["classes"] == ["left", "right"]
    assert evaluation["example_count"] == len(test) == 23


@pytest.mark.parametrize(
    ("forgotten", "why"),
    [
        ({"train", "validation", "test"}, "no example of the commit has a label; label some"),
        ({"train"}, "the commit has no labelled example in the split 'train'"),
        ({"validation", "test"}, "the commit has no labelled example in 'test' or 'validation'"),
    ],
)
def test_a_commit_without_the_labels_that_training_needs_fails_before_any_step(
    house: Any, ingestion: neighbours.Ingestion, forgotten: set[str], why: str
) -> None:
    for example, _ in ingestion.kept:
        example.label = "" if example.split in forgotten else example.label
    job = house.submit()

    house.attempts.run(job.id)

    failed = house.jobs.get(job.name)
    assert (failed.state, failed.progress.step) == (State.FAILED, 0)
    assert failed.error.startswith(why)


def test_cancelling_a_running_job_kills_its_process_group(
    house: Any, registry: neighbours.Registry, go: Path
) -> None:
    job = house.submit(task=crawling(TASK, go), hyperparameters=LONG)
    thread = in_thread(lambda: house.attempts.run(job.id))
    seen = until(trained(house, job.name, 20))

    house.jobs.cancel(job.name, "", b"")
    thread.join(120)

    assert house.jobs.get(job.name).state is State.CANCELLED
    assert registry.state == reg.Run.State.CANCELLED
    with pytest.raises(ProcessLookupError):
        os.killpg(seen.attempts[0].pid, 0)


def test_a_stopping_worker_gives_its_job_back_and_that_costs_no_attempt(house: Any, go: Path) -> None:
    job = house.submit(task=crawling(TASK, go), hyperparameters=LONG, max_attempts=1)
    thread = in_thread(lambda: house.attempts.run(job.id))
    until(trained(house, job.name, 20))

    house.attempts.stop()
    thread.join(120)
    given_back = house.jobs.get(job.name)
    go.touch()
    house.worker().run(job.id)

    assert given_back.state is State.PENDING
    assert house.sent[-1] == job.id
    done = house.jobs.get(job.name)
    assert done.state is State.SUCCEEDED
    assert done.attempts[1].start_step > 0


def test_only_one_of_two_workers_gets_a_job(house: Any) -> None:
    job = house.submit()

    claimed = [house.worker(lease_s=600)._claim(job.id) for _ in range(2)]

    assert [found is None for found in claimed] == [False, True]


def test_the_sweeper_sends_what_waits_and_what_lost_its_lease_and_leaves_the_rest(house: Any) -> None:
    waiting, lost, held = (house.submit(display_name=name) for name in ("waiting", "lost", "held"))
    house.worker(lease_s=0.05)._claim(lost.id)
    house.worker(lease_s=600)._claim(held.id)
    house.sent.clear()
    time.sleep(0.1)

    house.attempts.sweep()

    assert sorted(house.sent) == sorted([waiting.id, lost.id])


def _claimed_twice(house: Any) -> tuple[Job, Job]:
    job = house.submit()
    first = house.worker(lease_s=0.05)._claim(job.id)
    time.sleep(0.1)
    return first, house.worker()._claim(job.id)


def test_an_attempt_that_lost_its_lease_is_fenced_off_from_every_effect(house: Any) -> None:
    first, second = _claimed_twice(house)

    for effect in _effects(first):
        with pytest.raises(FencedError), house.database.transaction() as connection:
            effect(Store(connection))

    now = house.jobs.get(first.name)
    assert (now.attempt, now.bundle) == (second.attempt, "")
    assert [attempt.outcome for attempt in now.attempts] == [Outcome.LOST, Outcome.RUNNING]


def test_without_the_fence_a_lost_attempt_would_write(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = _claimed_twice(house)
    monkeypatch.setattr(leases, "held", lambda table, id, attempt: (table.c.id == id,))

    with house.database.transaction() as connection:
        for effect in _effects(first):
            effect(Store(connection))

    assert house.jobs.get(first.name).bundle == "bundles/stale"


def _effects(job: Job) -> list[Callable[[Store], Any]]:
    return [
        lambda store: store.renew(job.id, job.attempt, 10.0),
        lambda store: store.note(job.id, job.attempt, bundle="bundles/stale"),
        lambda store: store.add_checkpoint(job.id, job.attempt, "step", 1),
    ]


def test_a_registry_that_is_away_costs_the_job_no_attempt(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> str:
        raise Unavailable("UNAVAILABLE", "the registry is away")

    job = house.submit(max_attempts=1)
    monkeypatch.setattr(house.bench.registry, "open_run", away)

    house.attempts.run(job.id)

    waiting = house.jobs.get(job.name)
    assert (waiting.state, waiting.failures) == (State.PENDING, 0)
    assert waiting.attempts[0].error == "given back: the registry is away"


def test_registering_is_taken_up_where_the_attempt_before_died(
    house: Any, registry: neighbours.Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = house.submit()
    doomed = house.worker()
    monkeypatch.setattr(doomed, "_end", lambda job, ending: None)  # dies between FinishRun and its own row
    monkeypatch.setattr(doomed, "_lease_s", 0.3)
    doomed.run(job.id)
    time.sleep(0.4)

    house.attempts.run(job.id)

    done = house.jobs.get(job.name)
    assert (done.state, done.model_version) == (State.SUCCEEDED, "models/shapes/versions/1")
    assert len(registry.versions) == 1
    assert done.attempts[1].pid == 0


def test_a_job_after_an_erasure_checks_the_commit_out_again_without_what_was_erased(
    house: Any, ingestion: neighbours.Ingestion, tmp_path: Path
) -> None:
    erased, data = ingestion.kept.pop(0)
    ingestion.erasure_revision = 1
    before = tmp_path / "checkouts" / neighbours.COMMIT.rpartition("/")[2]
    check_out(before, [Row(erased.key, erased.label, erased.split, erased.blob, data)])
    job = house.submit(hyperparameters={"epochs": 1})

    house.attempts.run(job.id)

    done = house.jobs.get(job.name)
    assert (done.state, done.error) == (State.SUCCEEDED, "")
    (checkout,) = (path for path in before.parent.iterdir() if path.is_dir())
    keys = {json.loads(line)[0] for line in (checkout / "rows.jsonl").read_text().splitlines()}
    assert keys == {example.key for example, _ in ingestion.kept}
