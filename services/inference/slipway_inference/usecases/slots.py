"""Slots and the front that holds them: load, answer, restart, unload."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from opentelemetry.trace import SpanContext
from slipway_runtime.errors import SlipwayError, Unavailable

from slipway_inference.domain import (
    BatchLimit,
    BundleRefused,
    CostModel,
    PredictionIds,
    Signature,
    SlotState,
    Tensor,
    checked_rows,
    chosen_outputs,
    model_not_found,
    not_ready,
    version_not_served,
)
from slipway_inference.engine.batcher import Batcher, Outcome, Pending, went_away
from slipway_inference.engine.bundles import BundleOnDisk
from slipway_inference.engine.measures import SlotMeasures
from slipway_inference.engine.process import EngineDied, EngineOptions, EngineProcess

log = logging.getLogger(__name__)

_BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_STEADY_S = 30.0
# how long a batch may wait for the callers of the one before: of the latency objective, and in ms
_HOLD_SHARE, _HOLD_MS = 0.04, 4.0


@dataclass(frozen=True)
class SlotLimits:
    """What a slot may hold and aims at."""

    max_batch_rows: int
    latency_objective_ms: float
    max_queue_rows: int


@dataclass(frozen=True)
class Answer:
    """What one request got."""

    prediction_id: str
    model: str
    version: str
    model_version: str
    rows: int
    signature: Signature
    outputs: Sequence[int]
    parts: Sequence[bytes]
    outcome: Outcome


Fetch = Callable[[], BundleOnDisk]


class Slot:
    """One version of one model: its engine process, its queue, its counts.

    Args:
        name: KServe model name: the endpoint's.
        version: KServe model version: the number.
        model_version: `models/{model}/versions/{number}` that this is.
        fetch: Gives the verified bundle; may take long, and is asked again while the registry is away.
        limits: Of queue and batches.
        engine: How engines run.
        on_state: Told whenever the state changes.
    """

    def __init__(
        self,
        *,
        name: str,
        version: str,
        model_version: str,
        fetch: Fetch,
        limits: SlotLimits,
        engine: EngineOptions,
        on_state: Callable[[], None],
    ) -> None:
        self.name = name
        self.version = version
        self.model_version = model_version
        self.state = SlotState.LOADING
        self.why = ""
        self.measures = SlotMeasures(name)
        self.bundle: BundleOnDisk | None = None
        self._fetch = fetch
        self._limits = limits
        self._engine = engine
        self.on_state = on_state
        self._batcher: Batcher | None = None
        self._process: EngineProcess | None = None
        self._ids: PredictionIds | None = None
        self._cost = CostModel()
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Lock()

    @property
    def signature(self) -> Signature:
        """The signature, limited to the rows per batch; only when there is a bundle."""
        assert self.bundle is not None
        return self.bundle.signature.limited(self._limits.max_batch_rows)

    def start(self) -> None:
        """Begin to load; the slot becomes READY by itself."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Take no more calls, answer what waits, then end the engine; its memory returns with it."""
        self._become(SlotState.UNLOADED)  # first: callers that never cease would keep it from its end
        async with self._stopping:
            while self._batcher is not None and not self._batcher.idle:
                await asyncio.sleep(0.01)
            if self._task is not None:
                self._task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await self._task
            await self._end_process()
            self._become(SlotState.UNLOADED)

    async def _end_process(self) -> None:
        if self._process is not None:
            await self._process.stop()
            self._process = None

    async def infer(
        self,
        tensors: Sequence[Tensor],
        asked: Sequence[str],
        timeout_s: float | None,
        span: SpanContext | None,
    ) -> Answer:
        """Answer one request.

        Raises:
            SlipwayError: The slot is not ready, a tensor is wrong, the queue is full, or the time ran out.
        """
        began = time.monotonic_ns()
        try:
            if self.state is not SlotState.READY or self._batcher is None or self._ids is None:
                raise not_ready(self.name, self.state, self.why)
            signature = self.signature
            rows, parts = checked_rows(signature, tensors)
            outputs = chosen_outputs(signature, asked)
            deadline = None if timeout_s is None else time.monotonic() + timeout_s
            pending = Pending(rows, parts, deadline, span, asyncio.get_running_loop().create_future())
            self._batcher.submit(pending)
            outcome = await pending.answer
        except SlipwayError as error:
            self.measures.refused(error.reason, time.monotonic_ns() - began)
            raise
        except asyncio.CancelledError:
            self.measures.refused(went_away(self.name).reason, time.monotonic_ns() - began)
            raise
        return Answer(
            self._ids(),
            self.name,
            self.version,
            self.model_version,
            rows,
            signature,
            outputs,
            parts,
            outcome,
        )

    async def _run(self) -> None:
        """Keep an engine running until the slot is stopped or its bundle refused."""
        failures = 0
        while True:
            try:
                self.bundle = await asyncio.to_thread(self._fetch)
                self._ids = PredictionIds(self.bundle.digest)
                process = await self._launch()
                began = time.monotonic()
                await asyncio.shield(process.ended)  # a cancelled slot must not cancel the end
                failures = 0 if time.monotonic() - began > _STEADY_S else failures
                self._lose("the engine ended and starts again")
            except BundleRefused as error:
                self._become(SlotState.REFUSED, error.message)
                log.error("slot %s: %s", self.name, error.message)
                await self._end_process()
                return
            except (EngineDied, SlipwayError) as error:
                self._lose(str(error))
            except asyncio.CancelledError:
                raise
            except Exception as error:
                log.exception("slot %s could not load", self.name)
                self._lose(f"it could not load ({type(error).__name__})")
            await self._end_process()
            await asyncio.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])
            failures += 1

    async def _launch(self) -> EngineProcess:
        assert self.bundle is not None
        self._process = process = EngineProcess(
            self.bundle.folder, self.signature, self._engine, self._on_answer
        )
        report = await process.report()
        if not report["ok"]:
            raise BundleRefused(str(report["reason"]))
        for rows, cost_ms in report["costs_ms"].items():
            self._cost.observe(int(rows), float(cost_ms))
        limits = self._limits
        self._batcher = Batcher(
            name=self.name,
            signature=self.signature,
            limit=BatchLimit(
                max_rows=self.signature.max_rows, objective_ms=limits.latency_objective_ms, cost=self._cost
            ),
            max_queue_rows=limits.max_queue_rows,
            region=process.region,
            execute=process.execute,
            measures=self.measures,
            hold_s=min(limits.latency_objective_ms * _HOLD_SHARE, _HOLD_MS) / 1000,
        )
        log.info("slot %s is ready: golden within %.2g", self.name, report["golden_max_abs_diff"])
        self._become(SlotState.READY)
        return process

    def _on_answer(self, compute_ns: int, worked: bool) -> None:
        if self._batcher is not None:
            self._batcher.on_answer(compute_ns, worked)

    def _lose(self, why: str) -> None:
        """Refuse all that waits: the engine is gone, and another will come."""
        was_ready = self.state is SlotState.READY
        self._become(SlotState.RESTARTING if self._batcher is not None else SlotState.LOADING, why)
        if self._batcher is not None:
            error = Unavailable("ENGINE_ENDED", f"model {self.name!r}: {why}; try again", retry_after_s=0.5)
            self._batcher.fail(error)
        if was_ready:
            self.measures.restarts.inc()

    def _become(self, state: SlotState, why: str = "") -> None:
        self.state, self.why = state, why
        self.measures.ready.set(1 if state is SlotState.READY else 0)
        self.on_state()


class Front:
    """The slots of one process by model name."""

    def __init__(self) -> None:
        self.slots: dict[str, Slot] = {}

    @property
    def ready(self) -> bool:
        """Whether every slot takes calls; a front without slots is ready."""
        return not self.missing

    @property
    def missing(self) -> str:
        """What each slot that takes no calls is, and why: `slot flowers is REFUSED: …`."""
        waiting = [slot for slot in self.slots.values() if slot.state is not SlotState.READY]
        return "; ".join(
            f"slot {slot.name} is {slot.state}{': ' + slot.why if slot.why else ''}" for slot in waiting
        )

    def slot(self, name: str, version: str = "") -> Slot:
        """Return the slot of a model.

        Raises:
            NotFound: No slot has that name, or it has another version.
        """
        found = self.slots.get(name)
        if found is None:
            raise model_not_found(name, self.slots)
        if version and version != found.version:
            raise version_not_served(name, version, found.version)
        return found

    def add(self, slot: Slot) -> None:
        """Take a slot in and begin to load it."""
        self.slots[slot.name] = slot
        slot.start()

    async def remove(self, name: str) -> None:
        """Unload a slot."""
        slot = self.slot(name)
        await slot.stop()
        if self.slots.get(name) is slot:
            del self.slots[name]
        slot.on_state()  # whether the front is ready may have changed with what is left

    async def stop(self) -> None:
        """Unload all slots."""
        for name in list(self.slots):
            await self.remove(name)
