"""A floor: a grpc.aio server that answers every ModelInfer with the same message and does nothing else.

Run as `python floor_front.py PORT GOLDEN`; the answer is that of the first golden image.
"""

import asyncio
import signal
import sys
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc


class Floor(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Knows one answer."""

    def __init__(self, golden: str) -> None:
        self._answer = pb.ModelInferResponse(model_name="tiny", model_version="1")
        self._answer.parameters["prediction_id"].string_param = "0" * 45  # as long as the front's
        self._answer.parameters["version"].string_param = "1"
        with np.load(golden) as arrays:
            for name in ("probabilities", "embedding"):
                row = arrays[f"out.{name}"][:1]  # (1, C) float32
                self._answer.outputs.add(name=name, datatype="FP32", shape=row.shape)
                self._answer.raw_output_contents.append(row.tobytes())

    async def ModelReady(self, request: Any, context: Any) -> Any:
        return pb.ModelReadyResponse(ready=True)

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        return self._answer


async def main() -> None:
    """Serve until told to stop."""
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Floor(sys.argv[2]), server)
    server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
    await server.start()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    await server.stop(0)


if __name__ == "__main__":
    asyncio.run(main())
