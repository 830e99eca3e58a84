"""What callers may rely on in a front: values, refusals, batches, deadlines, crashes, drains."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import psutil
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from running import Keys, Service
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

sys.path.insert(0, str(Path(__file__).parents[1] / "registry"))

import bundles
from slipway_inference.engine.segments import read_segment
from slipway_inference.engine.spool import _GATHER_S as GATHER_S
from slipway_runtime.rpc import from_rpc_error

MODEL = "flowers"
WITHIN_S = 60.0


class Front(Service):
    """A front over a folder of bundles."""

    def __init__(self, repository: Path, keys: Keys, **settings: object) -> None:
        super().__init__("slipway_inference.main", keys, **settings)
        self._repository = repository

    def start(self, wait: bool = True) -> "Front":
        command = [sys.executable, "-m", self.module, "serve", "--repository", str(self._repository)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        if wait:
            self.wait_ready()
        return self

    def leave(self) -> None:
        """End it by SIGTERM, and let it take its time."""
        self._end(signal.SIGTERM, WITHIN_S)


def until(true: Callable[[], bool]) -> None:
    stop_at = time.monotonic() + WITHIN_S
    while not true():
        assert time.monotonic() < stop_at
        time.sleep(0.05)


def write_bundle(folder: Path, **changed: bytes) -> Path:
    folder.mkdir(parents=True)
    parts = {**bundles.files(), **{name.replace("__", "."): data for name, data in changed.items()}}
    for name, data in bundles.with_manifest(parts)[1].items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    write_bundle(folder / MODEL)
    return folder


@pytest.fixture(scope="module")
def golden(repository: Path) -> dict[str, np.ndarray]:
    with np.load(repository / MODEL / "golden.npz") as found:
        return dict(found)


@pytest.fixture(scope="module")
def front(repository: Path, keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    spool = tmp_path_factory.mktemp("spool")
    running = Front(repository, keys, spool_dir=spool, capture_policy="all").start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def headers(keys: Keys) -> dict[str, str]:
    return {"authorization": f"Bearer {keys.user()}"}


@pytest.fixture
def client(front: Front) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(front.address) as opened:
        yield opened


def tensor(images: np.ndarray) -> list[triton.InferInput]:
    made = triton.InferInput("image", images.shape, "UINT8")
    made.set_data_from_numpy(images)
    return [made]


def test_the_golden_inputs_give_the_golden_outputs_with_id_and_version(
    client: Any, golden: Any, headers: Any
) -> None:
    result = client.infer(MODEL, tensor(golden["in.image"]), headers=headers)

    for name in ("probabilities", "embedding"):
        np.testing.assert_allclose(result.as_numpy(name), golden[f"out.{name}"], atol=1e-5)
    response = result.get_response()
    assert response.model_version == "1"
    assert response.parameters["version"].string_param == "1"
    assert len(response.parameters["prediction_id"].string_param) == 36 + 9


def test_health_metadata_and_configuration_say_what_is_served(client: Any, headers: Any) -> None:
    assert client.is_server_live(headers=headers)
    assert client.is_server_ready(headers=headers)
    assert client.is_model_ready(MODEL, headers=headers)
    metadata = client.get_model_metadata(MODEL, headers=headers)
    assert [(one.name, one.datatype, list(one.shape)) for one in metadata.inputs] == [
        ("image", "UINT8", [-1, 4])
    ]
    assert client.get_model_config(MODEL, headers=headers).config.max_batch_size == 16


@pytest.mark.parametrize("typed", [0, 8])
def test_raw_contents_are_one_for_each_input_and_never_beside_typed_ones(
    front: Front, golden: Any, headers: Any, typed: int
) -> None:
    images = golden["in.image"][:2]
    request = service_pb2.ModelInferRequest(model_name=MODEL)
    part = request.inputs.add(name="image", datatype="UINT8", shape=images.shape)
    part.contents.uint_contents.extend([1] * typed)
    request.raw_input_contents.extend([images.tobytes()] * (1 if typed else 2))

    with grpc.insecure_channel(front.address) as channel, pytest.raises(grpc.RpcError) as refused:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        stub.ModelInfer(request, metadata=list(headers.items()), timeout=WITHIN_S)

    assert from_rpc_error(refused.value).violations[0].field == "raw_input_contents"


def test_typed_contents_mean_the_same_as_raw_ones(front: Front, golden: Any, headers: Any) -> None:
    images = golden["in.image"][:2]
    request = service_pb2.ModelInferRequest(model_name=MODEL)
    part = request.inputs.add(name="image", datatype="UINT8", shape=images.shape)
    part.contents.uint_contents.extend(images.ravel().tolist())

    with grpc.insecure_channel(front.address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        response = stub.ModelInfer(request, metadata=list(headers.items()), timeout=WITHIN_S)

    first = np.frombuffer(response.raw_output_contents[0], np.float32).reshape(2, 3)
    np.testing.assert_allclose(first, golden["out.probabilities"][:2], atol=1e-5)


@pytest.mark.parametrize(
    ("name", "datatype", "shape", "size", "word"),
    [
        ("imagee", "UINT8", (1, 4), 4, "image"),
        ("image", "FP32", (1, 4), 16, "UINT8"),
        ("image", "UINT8", (1, 5), 5, "shape"),
        ("image", "UINT8", (4,), 4, "shape"),
        ("image", "UINT8", (0, 4), 0, "shape"),
        ("image", "UINT8", (-1, 4), 4, "shape"),
        ("image", "UINT8", (17, 4), 68, "16"),
        ("image", "UINT8", (10**9, 4), 4, "16"),
        ("image", "UINT8", (1, 4), 3, "bytes"),
        ("image", "BYTES", (1, 4), 4, "UINT8"),
    ],
)
def test_a_wrong_tensor_is_refused_by_name_with_value_and_remedy(
    front: Front, headers: Any, name: str, datatype: str, shape: Any, size: int, word: str
) -> None:
    request = service_pb2.ModelInferRequest(model_name=MODEL, raw_input_contents=[bytes(size)])
    request.inputs.add(name=name, datatype=datatype, shape=shape)

    with grpc.insecure_channel(front.address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(request, metadata=list(headers.items()), timeout=WITHIN_S)

    error = from_rpc_error(caught.value)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.reason == "TENSOR_INVALID"
    assert name in error.message
    assert word in error.message


def test_an_unknown_model_or_version_is_not_found_with_what_there_is(
    client: Any, golden: Any, headers: Any
) -> None:
    for name, version, word in (("flowerz", "", MODEL), (MODEL, "7", "'1'")):
        with pytest.raises(InferenceServerException, match=word) as caught:
            client.infer(name, tensor(golden["in.image"]), model_version=version, headers=headers)
        assert caught.value.status() == "StatusCode.NOT_FOUND"


def test_no_token_and_a_wrong_role_are_refused(client: Any, golden: Any, keys: Keys) -> None:
    eve = {"authorization": f"Bearer {keys.user('eve', 'annotator')}"}
    for headers, code in (({}, "UNAUTHENTICATED"), (eve, "PERMISSION_DENIED")):
        with pytest.raises(InferenceServerException) as caught:
            client.infer(MODEL, tensor(golden["in.image"]), headers=headers)
        assert caught.value.status() == f"StatusCode.{code}"


def test_32_callers_at_once_each_get_their_own_rows_and_batches_form(
    front: Front, client: Any, golden: Any, headers: Any
) -> None:
    images, wanted = golden["in.image"], golden["out.probabilities"]

    async def caller(number: int, opened: Any) -> None:
        for turn in range(20):
            row = (number + turn) % len(images)
            result = await opened.infer(MODEL, tensor(images[row : row + 1]), headers=headers)
            np.testing.assert_allclose(result.as_numpy("probabilities")[0], wanted[row], atol=1e-5)

    async def all_of_them() -> None:
        async with triton_aio.InferenceServerClient(front.address) as opened:
            await asyncio.gather(*(caller(number, opened) for number in range(32)))

    before = client.get_inference_statistics(MODEL, headers=headers).model_stats[0]
    asyncio.run(all_of_them())
    after = client.get_inference_statistics(MODEL, headers=headers).model_stats[0]

    assert after.inference_stats.success.count - before.inference_stats.success.count == 640
    assert after.execution_count - before.execution_count < 640
    assert max(one.batch_size for one in after.batch_stats) > 1


def test_callers_that_cancel_do_no_harm_to_the_others(front: Front, golden: Any, headers: Any) -> None:
    images = golden["in.image"]

    async def mixed() -> int:
        async with triton_aio.InferenceServerClient(front.address) as opened:
            calls = [
                asyncio.create_task(opened.infer(MODEL, tensor(images), headers=headers)) for _ in range(200)
            ]
            await asyncio.sleep(0.01)
            for call in calls[::2]:
                call.cancel()
            results = await asyncio.wait_for(asyncio.gather(*calls[1::2], return_exceptions=True), WITHIN_S)
            return sum(not isinstance(result, BaseException) for result in results)

    assert asyncio.run(mixed()) == 100


def test_a_full_queue_sheds_with_a_hint_when_to_come_again(
    repository: Path, keys: Keys, golden: Any, headers: Any
) -> None:
    small = Front(repository, keys, max_queue_rows=8, max_batch_rows=8, batch_timeout_s=600).start()
    (engine,) = psutil.Process(small.pid).children()

    async def flood() -> list[Any]:
        async with triton_aio.InferenceServerClient(small.address) as opened:
            images = tensor(golden["in.image"])
            calls = [asyncio.create_task(opened.infer(MODEL, images, headers=headers)) for _ in range(300)]
            await asyncio.wait(calls, timeout=WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
            engine.resume()
            return await asyncio.gather(*calls, return_exceptions=True)

    engine.suspend()
    try:
        results = asyncio.run(flood())
    finally:
        small.stop()

    refused = [result for result in results if isinstance(result, InferenceServerException)]
    assert {error.status() for error in refused} == {"StatusCode.RESOURCE_EXHAUSTED"}
    assert 0 < len(refused) < 300


def test_a_killed_engine_comes_back(front: Front, client: Any, golden: Any, headers: Any) -> None:
    (child,) = psutil.Process(front.pid).children()

    seen: set[str] = set()
    os.kill(child.pid, signal.SIGKILL)

    def answers() -> bool:
        try:
            client.infer(MODEL, tensor(golden["in.image"]), headers=headers)
        except InferenceServerException as error:
            seen.add(str(error.status()))
            return False
        return psutil.Process(front.pid).children()[0].pid != child.pid

    until(answers)
    assert seen <= {"StatusCode.UNAVAILABLE"}


def test_unload_ends_the_engine_and_load_brings_the_model_back(
    front: Front, client: Any, headers: Any
) -> None:
    client.unload_model(MODEL, headers=headers)
    gone = psutil.Process(front.pid).children()

    client.load_model(MODEL, headers=headers)

    assert gone == []
    until(lambda: client.is_model_ready(MODEL, headers=headers))


def test_loads_at_once_leave_one_engine(front: Front, client: Any, headers: Any) -> None:
    def load() -> None:
        with triton.InferenceServerClient(front.address) as own:
            own.load_model(MODEL, headers=headers)

    loaders = [threading.Thread(target=load) for _ in range(4)]
    for loader in loaders:
        loader.start()
    for loader in loaders:
        loader.join(60)

    until(lambda: client.is_model_ready(MODEL, headers=headers))
    assert len(psutil.Process(front.pid).children()) == 1


@pytest.mark.parametrize("name", ["..", ".", "", "../repository", "flowerz"])
def test_a_model_is_loaded_out_of_the_repository_alone(client: Any, headers: Any, name: str) -> None:
    with pytest.raises(InferenceServerException) as refused:
        client.load_model(name, headers=headers)

    assert refused.value.status() == "StatusCode.NOT_FOUND"


def test_a_front_without_a_repository_lets_no_caller_take_its_slots_away(keys: Keys, headers: Any) -> None:
    settings = {"slots": f"{MODEL}=models/{MODEL}/versions/1", "registry": "127.0.0.1:1"}
    served = Service("slipway_inference.main", keys, **settings).start(wait=False)
    try:
        with triton.InferenceServerClient(served.address) as client:
            until(lambda: _is_live(client, headers))
            for change in (client.unload_model, client.load_model):
                with pytest.raises(InferenceServerException) as refused:
                    change(MODEL, headers=headers)
                assert refused.value.status() == "StatusCode.FAILED_PRECONDITION"
            assert len(client.get_model_repository_index(headers=headers).models) == 1
    finally:
        served.stop()


def _is_live(client: Any, headers: Any) -> bool:
    try:
        return bool(client.is_server_live(headers=headers))
    except InferenceServerException:
        return False


def _slot(client: Any, headers: Any) -> Any:
    return client.get_model_repository_index(headers=headers).models[0]


def test_a_bundle_that_breaks_its_golden_answers_is_never_ready(
    tmp_path: Path, keys: Keys, headers: Any
) -> None:
    write_bundle(tmp_path / MODEL, model__onnx=bundles.graph(seed=9))
    broken = Front(tmp_path, keys).start(wait=False)
    try:
        with triton.InferenceServerClient(broken.address) as client:
            until(lambda: _is_live(client, headers) and _slot(client, headers).state == "REFUSED")
            reason = _slot(client, headers).reason
            assert "golden" in reason
            assert not client.is_server_ready(headers=headers)
        probed = httpx.get(f"http://127.0.0.1:{broken.http_port}/readyz", timeout=WITHIN_S)
        assert probed.status_code == 503
        assert probed.text == f"slot {MODEL} is REFUSED: {reason}"
    finally:
        broken.stop()


def test_sigterm_answers_what_is_in_flight_and_keeps_the_events(
    repository: Path, keys: Keys, golden: Any, headers: Any, tmp_path: Path
) -> None:
    leaving = Front(repository, keys, spool_dir=tmp_path).start()
    answered: list[int] = []
    failed: list[str] = []

    def call() -> None:
        with triton.InferenceServerClient(leaving.address) as client:
            while True:
                try:
                    client.infer(MODEL, tensor(golden["in.image"][:1]), headers=headers)
                except InferenceServerException as error:
                    failed.append(str(error.status()))
                    return
                answered.append(1)

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    try:
        until(lambda: len(answered) > 20)
    finally:
        leaving.leave()
    for caller in callers:
        caller.join()

    records = [record for path in tmp_path.glob("*.events") for record in read_segment(path)]
    assert set(failed) <= {"StatusCode.UNAVAILABLE", "StatusCode.CANCELLED"}
    assert len(records) >= len(answered)


def test_events_survive_a_kill_but_for_a_second(
    repository: Path, keys: Keys, golden: Any, headers: Any, tmp_path: Path
) -> None:
    doomed = Front(repository, keys, spool_dir=tmp_path).start()
    with triton.InferenceServerClient(doomed.address) as client:
        for _ in range(50):
            client.infer(MODEL, tensor(golden["in.image"][:1]), headers=headers)

    def kept() -> int:
        return sum(1 for path in tmp_path.glob("*.events") for _ in read_segment(path))

    try:
        until(lambda: kept() == 50)
    finally:
        doomed.kill()

    assert kept() == 50
    assert GATHER_S < 1
