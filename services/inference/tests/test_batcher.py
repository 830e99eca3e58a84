"""The queue of a slot: what goes together, who is left out, and that nobody is hurt by a neighbour."""

import asyncio
import time

import numpy as np
import pytest
from doubling import SIGNATURE, in_loop
from slipway_inference.domain import BatchLimit, BatchReason, CostModel
from slipway_inference.engine.batcher import Batcher, Outcome, Pending
from slipway_inference.engine.measures import SlotMeasures
from slipway_inference.engine.region import Region
from slipway_runtime.errors import DeadlineExceeded, Internal, ResourceExhausted, Unavailable

AT_ONCE_MS = 1e-3


class Bench:
    """A batcher over a real region, and an engine that doubles rows when the test tells it to."""

    def __init__(self, *, max_rows: int = 8, max_queue_rows: int = 32) -> None:
        self.region = Region(SIGNATURE)
        self.limit = BatchLimit(max_rows=max_rows, objective_ms=1e6, cost=CostModel())
        self.measures = SlotMeasures("doubling")
        self.batches: list[list[float]] = []  # first value of each row that the engine got
        self.ended = False
        self.batcher = Batcher(
            name="doubling",
            signature=SIGNATURE,
            limit=self.limit,
            max_queue_rows=max_queue_rows,
            region=self.region,
            execute=self._execute,
            measures=self.measures,
        )

    def _execute(self, rows: int) -> None:
        if self.ended:
            raise BrokenPipeError
        inputs, outputs = self.region.arrays()
        self.batches.append(inputs["x"][:rows, 0].tolist())
        outputs["y"][:rows] = inputs["x"][:rows] * 2

    def call(self, *values: float, deadline: float | None = None) -> asyncio.Future[Outcome]:
        """Submit one request of a row per value."""
        part = np.repeat(np.array(values, np.float32), 2).tobytes()  # (rows, 2) float32
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.batcher.submit(Pending(len(values), [part], deadline, None, answer))
        return answer

    def answer(self, *, worked: bool = True, compute_ms: float = AT_ONCE_MS) -> None:
        """Let the engine be done with its batch."""
        self.batcher.on_answer(int(compute_ms * 1e6), worked)


async def due() -> None:
    """Let the callbacks run that are due now."""
    await asyncio.sleep(0)


def values(answer: asyncio.Future[Outcome]) -> list[float]:
    return np.frombuffer(answer.result().outputs[0], np.float32).reshape(-1, 2)[:, 0].tolist()


@in_loop
async def test_what_arrives_together_goes_together_and_each_gets_its_own_rows() -> None:
    bench = Bench()

    answers = [bench.call(1), bench.call(2, 3), bench.call(4)]
    await due()
    bench.answer()

    assert bench.batches == [[1, 2, 3, 4]]
    assert [values(answer) for answer in answers] == [[2], [4, 6], [8]]
    assert {(a.result().batch_rows, a.result().batch_requests) for a in answers} == {(4, 3)}


@in_loop
async def test_a_batch_has_its_bound_in_rows_keeps_the_order_and_splits_no_request() -> None:
    bench = Bench(max_rows=8)
    answers = [bench.call(*[n] * 3) for n in (1, 2, 3, 4)] + [bench.call(*[5] * 2)]
    await due()

    while not bench.batcher.idle:
        bench.answer()

    assert bench.batches == [[1, 1, 1, 2, 2, 2], [3, 3, 3, 4, 4, 4, 5, 5]]
    assert [values(answer)[0] for answer in answers] == [2, 4, 6, 8, 10]
    reasons = [answer.result().reason for answer in answers]
    assert reasons == [BatchReason.NEXT_TOO_LARGE] * 2 + [BatchReason.QUEUE_EMPTY] * 3


@in_loop
async def test_what_arrives_while_the_engine_works_makes_the_next_batch() -> None:
    bench = Bench()
    bench.call(1)
    await due()

    for value in (2, 3, 4):
        bench.call(value)
        await due()
    running = list(bench.batches)
    bench.answer()

    assert running == [[1]]
    assert bench.batches == [[1], [2, 3, 4]]


@in_loop
async def test_a_request_above_the_limit_of_now_goes_alone() -> None:
    bench = Bench(max_rows=8)
    bench.limit.rows = 2

    bench.call(1, 1, 1, 1, 1)
    bench.call(2)
    await due()

    assert bench.batches == [[1, 1, 1, 1, 1]]


@in_loop
async def test_a_deadline_that_passed_in_the_queue_is_told_and_never_executed() -> None:
    bench = Bench()
    bench.call(1)
    await due()

    late = bench.call(2, deadline=time.monotonic())
    mate = bench.call(3, deadline=time.monotonic() + 600)
    bench.answer()
    bench.answer()

    with pytest.raises(DeadlineExceeded, match="nothing was executed") as caught:
        late.result()
    assert caught.value.reason == "EXPIRED_IN_QUEUE"
    assert bench.batches == [[1], [3]]
    assert values(mate) == [6]


@in_loop
async def test_when_all_that_wait_are_too_late_nothing_runs_and_the_next_caller_is_served() -> None:
    bench = Bench()
    late = bench.call(1, deadline=time.monotonic())
    await due()
    assert late.done()
    assert bench.batcher.idle

    answer = bench.call(2)
    await due()
    bench.answer()

    assert bench.batches == [[2]]
    assert values(answer) == [4]
    assert isinstance(late.exception(), DeadlineExceeded)


@in_loop
async def test_a_caller_that_cancelled_in_the_queue_is_left_out_and_its_mates_are_answered() -> None:
    bench = Bench()
    first = bench.call(1)
    await due()

    mates = [bench.call(2), bench.call(3, 3), bench.call(4)]
    mates[1].cancel()
    bench.answer()
    bench.answer()

    assert bench.batches == [[1], [2, 4]]
    assert [values(answer) for answer in (first, mates[0], mates[2])] == [[2], [4], [8]]


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_caller_that_cancelled_in_the_engine_leaves_its_mates_their_own_rows(gone: int) -> None:
    async def scene() -> None:
        bench = Bench()
        answers = [bench.call(1), bench.call(2, 3), bench.call(4)]
        await due()

        answers[gone].cancel()
        bench.answer()

        expected = [[2], [4, 6], [8]]
        for index, answer in enumerate(answers):
            assert answer.cancelled() if index == gone else values(answer) == expected[index]
        assert bench.measures.success.count == 2

    asyncio.run(scene())


@in_loop
async def test_a_batch_whose_callers_all_went_away_does_not_stop_the_queue() -> None:
    bench = Bench()
    gone = [bench.call(1), bench.call(2)]
    await due()
    for answer in gone:
        answer.cancel()

    waiting = bench.call(3)
    bench.answer()
    bench.answer()

    assert values(waiting) == [6]
    assert bench.batcher.idle


@in_loop
async def test_a_full_queue_refuses_with_a_hint_and_the_running_batch_takes_no_place() -> None:
    bench = Bench(max_rows=4, max_queue_rows=6)
    running = bench.call(1, 1, 1, 1)
    await due()
    waiting = [bench.call(2, 2, 2), bench.call(3, 3)]

    with pytest.raises(ResourceExhausted) as caught:
        bench.call(4, 4)
    last = bench.call(5)

    assert caught.value.reason == "QUEUE_FULL"
    assert caught.value.retry_after_s is not None
    assert caught.value.retry_after_s > 0
    while not bench.batcher.idle:
        bench.answer()
    assert [values(answer)[0] for answer in (running, *waiting, last)] == [2, 4, 6, 10]


@in_loop
async def test_the_hint_grows_with_what_waits_and_with_what_a_batch_takes() -> None:
    bench = Bench(max_rows=1, max_queue_rows=4)
    hints = []
    for compute_ms in (1000.0, 3000.0):
        bench.call(1)
        await due()
        bench.answer(compute_ms=compute_ms)
        bench.call(1)
        await due()
        for _ in range(4):
            bench.call(2)

        with pytest.raises(ResourceExhausted) as caught:
            bench.call(3)
        hints.append(caught.value.retry_after_s or 0.0)
        while not bench.batcher.idle:
            bench.answer(compute_ms=compute_ms)

    assert hints[0] == pytest.approx(4.0)  # four batches of a second
    assert hints[1] > hints[0]


@pytest.mark.parametrize("how", ["cancelled", "late"])
def test_who_is_gone_or_late_holds_no_place_in_a_full_queue(how: str) -> None:
    async def scene() -> None:
        bench = Bench(max_queue_rows=4)
        bench.call(1)
        await due()
        gone = bench.call(2, 2, deadline=time.monotonic() if how == "late" else None)
        mate = bench.call(3, 3)
        if how == "cancelled":
            gone.cancel()

        newcomer = bench.call(4, 4)
        bench.answer()
        bench.answer()

        assert bench.batches == [[1], [3, 3, 4, 4]]
        assert (values(mate), values(newcomer)) == ([6, 6], [8, 8])
        assert gone.cancelled() or isinstance(gone.exception(), DeadlineExceeded)

    asyncio.run(scene())


@in_loop
async def test_an_engine_that_fails_tells_each_mate_and_takes_the_next_batch() -> None:
    bench = Bench()
    mates = [bench.call(1), bench.call(2)]
    await due()
    waiting = bench.call(3)

    bench.answer(worked=False)
    bench.answer()

    for answer in mates:
        error = answer.exception()
        assert isinstance(error, Internal)
        assert error.reason == "ENGINE_FAILED"
    assert values(waiting) == [6]


@pytest.mark.parametrize("how", ["the engine fails", "the engine ends"])
def test_a_caller_that_cancelled_keeps_no_mate_from_being_told_of_a_failure(how: str) -> None:
    async def scene() -> None:
        bench = Bench()
        answers = [bench.call(1), bench.call(2)]
        await due()
        answers += [bench.call(3), bench.call(4)]
        for gone in (0, 2):
            answers[gone].cancel()

        if how == "the engine ends":
            bench.batcher.fail(Unavailable("ENGINE_ENDED", "it ended"))
        else:
            bench.answer(worked=False)
            bench.answer(worked=False)

        assert [answer.cancelled() for answer in answers] == [True, False, True, False]
        assert all(answers[told].exception() for told in (1, 3))
        assert bench.batcher.idle

    asyncio.run(scene())


@pytest.mark.parametrize("when", ["before the batch", "in the batch"])
def test_an_engine_that_ended_leaves_nobody_waiting(when: str) -> None:
    async def scene() -> None:
        bench = Bench()
        bench.ended = when == "before the batch"
        running = bench.call(1)
        await due()
        waiting = bench.call(2)

        bench.batcher.fail(Unavailable("ENGINE_ENDED", "it ended"))

        assert [type(a.exception()) for a in (running, waiting)] == [Unavailable] * 2
        assert bench.batcher.idle
        bench.answer()  # of an engine that was killed after it had answered

    asyncio.run(scene())


@in_loop
async def test_rows_that_wait_are_counted_up_and_down_to_nothing() -> None:
    bench = Bench()
    gauge = bench.measures.queue_rows

    bench.call(1, 1)
    counted = [gauge._value.get()]
    await due()
    gone = bench.call(2, 2, 2)
    bench.call(3)
    counted.append(gauge._value.get())
    gone.cancel()
    bench.answer()
    counted.append(gauge._value.get())

    assert counted == [2, 4, 0]


@in_loop
async def test_batches_are_counted_by_rows_requests_and_reason() -> None:
    bench = Bench(max_rows=2)
    for value in range(3):
        bench.call(value)
    await due()

    bench.answer(compute_ms=5)
    bench.answer(compute_ms=7)

    measures = bench.measures
    assert (measures.rows, measures.batches, measures.success.count) == (3, 2, 3)
    assert measures.by_reason == {"batch_full": 1, "queue_empty": 1}
    assert {rows: size.compute.ns for rows, size in measures.by_rows.items()} == {2: 5_000_000, 1: 7_000_000}
    assert measures.compute.ns == 2 * 5_000_000 + 7_000_000  # as KServe counts: once per request
