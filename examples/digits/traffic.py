"""Steady traffic to an endpoint with late labels, in a process of its own; prints one JSON object a second.

    python traffic.py --url 127.0.0.1:8081 --endpoint digits --inputs inputs.npz --rate 100 --labels-after 1

A caller does not see which version will answer him. What was really on an image is told to the platform some
seconds after the answer, as a customer's complaint or an archive would: `--labels-after` seconds; negative:
never. It ends when its standard input does.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tritonclient.grpc.aio as triton
from slipway.client import Client
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

LABELS_AT_ONCE = 500
MAX_WAITING = 64


@dataclass
class Seen:
    """What the callers saw so far; counts by version, and what was on the images of recent predictions."""

    answers: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    recent: Counter[str] = field(default_factory=Counter)
    recent_right: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    shown: dict[str, str] = field(default_factory=dict)
    labelled: int = 0
    skipped: int = 0
    last_prediction: str = ""

    def line(self) -> str:
        """Return all of it as JSON, and begin anew with what is recent."""
        text = json.dumps({**self.__dict__, "time": time.time()})
        for recent in (self.recent, self.recent_right, self.shown):
            recent.clear()
        return text


class Traffic:
    """Calls at a steady rate, however slow the answers are."""

    def __init__(self, arguments: argparse.Namespace, client: Client) -> None:
        self._arguments = arguments
        self._client = client
        data = np.load(arguments.inputs)
        self._images: Any = data["images"]  # (N, 1, H, W, C) uint8
        self._labels, self._classes = data["labels"].tolist(), data["classes"].tolist()
        self._late: deque[tuple[float, str, str]] = deque()
        self._open: set[asyncio.Task[None]] = set()
        self.seen = Seen()

    async def drive(self) -> None:
        """Call until standard input ends."""
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), _at_end(ended))
        others = [asyncio.create_task(self._tell())]
        if self._arguments.labels_after >= 0:
            others.append(asyncio.create_task(self._send_labels(ended)))
        async with triton.InferenceServerClient(self._arguments.url) as client:
            await self._call_steadily(client, ended)
            await asyncio.gather(*self._open)
        await asyncio.gather(*others[1:])
        others[0].cancel()
        print(self.seen.line(), flush=True)

    async def _call_steadily(self, client: triton.InferenceServerClient, ended: asyncio.Event) -> None:
        begin, number = time.monotonic(), 0
        while not ended.is_set():
            await asyncio.sleep(max(0.0, begin + number / self._arguments.rate - time.monotonic()))
            if len(self._open) < MAX_WAITING:
                task = asyncio.create_task(self._call(client, number % len(self._images)))
                self._open.add(task)
                task.add_done_callback(self._open.discard)
            else:
                self.seen.skipped += 1
            number += 1

    async def _call(self, client: triton.InferenceServerClient, index: int) -> None:
        image = self._images[index]
        tensor = triton.InferInput("image", image.shape, np_to_triton_dtype(image.dtype))
        tensor.set_data_from_numpy(image)
        headers = {
            "authorization": f"Bearer {self._client.token()}",
            "slipway-endpoint": self._arguments.endpoint,
        }
        try:
            result = await client.infer(
                self._arguments.endpoint, [tensor], headers=headers, client_timeout=10.0
            )
        except InferenceServerException as error:
            self.seen.errors[f"{error.status()}: {error.message()}"[:200]] += 1
            return
        response = result.get_response()
        version = response.model_version
        right = self._classes[int(np.argmax(result.as_numpy("probabilities")[0]))] == self._labels[index]
        for counter in (self.seen.answers, self.seen.recent):
            counter[version] += 1
        for counter in (self.seen.right, self.seen.recent_right):
            counter[version] += right
        prediction = f"{response.parameters['prediction_id'].string_param}.0"
        self.seen.last_prediction = prediction
        self.seen.shown[prediction] = self._labels[index]
        due = time.monotonic() + self._arguments.labels_after
        if self._arguments.labels_after >= 0:
            self._late.append((due, prediction, self._labels[index]))

    async def _send_labels(self, ended: asyncio.Event) -> None:
        while self._late or not ended.is_set():
            due: dict[str, str] = {}
            while self._late and len(due) < LABELS_AT_ONCE and self._late[0][0] <= time.monotonic():
                _, prediction, label = self._late.popleft()
                due[prediction] = label
            if due:
                await asyncio.to_thread(
                    self._client.record_feedback, list(due.items()), source="imports/archive"
                )
                self.seen.labelled += len(due)
            await asyncio.sleep(0.2)

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            print(self.seen.line(), flush=True)


def _at_end(ended: asyncio.Event) -> Any:
    def read() -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            ended.set()

    return read


def main() -> None:
    """Read the arguments and drive."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--inputs", required=True, help="npz with images, labels, classes")
    parser.add_argument("--rate", type=float, default=100.0, help="calls per second")
    parser.add_argument("--labels-after", type=float, default=1.0, help="seconds; negative: never")
    arguments = parser.parse_args()
    with Client() as client:
        asyncio.run(Traffic(arguments, client).drive())


if __name__ == "__main__":
    main()
