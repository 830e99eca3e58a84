"""What callers of the training service may rely on, with workers that die at bad moments."""

import io
import os
import signal
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import sqlalchemy as sa
from halves_task import crawling
from running import Keys, Service
from slipway.registry.v1 import registry_pb2 as reg
from slipway.registry.v1 import registry_pb2_grpc as reg_grpc
from slipway.training.v1 import training_pb2 as pb
from slipway_runtime.errors import SlipwayError
from slipway_runtime.rpc import from_rpc_error

LONG = {"epochs": 100, "lr": 0.001}
State = pb.TrainingJob.State
Start = Callable[..., Service]


def packed(files: dict[str, str]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return data.getvalue()


def upload(stub: Any, data: bytes) -> pb.TaskCode:
    header = pb.UploadTaskCodeRequest(header=pb.TaskCodeHeader(size_bytes=len(data)))
    return stub.UploadTaskCode(iter([header, pb.UploadTaskCodeRequest(chunk=data)]))


def refused(call: Callable[[], Any]) -> SlipwayError:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return from_rpc_error(caught.value)


@pytest.fixture(scope="module")
def training_settings(training_settings: dict[str, object]) -> dict[str, object]:
    """Return the settings with a lease that no stall outlives; `expire` ends one."""
    return {**training_settings, "lease_s": 600.0}


@pytest.fixture
def expire(training_settings: dict[str, object]) -> Callable[[pb.TrainingJob], None]:
    """Return a function that makes it the time at which the lease of a job's dead worker ends."""

    def end(job: pb.TrainingJob) -> None:
        engine = sa.create_engine(str(training_settings["database_url"]))
        with engine.begin() as connection:
            statement = sa.text("UPDATE jobs SET lease_until = clock_timestamp() WHERE id = :id")
            assert connection.execute(statement, {"id": job.name.partition("/")[2]}).rowcount == 1
        engine.dispose()

    return end


def until(
    stub: Any, name: str, condition: Callable[[pb.TrainingJob], bool], within_s: float = 240
) -> pb.TrainingJob:
    stop_at = time.monotonic() + within_s
    while time.monotonic() < stop_at:
        job = stub.GetTrainingJob(pb.GetTrainingJobRequest(name=name))
        if condition(job):
            return job
        time.sleep(0.05)
    raise AssertionError(f"it did not come true in time: {job}")


def ended(job: pb.TrainingJob) -> bool:
    return job.state in {State.SUCCEEDED, State.FAILED, State.CANCELLED}


def in_mid_training(job: pb.TrainingJob) -> bool:
    return job.progress.stage == "train" and job.progress.step >= 100


@pytest.fixture
def asked(stub: Any, commit: str, task_file: str) -> Iterator[pb.TrainingJob]:
    """Return a job to ask for; what is left of its kind at the end is cancelled."""
    code = upload(stub, packed({"task.py": task_file}))
    model = f"models/m-{uuid.uuid4().hex[:8]}"
    yield pb.TrainingJob(
        display_name="halves",
        experiment="experiments/halves",
        model=model,
        dataset_commit=commit,
        task_code=code.name,
        entry_point="task.py:Halves",
        seed=1,
    )
    for job in stub.ListTrainingJobs(pb.ListTrainingJobsRequest(model=model)).training_jobs:
        if not ended(job):
            stub.CancelTrainingJob(pb.CancelTrainingJobRequest(name=job.name))


@pytest.fixture
def go(stub: Any, asked: pb.TrainingJob, task_file: str, tmp_path: Path) -> Path:
    """Make the job that is asked for train slowly from its middle on, until the file returned is there."""
    file = tmp_path / "go"
    asked.task_code = upload(stub, packed({"task.py": crawling(task_file, file)})).name
    return file


def create(stub: Any, asked: pb.TrainingJob, request_id: str = "", **hyperparameters: Any) -> pb.TrainingJob:
    asked.hyperparameters.update(hyperparameters)
    return stub.CreateTrainingJob(pb.CreateTrainingJobRequest(training_job=asked, request_id=request_id))


def test_the_same_folder_has_the_same_name_however_it_is_packed(stub: Any) -> None:
    one, same = (
        upload(stub, packed({"a.py": "", "b.py": "1"})),
        upload(stub, packed({"b.py": "1", "a.py": ""})),
    )

    assert one == same
    assert list(one.files) == ["a.py", "b.py"]


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        ({"experiment": "experiments/../x"}, "experiment", "INVALID_FIELD"),
        ({"model": "digits"}, "model", "INVALID_FIELD"),
        ({"dataset_commit": "datasets/x"}, "dataset_commit", "INVALID_FIELD"),
        ({"entry_point": "../task.py:Halves"}, "entry_point", "INVALID_FIELD"),
        ({"max_attempts": -1}, "max_attempts", "INVALID_FIELD"),
        ({"hyperparameters": {"epochz": 3}}, "hyperparameters.epochz", "INVALID_HYPERPARAMETER"),
        ({"hyperparameters": {"lr": 7}}, "hyperparameters.lr", "INVALID_HYPERPARAMETER"),
        (
            {"hyperparameters": {"epochs": 1.5}},
            "hyperparameters.epochs",
            "INVALID_HYPERPARAMETER",
        ),
        (
            {"hyperparameters": {"activation": "gelu"}},
            "hyperparameters.activation",
            "INVALID_HYPERPARAMETER",
        ),
    ],
)
def test_a_refused_job_names_field_value_and_remedy(
    stub: Any, asked: pb.TrainingJob, change: dict[str, Any], field: str, reason: str
) -> None:
    values = change.pop("hyperparameters", {})
    asked.MergeFrom(pb.TrainingJob(**change))

    error = refused(lambda: create(stub, asked, **values))

    assert error.reason == reason
    assert [violation.field.removeprefix("training_job.") for violation in error.violations] == [field]


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("task_code", "taskCode/" + "0" * 64, "TASK_CODE_NOT_FOUND"),
        ("dataset_commit", "datasets/halves/commits/" + "0" * 64, "DATASET_COMMIT_NOT_FOUND"),
        ("entry_point", "other.py:Halves", "TASK_CODE_REFUSED"),
        ("entry_point", "task.py:Other", "TASK_CODE_REFUSED"),
    ],
)
def test_what_is_not_there_is_said_by_reason(
    stub: Any, asked: pb.TrainingJob, field: str, value: str, reason: str
) -> None:
    setattr(asked, field, value)

    assert refused(lambda: create(stub, asked)).reason == reason


def test_an_unknown_job_is_not_found(stub: Any) -> None:
    error = refused(lambda: stub.GetTrainingJob(pb.GetTrainingJobRequest(name="trainingJobs/nothing")))

    assert error.reason == "TRAINING_JOB_NOT_FOUND"


def test_a_repeated_request_makes_one_job_and_other_content_is_refused(
    stub: Any, asked: pb.TrainingJob
) -> None:
    request_id = uuid.uuid4().hex
    first = create(stub, asked, request_id)

    assert create(stub, asked, request_id) == first
    asked.seed = 2
    assert refused(lambda: create(stub, asked, request_id)).reason == "REQUEST_ID_REUSED"


def test_jobs_are_listed_newest_first_by_pages(stub: Any, asked: pb.TrainingJob) -> None:
    made = [create(stub, asked).name for _ in range(3)]
    request = pb.ListTrainingJobsRequest(page_size=2, model=asked.model)

    first = stub.ListTrainingJobs(request)
    request.page_token = first.next_page_token
    second = stub.ListTrainingJobs(request)

    assert [job.name for page in (first, second) for job in page.training_jobs] == made[::-1]
    assert second.next_page_token == ""
    request.model = "models/other"
    assert refused(lambda: stub.ListTrainingJobs(request)).reason == "INVALID_PAGE_TOKEN"


def test_a_waiting_job_is_cancelled_at_once_and_only_once(stub: Any, asked: pb.TrainingJob) -> None:
    job = create(stub, asked)

    cancelled = stub.CancelTrainingJob(pb.CancelTrainingJobRequest(name=job.name))

    assert cancelled.state == State.CANCELLED
    again = refused(lambda: stub.CancelTrainingJob(pb.CancelTrainingJobRequest(name=job.name)))
    assert again.reason == "TRAINING_JOB_ENDED"


def test_a_job_trains_to_one_version_and_watching_shows_it_end(
    stub: Any, asked: pb.TrainingJob, start_worker: Start, registry: Service, keys: Keys
) -> None:
    start_worker()
    job = create(stub, asked, epochs=3)

    seen = list(stub.WatchTrainingJob(pb.WatchTrainingJobRequest(name=job.name), timeout=240))

    last = seen[-1]
    assert (last.state, last.error) == (State.SUCCEEDED, "")
    assert last.model_version == f"{asked.model}/versions/1"
    with registry.channel(keys.user()) as opened:
        stubs = reg_grpc.RegistryServiceStub(opened)
        version = stubs.GetModelVersion(reg.GetModelVersionRequest(name=last.model_version))
        run = stubs.GetRun(reg.GetRunRequest(name=last.run))
    assert (version.run, version.dataset_commit) == (last.run, asked.dataset_commit)
    assert sum(version.evaluation.confusion_matrix) == version.evaluation.example_count > 0
    assert run.state == reg.Run.State.SUCCEEDED
    assert run.params["epochs"] == 3
    assert "train/loss" in run.last_metrics
    assert run.creator == job.creator == "users/ann"


def test_a_killed_worker_loses_nothing_and_its_process_dies_with_it(
    stub: Any, asked: pb.TrainingJob, start_worker: Start, go: Path, expire: Callable[[pb.TrainingJob], None]
) -> None:
    doomed = start_worker()
    job = create(stub, asked, **LONG)
    running = until(stub, job.name, in_mid_training)

    doomed.kill()
    go.touch()
    expire(job)
    killed_pid = running.attempts[0].pid
    start_worker()
    done = until(stub, job.name, ended)

    with pytest.raises(ProcessLookupError):
        os.kill(killed_pid, 0)
    assert done.state == State.SUCCEEDED
    assert [attempt.outcome for attempt in done.attempts] == ["LOST", "SUCCEEDED"]
    assert done.attempts[1].start_step > 0
    assert done.model_version.endswith("/versions/1")


def test_without_the_sweeper_a_killed_workers_job_stays_where_it_is(
    stub: Any, asked: pb.TrainingJob, start_worker: Start, go: Path, expire: Callable[[pb.TrainingJob], None]
) -> None:
    doomed = start_worker(sweep_interval_s=3600)
    job = create(stub, asked, **LONG)
    until(stub, job.name, in_mid_training)

    doomed.kill()
    go.touch()
    expire(job)
    start_worker(sweep_interval_s=3600)
    time.sleep(5)

    assert stub.GetTrainingJob(pb.GetTrainingJobRequest(name=job.name)).state == State.RUNNING


def test_a_stopped_worker_gives_the_job_back_at_once(
    stub: Any, asked: pb.TrainingJob, start_worker: Start, go: Path
) -> None:
    first = start_worker()
    job = create(stub, asked, **LONG)
    until(stub, job.name, in_mid_training)

    os.kill(first.pid, signal.SIGTERM)
    until(stub, job.name, lambda job: job.state == State.PENDING)  # long before its lease ends
    first.kill()
    go.touch()
    start_worker()
    done = until(stub, job.name, ended)

    assert done.state == State.SUCCEEDED
    assert done.attempts[1].start_step > 0


def test_a_cancelled_job_stops_soon_and_leaves_no_process(
    stub: Any, asked: pb.TrainingJob, start_worker: Start, go: Path
) -> None:
    start_worker()
    job = create(stub, asked, **LONG)
    running = until(stub, job.name, in_mid_training)

    stub.CancelTrainingJob(pb.CancelTrainingJobRequest(name=job.name))
    done = until(stub, job.name, ended)

    assert done.state == State.CANCELLED
    with pytest.raises(ProcessLookupError):
        os.killpg(running.attempts[0].pid, 0)


def test_a_killed_training_process_is_resumed_by_the_same_worker(
    stub: Any, asked: pb.TrainingJob, start_worker: Start, go: Path
) -> None:
    start_worker()
    job = create(stub, asked, **LONG)
    running = until(stub, job.name, in_mid_training)

    os.kill(running.attempts[0].pid, signal.SIGKILL)
    go.touch()
    done = until(stub, job.name, ended)

    assert done.state == State.SUCCEEDED
    assert "SIGKILL" in done.attempts[0].error
    assert done.attempts[1].start_step > 0
