"""What callers of scoring jobs may rely on, beside a real ingestion and registry, under kills.

`make campaign` kills ten times and more (SLIPWAY_FULL_CAMPAIGN), `make test` a few times.
"""

import io
import os
import random
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import sqlalchemy as sa
from bundles import upload
from half_images import LABELS, commit_of, items
from image_bundles import answers, image_bundle
from PIL import Image
from running import Keys, Service
from slipway.ingestion.v1 import ingestion_pb2 as ing
from slipway.ingestion.v1 import ingestion_pb2_grpc as ing_grpc
from slipway.registry.v1 import registry_pb2 as reg
from slipway.registry.v1 import registry_pb2_grpc as reg_grpc
from slipway.training.v1 import training_pb2 as pb
from slipway_runtime.errors import SlipwayError
from slipway_runtime.rpc import from_rpc_error

pytestmark = pytest.mark.xdist_group("scoring")
FULL = bool(os.environ.get("SLIPWAY_FULL_CAMPAIGN"))
COUNT = 1200  # 30 parts of 40
PART_ROWS = 40
KILLS = ["process", "worker", "stall"] * 5 if FULL else ["process", "worker", "stall"]
State = pb.TrainingJob.State
Start = Callable[..., Service]


@dataclass(frozen=True)
class Shelf:
    """What there is to score: a commit, part of it forgotten, and two versions of a model."""

    commit: str
    version: str
    champion: str
    models: dict[str, bytes]


@pytest.fixture(scope="module")
def shelf(keys: Keys, ingestion: Service, registry: Service, tmp_path_factory: Any) -> Shelf:
    with ingestion.channel(keys.user()) as opened:
        stub = ing_grpc.IngestionServiceStub(opened)
        stub.CreateDataset(ing.CreateDatasetRequest(dataset_id="scored"))
        whole = commit_of(stub, "datasets/scored", items(COUNT))
        page = ing.ListExamplesRequest(parent=whole, split="train", page_size=1000)
        train = list(stub.ListExamples(page).examples)
        forgotten = (ing.UploadItem(key=e.key, blob=e.blob) for n, e in enumerate(train) if n % 5)
        commit = commit_of(stub, "datasets/scored", forgotten)
    models: dict[str, bytes] = {}
    with registry.channel(keys.user()) as opened:
        stub = reg_grpc.RegistryServiceStub(opened)
        with suppress(grpc.RpcError):
            stub.CreateExperiment(reg.CreateExperimentRequest(experiment_id="scored"))
        stub.CreateModel(reg.CreateModelRequest(model_id="scored"))
        for seed, classes in ((1, LABELS[::-1]), (2, LABELS)):
            folder = tmp_path_factory.mktemp("bundles") / "bundle"
            name, files = image_bundle(folder, classes, seed=seed, repeats=8)
            upload(stub, name, files)
            run = reg.Run(dataset_commit=commit, code_digest="taskCode/" + "0" * 64)
            made = stub.CreateRun(reg.CreateRunRequest(parent="experiments/scored", run=run))
            version = reg.ModelVersion(run=made.name, bundle=name)
            request = reg.CreateModelVersionRequest(parent="models/scored", model_version=version, attempt=1)
            models[stub.CreateModelVersion(request).name] = files["model.onnx"]
    champion, version = models
    return Shelf(commit, version, champion, models)


@pytest.fixture
def ask(stub: Any, shelf: Shelf) -> Iterator[Callable[..., pb.ScoringJob]]:
    """Return a function that asks for a scoring job; what is left of them at the end is cancelled."""
    made: list[str] = []

    def create(request_id: str = "", **changes: Any) -> pb.ScoringJob:
        fields = {"model_version": shelf.version, "dataset_commit": shelf.commit, **changes}
        request = pb.CreateScoringJobRequest(scoring_job=pb.ScoringJob(**fields), request_id=request_id)
        job = stub.CreateScoringJob(request)
        made.append(job.name)
        return job

    yield create
    for name in made:
        with suppress(grpc.RpcError):
            stub.CancelScoringJob(pb.CancelScoringJobRequest(name=name))


def refused(call: Callable[[], Any]) -> SlipwayError:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return from_rpc_error(caught.value)


def until(stub: Any, name: str, condition: Callable[[pb.ScoringJob], bool], within_s: float = 240) -> Any:
    stop_at = time.monotonic() + within_s
    while time.monotonic() < stop_at:
        job = stub.GetScoringJob(pb.GetScoringJobRequest(name=name))
        if condition(job):
            return job
        time.sleep(0.02)
    raise AssertionError(f"it did not come true in time: {job}")


def ended(job: pb.ScoringJob) -> bool:
    return job.state in {State.SUCCEEDED, State.FAILED, State.CANCELLED}


def scores(stub: Any, name: str) -> list[pb.ExampleScore]:
    parts = stub.ReadScores(pb.ReadScoresRequest(name=name), timeout=120)
    return [score for part in parts for score in part.scores]


def scoring_process(worker: Service) -> int:
    """Return the process id of a worker's scoring process, 0 when it has none."""
    for folder in Path("/proc").iterdir():
        with suppress(OSError, ValueError, IndexError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == worker.pid and b"engine.scoring" in (folder / "cmdline").read_bytes():
                return int(folder.name)
    return 0


@pytest.fixture(scope="module")
def rows(keys: Keys, ingestion: Service, shelf: Shelf) -> list[tuple[ing.Example, bytes]]:
    """Return what the commit holds, in key order."""
    with ingestion.channel(keys.user()) as opened:
        stub = ing_grpc.IngestionServiceStub(opened)
        parts = stub.ReadExamples(ing.ReadExamplesRequest(commit=shelf.commit), timeout=120)
        return [(item.example, item.data) for part in parts for item in part.examples]


def direct(model: bytes, rows: list[tuple[ing.Example, bytes]]) -> list[Any]:
    """Return what a graph answers when it is run directly, in batches of a part's size."""
    images = np.stack([np.asarray(Image.open(io.BytesIO(data)))[..., None] for _, data in rows])
    return answers(model, images, rows=PART_ROWS)


def test_scores_equal_those_of_the_graph_run_directly(
    stub: Any, ask: Callable[..., pb.ScoringJob], start_worker: Start, shelf: Shelf, rows: Any
) -> None:
    start_worker()
    job = ask()

    last = list(stub.WatchScoringJob(pb.WatchScoringJobRequest(name=job.name), timeout=240))[-1]

    assert (last.state, last.error) == (State.SUCCEEDED, "")
    assert (last.done_count, last.total_count, tuple(last.classes)) == (COUNT, COUNT, LABELS)
    got = scores(stub, job.name)
    assert [(s.key, s.label, s.split) for s in got] == [(e.key, e.label, e.split) for e, _ in rows]
    assert [s.in_training for s in got] == [bool(e.label) and e.split == "train" for e, _ in rows]
    probabilities, embedding = direct(shelf.models[shelf.version], rows)
    assert np.array_equal(np.array([s.probabilities for s in got], dtype=np.float32), probabilities)
    assert np.array_equal(np.array([s.embedding for s in got], dtype=np.float32), embedding)


def test_unlabelled_only_scores_what_was_forgotten(
    stub: Any, ask: Callable[..., pb.ScoringJob], start_worker: Start, rows: Any
) -> None:
    start_worker()
    train, test = ask(split="train", unlabelled_only=True), ask(split="test", unlabelled_only=True)

    done = [until(stub, job.name, ended) for job in (train, test)]

    forgotten = [e.key for e, _ in rows if not e.label]
    assert len(forgotten) > 600
    assert [score.key for score in scores(stub, train.name)] == forgotten
    assert [job.state for job in done] == [State.SUCCEEDED, State.SUCCEEDED]
    assert scores(stub, test.name) == []


def test_a_request_is_repeated_listed_and_refused_by_reason(
    stub: Any, ask: Callable[..., pb.ScoringJob], shelf: Shelf
) -> None:
    request_id = uuid.uuid4().hex
    job = ask(request_id)

    assert ask(request_id) == job
    assert refused(lambda: ask(request_id, split="test")).reason == "REQUEST_ID_REUSED"
    listed = stub.ListScoringJobs(pb.ListScoringJobsRequest(model_version=shelf.version, page_size=1))
    assert [one.name for one in listed.scoring_jobs] == [job.name]
    assert refused(lambda: scores(stub, job.name)).reason == "SCORES_NOT_READY"
    assert stub.CancelScoringJob(pb.CancelScoringJobRequest(name=job.name)).state == State.CANCELLED
    again = refused(lambda: stub.CancelScoringJob(pb.CancelScoringJobRequest(name=job.name)))
    assert again.reason == "SCORING_JOB_ENDED"


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("model_version", "models/scored/versions/9", "MODEL_VERSION_NOT_FOUND"),
        ("model_version", "models/scorez/versions/1", "MODEL_VERSION_NOT_FOUND"),
        ("dataset_commit", "datasets/scored/commits/" + "0" * 64, "DATASET_COMMIT_NOT_FOUND"),
        ("champion_version", "models/scored/versions/1", "INVALID_FIELD"),
        ("split", "holdout", "INVALID_FIELD"),
    ],
)
def test_what_is_not_there_or_not_allowed_is_said_by_reason(
    ask: Callable[..., pb.ScoringJob], field: str, value: str, reason: str
) -> None:
    error = refused(lambda: ask(**{field: value}))

    assert error.reason == reason
    if reason == "MODEL_VERSION_NOT_FOUND":
        assert "scored" in error.metadata["near"]


def test_a_running_job_is_cancelled_soon_and_leaves_no_process(
    stub: Any, ask: Callable[..., pb.ScoringJob], start_worker: Start
) -> None:
    worker = start_worker()
    for _ in range(20):  # one that ended before it was cancelled is asked for again
        job = ask()
        until(stub, job.name, lambda seen: seen.done_count > 0)
        with suppress(grpc.RpcError):
            stub.CancelScoringJob(pb.CancelScoringJobRequest(name=job.name))
        done = until(stub, job.name, ended)
        if done.done_count < done.total_count:
            break

    assert done.state == State.CANCELLED
    assert done.done_count < done.total_count
    assert scoring_process(worker) == 0
    assert refused(lambda: scores(stub, job.name)).reason == "SCORES_NOT_READY"


class Disturbance:
    """Kills and stalls the workers of one job at random moments.

    Args:
        stub: To see the job.
        start: Starts a worker.
        database_url: Of the service.
        seed: Of the moments.
    """

    def __init__(self, stub: Any, start: Callable[[], Service], database_url: str, seed: int) -> None:
        self._stub = stub
        self._start = start
        self._database_url = database_url
        self._random = random.Random(seed)
        self._workers = [start()]
        self.done: list[str] = []

    def run(self, name: str, kinds: list[str]) -> pb.ScoringJob:
        """Disturb in each of these ways while the job runs, and return it at its end."""
        for kind in kinds:
            began = until(self._stub, name, lambda job: job.state == State.RUNNING or ended(job))
            if ended(began):
                break
            if ended(until(self._stub, name, self._progressed(began))):
                break
            time.sleep(self._random.uniform(0, 0.1))
            if not getattr(self, f"_{kind}")(name):
                break
            self.done.append(kind)
        return until(self._stub, name, ended)

    def _progressed(self, began: pb.ScoringJob) -> Callable[[pb.ScoringJob], bool]:
        """A moment inside an attempt: while it starts, or after some more of its parts."""
        more = self._random.choice([0, PART_ROWS])
        return lambda job: ended(job) or job.done_count >= began.done_count + more

    def _process(self, name: str) -> bool:
        working = self._working(name)
        if working is None:
            return False
        with suppress(ProcessLookupError):
            os.kill(scoring_process(working) or 2**22, signal.SIGKILL)
        return True

    def _worker(self, name: str) -> bool:
        working = self._working(name)
        if working is None:
            return False
        working.kill()
        self._workers = [worker for worker in self._workers if worker is not working] or [self._start()]
        return True

    def _stall(self, name: str) -> bool:
        """Hold a worker until another has stored parts of the job; then hold that one for a moment."""
        sleeper = self._working(name)
        if sleeper is None:
            return False
        sleeper.halt(self._database_url)
        before = self._stub.GetScoringJob(pb.GetScoringJobRequest(name=name))
        enough = before.done_count + 2 * PART_ROWS  # one may be the sleeper's, sent before it slept
        if len(self._workers) == 1:
            self._workers.append(self._start())
        taken = self._soon(
            name, lambda job: ended(job) or (job.attempt > before.attempt and job.done_count >= enough)
        )
        others = [worker for worker in self._workers if worker is not sleeper]
        for other in others:
            other.halt(self._database_url)
        sleeper.go_on()
        self._soon(
            name, lambda job: job.done_count > taken.done_count or job.attempt > taken.attempt, within_s=30
        )
        for other in others:
            other.go_on()
        return taken.attempt > before.attempt and not ended(taken)

    def _working(self, name: str) -> Service | None:
        """Return the worker that has a scoring process once there is one, unless the job ends before."""
        stop_at = time.monotonic() + 30
        while time.monotonic() < stop_at:
            for worker in self._workers:
                if scoring_process(worker):
                    return worker
            if ended(self._stub.GetScoringJob(pb.GetScoringJobRequest(name=name))):
                return None
            time.sleep(0.02)
        return None

    def _soon(self, name: str, condition: Callable[[pb.ScoringJob], bool], within_s: float = 60) -> Any:
        """Return the job once the condition holds, or as it is when the time is over."""
        with suppress(AssertionError):
            return until(self._stub, name, condition, within_s)
        return self._stub.GetScoringJob(pb.GetScoringJobRequest(name=name))


@dataclass(frozen=True)
class Audit:
    """What a disturbed job left: keys that are missing or doubled, and parts that a lost attempt wrote."""

    missing: list[str]
    doubled: list[str]
    differing: list[str]
    stale_parts: list[int]

    @property
    def clean(self) -> bool:
        """Say whether each key is there once, as undisturbed, by attempts that held the job."""
        return not (self.missing or self.doubled or self.differing or self.stale_parts)


def audit(stub: Any, database_url: str, name: str, undisturbed: list[pb.ExampleScore]) -> Audit:
    got = scores(stub, name)
    keys = [score.key for score in got]
    wanted = {score.key: score for score in undisturbed}
    engine = sa.create_engine(database_url)
    with engine.connect() as connection:
        query = sa.text("SELECT number, attempt FROM score_parts WHERE job = :id ORDER BY create_time")
        written = connection.execute(query, {"id": name.partition("/")[2]}).all()
    engine.dispose()
    newest = np.maximum.accumulate([attempt for _, attempt in written])
    return Audit(
        missing=sorted(wanted.keys() - set(keys)),
        doubled=[key for key in set(keys) if keys.count(key) > 1],
        differing=[score.key for score in got if score != wanted.get(score.key)],
        stale_parts=[part for (part, by), seen in zip(written, newest, strict=True) if by < seen],
    )


@pytest.fixture
def undisturbed(stub: Any, ask: Callable[..., pb.ScoringJob], start_worker: Start) -> list[pb.ExampleScore]:
    worker = start_worker()
    job = ask()
    assert until(stub, job.name, ended).state == State.SUCCEEDED
    worker.kill()
    return scores(stub, job.name)


@pytest.mark.timeout(600)
def test_each_key_is_scored_once_whatever_is_killed(
    stub: Any,
    ask: Callable[..., pb.ScoringJob],
    start_worker: Start,
    training_settings: dict[str, Any],
    undisturbed: list[pb.ExampleScore],
) -> None:
    url = training_settings["database_url"]
    disturbance = Disturbance(stub, start_worker, url, seed=0)
    for _ in range(4 * len(KILLS)):
        if len(disturbance.done) >= len(KILLS):
            break
        job = ask(max_attempts=20)

        last = disturbance.run(job.name, KILLS[len(disturbance.done) :])

        assert (last.state, last.done_count) == (State.SUCCEEDED, COUNT)
        found = audit(stub, url, job.name, undisturbed)
        assert found.clean, found
    assert len(disturbance.done) >= len(KILLS)


def test_without_the_fence_a_lost_attempt_is_found_writing(
    stub: Any,
    ask: Callable[..., pb.ScoringJob],
    start_worker: Start,
    training_settings: dict[str, Any],
    undisturbed: list[pb.ExampleScore],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    url = training_settings["database_url"]
    disturbance = Disturbance(stub, lambda: start_worker("unfenced_scoring"), url, seed=0)
    for _ in range(8):  # a job may end before it is stalled, and the lost attempt before it writes
        job = ask(max_attempts=20)
        disturbance.run(job.name, ["stall"])
        found = audit(stub, url, job.name, undisturbed)
        if found.stale_parts:
            break

    assert "stall" in disturbance.done
    assert found.stale_parts, found


def test_an_evaluation_is_recorded_in_the_registry_with_the_champion_beside_the_version(
    stub: Any,
    ask: Callable[..., pb.ScoringJob],
    start_worker: Start,
    registry: Service,
    keys: Keys,
    shelf: Shelf,
    rows: Any,
) -> None:
    start_worker()
    job = ask(evaluate=True, split="test", champion_version=shelf.champion)

    last = until(stub, job.name, ended)

    assert (last.state, last.error) == (State.SUCCEEDED, "")
    with registry.channel(keys.user()) as opened:
        request = reg.GetVersionEvaluationRequest(name=last.evaluation)
        made = reg_grpc.RegistryServiceStub(opened).GetVersionEvaluation(request)
    labelled = [(e, data) for e, data in rows if e.split == "test" and e.label]
    probabilities = direct(shelf.models[shelf.version], labelled)[0]
    hits = [LABELS[int(p.argmax())] == e.label for p, (e, _) in zip(probabilities, labelled, strict=True)]
    assert made.name.startswith(f"{shelf.version}/evaluations/")
    assert (made.champion_version, made.split, made.example_count) == (shelf.champion, "test", len(labelled))
    assert made.metrics["accuracy"] == pytest.approx(np.mean(hits))
    assert 0 < made.latency_ratio_low <= made.latency_ratio <= made.latency_ratio_high
    assert (made.golden_count, made.golden_max_abs_diff < 1e-6) == (4, True)
