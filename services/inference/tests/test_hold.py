"""How long a batch waits for the callers of the one before, and who never waits."""

import asyncio
import time

import numpy as np
from doubling import SIGNATURE, in_loop
from slipway_inference.domain import BatchLimit, CostModel
from slipway_inference.engine.batcher import Batcher, Outcome, Pending
from slipway_inference.engine.measures import SlotMeasures
from slipway_inference.engine.region import Region

HOLD_S = 0.05
LONG_S = 30.0


class Bench:
    """A batcher that may hold, and the sizes of the batches that it gave to an engine."""

    def __init__(self, *, hold_s: float, max_rows: int = 8) -> None:
        self.batches: list[int] = []
        self.batcher = Batcher(
            name="doubling",
            signature=SIGNATURE,
            limit=BatchLimit(max_rows=max_rows, objective_ms=1e6, cost=CostModel()),
            max_queue_rows=32,
            region=Region(SIGNATURE),
            execute=self.batches.append,
            measures=SlotMeasures("doubling"),
            hold_s=hold_s,
        )

    def call(self, deadline: float | None = None) -> asyncio.Future[Outcome]:
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        part = np.zeros((1, 2), np.float32).tobytes()
        self.batcher.submit(Pending(1, [part], deadline, None, answer))
        return answer

    async def answer(self) -> None:
        self.batcher.on_answer(1000, True)
        await asyncio.sleep(0)

    async def crowd(self, count: int) -> None:
        """Have so many callers here at once, and answered."""
        for _ in range(count):
            self.call()
        await asyncio.sleep(0)
        await self.answer()
        assert self.batches == [count]
        self.batches.clear()


@in_loop
async def test_a_caller_that_is_alone_never_waits() -> None:
    bench = Bench(hold_s=LONG_S)

    for _ in range(5):
        bench.call()
        await asyncio.sleep(0)
        await bench.answer()

    assert bench.batches == [1, 1, 1, 1, 1]


@in_loop
async def test_callers_that_were_here_together_go_together_as_soon_as_the_last_is_back() -> None:
    bench = Bench(hold_s=LONG_S)
    await bench.crowd(3)

    for _ in range(3):
        before = list(bench.batches)
        bench.call()
        await asyncio.sleep(0)

    assert before == []
    assert bench.batches == [3]


@in_loop
async def test_who_does_not_come_back_is_waited_for_once() -> None:
    bench = Bench(hold_s=HOLD_S)
    await bench.crowd(3)

    began = time.monotonic()
    bench.call()
    while not bench.batches:
        await asyncio.sleep(0.001)
    held_s = time.monotonic() - began
    await bench.answer()
    bench.call()
    await asyncio.sleep(0)

    assert held_s >= HOLD_S * 0.9
    assert bench.batches == [1, 1]


@in_loop
async def test_a_full_batch_does_not_wait_for_those_who_do_not_fit() -> None:
    bench = Bench(hold_s=LONG_S, max_rows=4)
    for _ in range(6):
        bench.call()
    await asyncio.sleep(0)
    await bench.answer()
    after_the_first = list(bench.batches)

    for _ in range(2):
        bench.call()
    await asyncio.sleep(0)

    assert after_the_first == [4]
    assert bench.batches == [4, 4]


@in_loop
async def test_a_near_deadline_ends_the_wait() -> None:
    bench = Bench(hold_s=LONG_S)
    await bench.crowd(4)

    bench.call(deadline=time.monotonic() + LONG_S)
    await asyncio.sleep(0)

    assert bench.batches == [1]


@in_loop
async def test_a_caller_that_left_does_not_keep_the_others_waiting() -> None:
    bench = Bench(hold_s=HOLD_S)
    await bench.crowd(3)
    gone, stays = bench.call(), bench.call()

    gone.cancel()
    while not bench.batches:
        await asyncio.sleep(0.001)
    await bench.answer()

    assert bench.batches == [1]
    assert stays.done()
