"""Traffic beside the story: a process that calls the endpoint, and what its callers saw."""

import json
import random
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data import Picture, write_inputs

if TYPE_CHECKING:
    from story import Story


class Flow:
    """Traffic that runs beside the story: what its callers saw, second by second.

    Args:
        process: What calls.
        shown: Gets what was on the image of each prediction.
    """

    def __init__(self, process: "subprocess.Popen[str]", shown: dict[str, str]) -> None:
        self.process = process
        self.seconds: list[dict[str, Any]] = []
        self._shown = shown
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            second = json.loads(line)
            self._shown |= {f"predictions/{id}": label for id, label in second["shown"].items()}
            self.seconds.append(second)

    @property
    def last(self) -> dict[str, Any]:
        """The newest report; an empty one before the first."""
        return self.seconds[-1] if self.seconds else {"answers": {}, "recent": {}, "errors": {}}

    def end(self) -> dict[str, Any]:
        """Stop it; return its last report.

        Raises:
            RuntimeError: It did not end well.
        """
        assert self.process.stdin is not None
        self.process.stdin.close()
        code = self.process.wait(60)
        self._reader.join(10)
        if code:
            raise RuntimeError("the traffic ended with an error; its message is above")
        return self.last


@contextmanager
def flow(
    story: "Story", pictures: Sequence[Picture], *, rate: float, labels_after: float = 1.0
) -> Iterator[Flow]:
    """Send pictures to the endpoint while the block runs, and their labels some seconds after the answers.

    They come in no order: files lie class by class, and callers do not.
    """
    inputs = write_inputs(random.sample(pictures, len(pictures)), story.plot.classes)
    command = [sys.executable, str(Path(__file__).with_name("traffic.py"))]
    command += ["--url", f"127.0.0.1:{story.port_base + 1}", "--inputs", str(inputs)]
    command += ["--endpoint", story.endpoint.removeprefix("endpoints/")]
    command += ["--rate", str(rate), "--labels-after", str(labels_after)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    running = Flow(process, story.shown)
    try:
        yield running
    finally:
        if process.poll() is None and process.stdin and not process.stdin.closed:
            process.stdin.close()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def of_split(story: "Story", split: str) -> list[Picture]:
    """Return the pictures of a split; versions are trained on those of `train` alone."""
    found = story.keys(split)
    return [picture for picture in story.plot.pictures if picture.key in found]


def short(version: str) -> str:
    """Return a version as replies name it."""
    return version.rpartition("/")[2]
