"""What callers may rely on in the registry, beside the battery: fences, points, bundles, versions."""

import io
import pickle
import sys
import uuid
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from running import Keys, Service

sys.path.insert(0, str(Path(__file__).parent))

import bundles
from slipway.registry.v1 import registry_pb2 as pb
from slipway.registry.v1 import registry_pb2_grpc
from slipway_runtime.rpc import from_rpc_error

COMMIT = "datasets/flowers/commits/" + "ab" * 32


@pytest.fixture(scope="module")
def stub(registry: Service, keys: Keys) -> Iterator[Any]:
    with registry.channel(keys.user("ann")) as opened:
        yield registry_pb2_grpc.RegistryServiceStub(opened)


@pytest.fixture
def experiment(stub: Any) -> str:
    id = f"x-{uuid.uuid4().hex[:12]}"
    return str(stub.CreateExperiment(pb.CreateExperimentRequest(experiment_id=id)).name)


@pytest.fixture
def model(stub: Any) -> str:
    return str(stub.CreateModel(pb.CreateModelRequest(model_id=f"m-{uuid.uuid4().hex[:12]}")).name)


@pytest.fixture(scope="module")
def bundle(stub: Any) -> str:
    return str(bundles.upload(stub, *bundles.with_manifest(bundles.files())).name)


def run_in(stub: Any, experiment: str, **fields: Any) -> str:
    run = pb.Run(dataset_commit=COMMIT, code_digest="taskCode/x", seed=7, **fields)
    run.params.update({"lr": 0.1, "layers": [1, 2]})
    return str(stub.CreateRun(pb.CreateRunRequest(parent=experiment, run=run)).name)


def log(stub: Any, run: str, steps: range, attempt: int = 0, key: str = "loss") -> int:
    points = [pb.MetricPoint(key=key, step=step, value=step / 2) for step in steps]
    return int(stub.LogMetrics(pb.LogMetricsRequest(name=run, attempt=attempt, points=points)).stored_count)


def steps_of(stub: Any, run: str, key: str = "loss") -> list[int]:
    found, token = [], ""
    while True:
        request = pb.ListMetricPointsRequest(parent=run, key=key, page_size=300, page_token=token)
        page = stub.ListMetricPoints(request)
        found += [point.step for point in page.points]
        token = page.next_page_token
        if not token:
            return found


def reason(call: Any) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return from_rpc_error(caught.value).reason


def version(stub: Any, model: str, run: str, bundle: str, **fields: Any) -> Any:
    made = pb.ModelVersion(run=run, bundle=bundle)
    request = pb.CreateModelVersionRequest(parent=model, model_version=made, **fields)
    return stub.CreateModelVersion(request, timeout=60)


def test_a_batch_that_comes_twice_is_stored_once(stub: Any, experiment: str) -> None:
    run = run_in(stub, experiment)

    assert log(stub, run, range(1000)) == 1000
    assert log(stub, run, range(500, 1500)) == 500
    assert steps_of(stub, run) == list(range(1500))


def test_a_run_shows_the_last_value_of_each_series(stub: Any, experiment: str) -> None:
    run = run_in(stub, experiment)
    log(stub, run, range(10))
    log(stub, run, range(4), key="accuracy")

    found = stub.GetRun(pb.GetRunRequest(name=run))

    assert dict(found.last_metrics) == {"loss": 4.5, "accuracy": 1.5}
    assert found.params["lr"] == 0.1
    assert found.creator == "users/ann"


def test_a_later_attempt_shuts_the_earlier_out_and_takes_over_at_its_step(stub: Any, experiment: str) -> None:
    run = run_in(stub, experiment)
    stub.BeginRunAttempt(pb.BeginRunAttemptRequest(name=run, attempt=1))
    log(stub, run, range(100), attempt=1)

    stub.BeginRunAttempt(pb.BeginRunAttemptRequest(name=run, attempt=2, resume_step=59))

    assert steps_of(stub, run) == list(range(60))
    assert reason(lambda: log(stub, run, range(1), attempt=1)) == "STALE_ATTEMPT"
    assert log(stub, run, range(60, 120), attempt=2) == 60
    begin = pb.BeginRunAttemptRequest(name=run, attempt=2, resume_step=0)
    stub.BeginRunAttempt(begin)
    assert steps_of(stub, run) == list(range(120))


def test_a_run_ends_once(stub: Any, experiment: str) -> None:
    run = run_in(stub, experiment)
    end = pb.FinishRunRequest(name=run, state=pb.Run.SUCCEEDED)

    first = stub.FinishRun(end)

    assert stub.FinishRun(end) == first
    other = pb.FinishRunRequest(name=run, state=pb.Run.FAILED, error="late")
    assert reason(lambda: stub.FinishRun(other)) == "RUN_FINISHED"
    assert reason(lambda: log(stub, run, range(1))) == "RUN_FINISHED"


def test_points_of_no_series_or_a_negative_step_are_refused(stub: Any, experiment: str) -> None:
    run = run_in(stub, experiment)

    for point in (pb.MetricPoint(step=1), pb.MetricPoint(key="loss", step=-1)):
        call = pb.LogMetricsRequest(name=run, points=[point])
        assert reason(lambda c=call: stub.LogMetrics(c)) == "INVALID_FIELD"


def test_runs_are_listed_newest_first_by_state_and_commit(stub: Any, experiment: str) -> None:
    names = [run_in(stub, experiment, display_name=str(number)) for number in range(3)]
    stub.FinishRun(pb.FinishRunRequest(name=names[1], state=pb.Run.FAILED, error="x"))

    request = pb.ListRunsRequest(parent=experiment, state=pb.Run.RUNNING, dataset_commit=COMMIT)
    found = [run.name for run in stub.ListRuns(request).runs]

    assert found == [names[2], names[0]]


def test_a_bundle_comes_back_byte_for_byte(stub: Any) -> None:
    name, parts = bundles.with_manifest(bundles.files(seed=3))
    made = bundles.upload(stub, name, parts)
    received: dict[str, bytes] = {}

    for part in stub.DownloadBundle(pb.DownloadBundleRequest(name=name)):
        if part.WhichOneof("payload") == "file":
            current = part.file.name
            received[current] = b""
        else:
            received[current] += part.chunk

    assert received == parts
    assert {file.name for file in made.files} == set(parts)
    assert bundles.upload(stub, name, parts).create_time == made.create_time


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self._path,))


def zipped(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, data)
    return buffer.getvalue()


def test_a_planted_pickle_is_refused_wherever_it_hides_and_never_runs(stub: Any, tmp_path: Path) -> None:
    trap = tmp_path / "it-ran"
    planted = [pickle.dumps(Bomb(trap), protocol=protocol) for protocol in (0, 2, 4)]
    array = io.BytesIO()
    np.savez(array, x=np.array([Bomb(trap)], dtype=object))
    hidden = [{"weights.safetensors": data} for data in planted]
    hidden += [{"model.onnx": data} for data in planted]
    hidden += [{"model.pt2": zipped("data.pkl", data)} for data in planted]
    hidden += [{"model.pt2": zipped("weights/0", data)} for data in planted[1:]]
    hidden += [{"golden.npz": array.getvalue()}, {"profile.json": planted[1]}]

    for parts in hidden:
        sent = bundles.with_manifest({**bundles.files(), **parts})
        assert reason(lambda s=sent: bundles.upload(stub, *s)) == "BUNDLE_REFUSED", parts.keys()

    assert not trap.exists()


def test_a_bundle_that_is_not_what_it_says_is_refused(stub: Any) -> None:
    name, good = bundles.with_manifest(bundles.files())
    wrong = {
        "damaged": {**good, "model.onnx": good["model.onnx"] + b"x"},
        "missing": {file: data for file, data in good.items() if file != "golden.npz"},
        "surplus": {**good, "profile.json": b"{}"},
        "stranger": {**good, "run.sh": b"#!/bin/sh"},
        "path": {**good, "../model.onnx": b"x"},
        "no manifest": {file: data for file, data in good.items() if file != "manifest.json"},
    }

    refused = {why: reason(lambda p=parts: bundles.upload(stub, name, p)) for why, parts in wrong.items()}

    assert set(refused.values()) == {"BUNDLE_REFUSED"}
    assert reason(lambda: bundles.upload(stub, "bundles/" + "0" * 64, good)) == "BUNDLE_REFUSED"


def test_a_version_needs_a_run_with_a_commit_and_a_bundle(
    stub: Any, experiment: str, model: str, bundle: str
) -> None:
    bare = stub.CreateRun(pb.CreateRunRequest(parent=experiment, run=pb.Run())).name
    run = run_in(stub, experiment)

    assert reason(lambda: version(stub, model, bare, bundle)) == "INVALID_FIELD"
    assert reason(lambda: version(stub, model, f"{experiment}/runs/none", bundle)) == "RUN_NOT_FOUND"
    assert reason(lambda: version(stub, model, run, "bundles/" + "0" * 64)) == "BUNDLE_NOT_FOUND"
    assert reason(lambda: version(stub, "models/none-such", run, bundle)) == "MODEL_NOT_FOUND"


def test_a_run_makes_one_version_and_it_carries_its_lineage(
    stub: Any, experiment: str, model: str, bundle: str
) -> None:
    run = run_in(stub, experiment)

    made = version(stub, model, run, bundle)

    assert version(stub, model, run, bundle) == made
    assert (made.name, made.run, made.dataset_commit) == (f"{model}/versions/1", run, COMMIT)
    assert made.evaluation.metrics["accuracy"] == 0.9
    assert made.parity_max_abs_diff == pytest.approx(1e-6)
    latest = stub.GetModelVersion(pb.GetModelVersionRequest(name=f"{model}/versions/latest"))
    assert latest == made


def test_numbers_have_no_gap_and_no_double_under_writers_at_once(
    stub: Any, experiment: str, model: str, bundle: str
) -> None:
    runs = [run_in(stub, experiment) for _ in range(12)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda run: version(stub, model, run, bundle), [*runs, *runs]))

    found = stub.ListModelVersions(pb.ListModelVersionsRequest(parent=model, page_size=100)).model_versions
    assert [int(v.name.rpartition("/")[2]) for v in found] == list(range(12, 0, -1))
    assert {v.run for v in found} == set(runs)


def test_a_stale_attempt_makes_no_version(stub: Any, experiment: str, model: str, bundle: str) -> None:
    run = run_in(stub, experiment)
    for attempt in (1, 2):
        stub.BeginRunAttempt(pb.BeginRunAttemptRequest(name=run, attempt=attempt))

    assert reason(lambda: version(stub, model, run, bundle, attempt=1)) == "STALE_ATTEMPT"
    assert version(stub, model, run, bundle, attempt=2).run == run
