"""A bounded load of concurrent tritonclient callers, in a process of its own; prints one JSON object.

    python load.py --url 127.0.0.1:8081 --endpoint digits --inputs inputs.npy --callers 32 --requests 2000

Every reply's status is checked, and the version that answered is counted. Little's law (throughput times mean
latency equals the callers) is printed with the figures, because a load generator that breaks it has lied.
"""

import argparse
import asyncio
import json
import os
import time
from collections import Counter
from dataclasses import asdict, dataclass, field

import numpy as np
import tritonclient.grpc.aio as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype


@dataclass
class Report:
    """What the callers saw."""

    requests: int = 0
    failed: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    throughput: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    little: float = 0.0
    versions: dict[str, int] = field(default_factory=dict)
    agreed: int = 0
    last_prediction_id: str = ""
    shown: dict[str, str] = field(default_factory=dict)  # what was on the image of each prediction's row


@dataclass(frozen=True)
class Target:
    """Where the calls go, and with what headers."""

    url: str
    endpoint: str
    input_name: str
    headers: dict[str, str]


class Callers:
    """A number of callers who share a budget of requests and a stop time."""

    def __init__(self, target: Target, images: np.ndarray, labels: list[str], classes: list[str]) -> None:
        self._target = target
        self._images = images  # (N, 1, H, W, C) uint8
        self._labels = labels
        self._classes = classes
        self._latencies_ms: list[float] = []
        self._versions: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._agreed = 0
        self._last = ""
        self._shown: dict[str, str] = {}
        self._next = 0

    async def drive(self, callers: int, requests: int, seconds: float) -> Report:
        """Call until the requests or the seconds are used up."""
        begin = time.perf_counter()
        stop_at = begin + seconds
        await asyncio.gather(*(self._caller(requests, stop_at) for _ in range(callers)))
        return self._report(time.perf_counter() - begin)

    async def _caller(self, requests: int, stop_at: float) -> None:
        async with triton.InferenceServerClient(self._target.url) as client:
            while self._next < requests and time.perf_counter() < stop_at:
                number = self._next
                self._next += 1
                await self._call(client, number % len(self._images))

    async def _call(self, client: triton.InferenceServerClient, index: int) -> None:
        image = self._images[index]
        tensor = triton.InferInput(self._target.input_name, image.shape, np_to_triton_dtype(image.dtype))
        tensor.set_data_from_numpy(image)
        begin = time.perf_counter()
        try:
            result = await client.infer(
                self._target.endpoint, [tensor], headers=self._target.headers, client_timeout=10.0
            )
        except InferenceServerException as error:
            self._errors[f"{error.status()}: {error.message()}"[:200]] += 1
            return
        self._latencies_ms.append((time.perf_counter() - begin) * 1e3)
        response = result.get_response()
        self._versions[response.model_version] += 1
        self._last = response.parameters["prediction_id"].string_param
        self._shown[f"predictions/{self._last}.0"] = self._labels[index]
        best = int(np.argmax(result.as_numpy("probabilities")[0]))
        self._agreed += self._classes[best] == self._labels[index]

    def _report(self, seconds: float) -> Report:
        latencies = np.asarray(self._latencies_ms or [0.0])
        done = len(self._latencies_ms)
        failed = sum(self._errors.values())
        throughput = done / seconds
        return Report(
            requests=done + failed,
            failed=failed,
            errors=dict(self._errors),
            seconds=seconds,
            throughput=throughput,
            p50_ms=float(np.percentile(latencies, 50)),
            p99_ms=float(np.percentile(latencies, 99)),
            little=throughput * float(latencies.mean()) / 1e3,
            versions=dict(self._versions),
            agreed=self._agreed,
            last_prediction_id=self._last,
            shown=self._shown,
        )


def main() -> None:
    """Read the arguments, drive, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--inputs", required=True, help="npz with images, labels, classes")
    parser.add_argument("--input-name", default="image")
    parser.add_argument("--callers", type=int, default=32)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--version", default="", help="only this version, by the testers' header")
    arguments = parser.parse_args()
    headers = {
        "authorization": f"Bearer {os.environ['SLIPWAY_TOKEN']}",
        "slipway-endpoint": arguments.endpoint,
    }
    if arguments.version:
        headers["slipway-version"] = arguments.version
    data = np.load(arguments.inputs)
    target = Target(arguments.url, arguments.endpoint, arguments.input_name, headers)
    callers = Callers(target, data["images"], data["labels"].tolist(), data["classes"].tolist())
    report = asyncio.run(callers.drive(arguments.callers, arguments.requests, arguments.seconds))
    print(json.dumps(asdict(report)))


if __name__ == "__main__":
    main()
