"""A slot with a real engine process: how it loads, answers, loses its engine, and is unloaded."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
from doubling import golden, graph, in_loop, parts, with_manifest, write
from slipway_inference.domain import SlotState, Tensor
from slipway_inference.engine.bundles import BundleOnDisk, open_bundle
from slipway_inference.engine.process import EngineOptions
from slipway_inference.usecases.slots import Answer, Front, Slot, SlotLimits
from slipway_runtime.errors import FailedPrecondition, Internal, NotFound, SlipwayError, Unavailable

WITHIN_S = 60


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not true():
            await asyncio.sleep(0.005)


class House:
    """A front, and how ready it said that it was each time that a slot changed."""

    def __init__(self) -> None:
        self.front = Front()
        self.told: list[bool] = []

    def slot(self, name: str, fetch: Callable[[], BundleOnDisk], **changed: float) -> Slot:
        slot = Slot(
            name=name,
            version="3",
            model_version=f"models/{name}/versions/3",
            fetch=fetch,
            limits=SlotLimits(max_batch_rows=4, latency_objective_ms=1e6, max_queue_rows=64),
            engine=EngineOptions("onnx", 1, WITHIN_S, changed.get("batch_timeout_s", WITHIN_S)),
            on_state=lambda: self.told.append(self.front.ready),
        )
        self.front.add(slot)
        return slot


@contextlib.asynccontextmanager
async def house() -> AsyncIterator[House]:
    made = House()
    try:
        yield made
    finally:
        await made.front.stop()


def bundle(tmp_path: Path, **changed: bytes) -> Callable[[], BundleOnDisk]:
    folder = tmp_path / f"bundle-{len(list(tmp_path.iterdir()))}"
    return partial(open_bundle, write(folder, with_manifest(parts(**changed))[1]))


async def ask(slot: Slot, *rows: float) -> Answer:
    x = np.repeat(np.array(rows, np.float32), 2)  # (rows, 2)
    async with asyncio.timeout(WITHIN_S):
        return await slot.infer([Tensor("x", "FP32", (len(rows), 2), raw=x.tobytes())], [], None, None)


def values(answer: Answer) -> list[float]:
    return np.frombuffer(answer.outcome.outputs[0], np.float32)[::2].tolist()


OTHERS: set[psutil.Process] = set()  # children of this process that other tests made, such as servers


@pytest.fixture(autouse=True)
def _others() -> None:
    OTHERS.clear()
    OTHERS.update(psutil.Process().children())


def engines() -> list[psutil.Process]:
    """Return the engines of this test, zombies too."""
    return [child for child in psutil.Process().children() if child not in OTHERS]


@in_loop
async def test_callers_that_cancel_at_any_time_leave_each_other_caller_its_own_rows(tmp_path: Path) -> None:
    async with house() as home:
        slot = home.slot("m", bundle(tmp_path))
        await until(lambda: slot.state is SlotState.READY)

        calls = [asyncio.create_task(ask(slot, n, n + 0.5)) for n in range(24)]
        for index, call in enumerate(calls):
            if index % 3 == 0:
                call.cancel()
                await asyncio.sleep(0)
        answers = await asyncio.gather(*calls, return_exceptions=True)

        for n, answer in enumerate(answers):
            if n % 3:
                assert isinstance(answer, Answer)
                assert values(answer) == [2 * n, 2 * n + 1]
            else:
                assert isinstance(answer, asyncio.CancelledError | Answer)


@in_loop
async def test_an_engine_that_takes_too_long_is_killed_its_callers_are_told_and_another_comes(
    tmp_path: Path,
) -> None:
    async with house() as home:
        slot = home.slot("m", bundle(tmp_path), batch_timeout_s=0.5)
        await until(lambda: slot.state is SlotState.READY)
        (engine,) = engines()

        os.kill(engine.pid, signal.SIGSTOP)
        calls = [asyncio.create_task(ask(slot, 1.0)) for _ in range(6)]  # a batch and a queue
        answers = await asyncio.gather(*calls, return_exceptions=True)

        assert all(isinstance(answer, Unavailable) for answer in answers)
        assert {answer.reason for answer in answers if isinstance(answer, SlipwayError)} == {"ENGINE_ENDED"}
        await until(lambda: slot.state is SlotState.READY)
        assert engine.pid not in {one.pid for one in engines()}
        assert slot.measures.restarts._value.get() >= 1


@in_loop
async def test_an_engine_that_answers_with_other_rows_fails_the_batch_and_spreads_nothing(
    tmp_path: Path,
) -> None:
    async with house() as home:
        mean = bundle(tmp_path, model__onnx=graph(mean_of_batch=True), golden__npz=golden(1, 1))
        slot = home.slot("m", mean)
        await until(lambda: slot.state is SlotState.READY)

        assert values(await ask(slot, 3.0)) == [3.0]
        mates = [asyncio.create_task(ask(slot, n)) for n in (1.0, 5.0)]
        answers = await asyncio.gather(*mates, return_exceptions=True)

        assert [type(answer) for answer in answers] == [Internal, Internal]
        assert values(await ask(slot, 4.0)) == [4.0]


@pytest.mark.parametrize(
    "changed",
    [{"golden__npz": golden(factor=3)}, {"golden__npz": b"PK\x03\x04"}, {"model__onnx": b"no graph"}],
    ids=["wrong-answers", "cut-answers", "no-graph"],
)
def test_a_bundle_that_fails_its_warm_up_is_refused_once_and_leaves_no_process(
    changed: dict[str, bytes], tmp_path: Path
) -> None:
    async def scene() -> None:
        async with house() as home:
            slot = home.slot("m", bundle(tmp_path, **changed))
            await until(lambda: slot.state is not SlotState.LOADING)

            assert slot.state is SlotState.REFUSED
            assert slot.why
            assert home.front.missing == f"slot m is REFUSED: {slot.why}"
            with pytest.raises(FailedPrecondition) as caught:
                await ask(slot, 1.0)
            assert caught.value.reason == "MODEL_REFUSED"
            await until(lambda: not engines())

    asyncio.run(scene())


@in_loop
async def test_a_registry_that_is_away_is_asked_again(tmp_path: Path) -> None:
    asked = []
    found = bundle(tmp_path)

    def fetch() -> BundleOnDisk:
        asked.append(1)
        if len(asked) == 1:
            raise Unavailable("AWAY", "the registry is away")
        return found()

    async with house() as home:
        slot = home.slot("m", fetch)
        await until(lambda: bool(slot.why))
        with pytest.raises(Unavailable, match="the registry is away"):
            await ask(slot, 1.0)

        await until(lambda: slot.state is SlotState.READY)

        assert len(asked) == 2


@in_loop
async def test_a_slot_is_unloaded_under_callers_that_never_cease(tmp_path: Path) -> None:
    refused: list[SlipwayError] = []
    ceased = asyncio.Event()

    async def caller(slot: Slot) -> None:
        while not ceased.is_set():
            try:
                assert values(await ask(slot, 1.0)) == [2.0]
            except SlipwayError as error:
                refused.append(error)
                await asyncio.sleep(0.001)

    async with house() as home:
        slot = home.slot("m", bundle(tmp_path))
        await until(lambda: slot.state is SlotState.READY)
        callers = [asyncio.create_task(caller(slot)) for _ in range(8)]
        await until(lambda: slot.measures.batches > 10)

        try:
            async with asyncio.timeout(WITHIN_S / 2):
                await home.front.remove("m")
            await until(lambda: len(refused) >= 8)
        finally:
            ceased.set()
            await asyncio.gather(*callers)

        assert {error.reason for error in refused} == {"MODEL_NOT_READY"}
        assert not engines()


@in_loop
async def test_a_front_is_ready_again_when_the_slot_that_was_not_is_gone(tmp_path: Path) -> None:
    async with house() as home:
        stays, goes = home.slot("stays", bundle(tmp_path)), home.slot("goes", bundle(tmp_path))
        await until(lambda: stays.state is goes.state is SlotState.READY)

        await home.front.remove("goes")

        assert home.front.ready
        assert home.told[-1]  # what the health service last heard
        with pytest.raises(NotFound, match="served here: stays"):
            home.front.slot("goes")
        with pytest.raises(NotFound, match="has version '3' here, not '4'"):
            home.front.slot("stays", "4")


@in_loop
async def test_two_who_unload_a_slot_at_once_both_succeed(tmp_path: Path) -> None:
    async with house() as home:
        slot = home.slot("m", bundle(tmp_path))
        await until(lambda: slot.state is SlotState.READY)

        await asyncio.gather(home.front.remove("m"), home.front.remove("m"))

        assert home.front.slots == {}
        assert not engines()
