"""The callers: a process of its own that keeps so many calls in flight and looks at every reply.

Orders come as JSON lines on standard input, one result line answers each. A reply that is not OK, or a value
that is not the golden one, is an error: figures of wrong answers are no figures.
"""

import asyncio
import itertools
import json
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

_WARM_S = 0.3
_TIMEOUT_S = 20.0
_CHECK_EVERY = 16
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Order:
    """What to do: `rows` golden images of one row each, sent in turn for `seconds` after a short warm-up."""

    address: str
    token: str
    model: str
    golden: str
    rows: int
    in_flight: int
    seconds: float


@dataclass(frozen=True)
class Result:
    """What came: `replies` within the measured time, `all_replies` with the warm-up and the end."""

    replies: int
    all_replies: int
    checked: int
    latencies_ms: list[float]
    caller_cpu_s: float
    wall_s: float


class Callers:
    """Workers over one channel; each has one call in flight."""

    def __init__(self, order: Order) -> None:
        with np.load(order.golden) as arrays:
            images, wanted = arrays["in.image"][: order.rows], arrays["out.probabilities"][: order.rows]
        self._order = order
        self._wanted = wanted  # (N, 10) float32
        self._requests = [self._request(image) for image in images]
        self._metadata = (("authorization", f"Bearer {order.token}"),)
        self._turn = itertools.count()
        self._latencies_ms: list[float] = []
        self._all = self._checked = 0

    def _request(self, image: np.ndarray[Any, Any]) -> Any:
        request = pb.ModelInferRequest(model_name=self._order.model, raw_input_contents=[image.tobytes()])
        request.inputs.add(name="image", datatype="UINT8", shape=(1, *image.shape))
        return request

    async def run(self) -> Result:
        """Keep the calls in flight; return what was seen."""
        cpu, began = time.process_time(), time.perf_counter()
        async with grpc.aio.insecure_channel(self._order.address) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            start_at = began + _WARM_S
            stop_at = start_at + self._order.seconds
            await asyncio.gather(
                *(self._worker(stub, start_at, stop_at) for _ in range(self._order.in_flight))
            )
        return Result(
            replies=len(self._latencies_ms),
            all_replies=self._all,
            checked=self._checked,
            latencies_ms=self._latencies_ms,
            caller_cpu_s=time.process_time() - cpu,
            wall_s=time.perf_counter() - began,
        )

    async def _worker(self, stub: Any, start_at: float, stop_at: float) -> None:
        ended = 0.0
        while ended < stop_at:
            turn = next(self._turn)
            row = turn % len(self._requests)
            began = time.perf_counter()
            reply = await stub.ModelInfer(self._requests[row], metadata=self._metadata, timeout=_TIMEOUT_S)
            ended = time.perf_counter()
            self._all += 1
            if start_at <= ended < stop_at:
                self._latencies_ms.append((ended - began) * 1000)
            if turn % _CHECK_EVERY == 0:
                self._check(reply, row)

    def _check(self, reply: Any, row: int) -> None:
        index = [output.name for output in reply.outputs].index("probabilities")
        got = np.frombuffer(reply.raw_output_contents[index], np.float32)
        if got.shape != self._wanted[row].shape or not np.allclose(got, self._wanted[row], atol=_TOLERANCE):
            raise ValueError(f"image {row} got {got}, not {self._wanted[row]}")
        self._checked += 1


def main() -> None:
    """Obey orders until standard input ends."""
    for line in sys.stdin:
        order = Order(**json.loads(line))
        try:
            answer = asdict(asyncio.run(Callers(order).run()))
        except (grpc.aio.AioRpcError, ValueError) as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
