"""The front's side of one engine process: start it, hand it a batch, notice its end."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway_inference.domain import Signature
from slipway_inference.engine.child import ANSWER, BATCH
from slipway_inference.engine.region import Region

_STOP_S = 2.0
_REPORT_BYTES = 64 << 10


@dataclass(frozen=True)
class EngineOptions:
    """How engines run.

    Args:
        engine: `onnx` or `torch`.
        threads: CPU threads inside one batch.
        load_timeout_s: Longest time from start to the warm-up's report.
        batch_timeout_s: Longest time of one batch; a process that takes longer is killed.
    """

    engine: str
    threads: int
    load_timeout_s: float
    batch_timeout_s: float


class EngineDied(Exception):
    """The engine's process ended."""


class EngineProcess:
    """One child process and the region it shares. Make it on the main thread: the child dies with it.

    Args:
        folder: The bundle.
        signature: Already limited to the rows per batch.
        options: How the engine runs.
        on_answer: Called with (compute ns, whether it worked) for the batch in flight.
    """

    def __init__(
        self,
        folder: Path,
        signature: Signature,
        options: EngineOptions,
        on_answer: Callable[[int, bool], None],
    ) -> None:
        self.region = Region(signature)
        self._options = options
        self._on_answer = on_answer
        self._loop = asyncio.get_running_loop()
        self._report: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._sequence = 0
        self._watchdog: asyncio.TimerHandle | None = None
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = self._spawn(folder, signature.max_rows, theirs.fileno())
        self._link.setblocking(False)
        self._loop.add_reader(self._link.fileno(), self._on_packet)

    def _spawn(self, folder: Path, max_rows: int, link: int) -> subprocess.Popen[bytes]:
        arguments = {
            "--link": link,
            "--memory": self.region.fd,
            "--parent": os.getpid(),
            "--threads": self._options.threads,
            "--max-rows": max_rows,
            "--engine": self._options.engine,
            "--folder": folder,
        }
        words = [str(word) for pair in arguments.items() for word in pair]
        command = [sys.executable, "-m", "slipway_inference.engine.child", *words]
        return subprocess.Popen(command, pass_fds=(link, self.region.fd), stdin=subprocess.DEVNULL)

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    async def report(self) -> dict[str, Any]:
        """Return what the warm-up said.

        Raises:
            EngineDied: The child ended, or took longer than the load timeout.
        """
        try:
            return await asyncio.wait_for(asyncio.shield(self._report), self._options.load_timeout_s)
        except TimeoutError as error:
            raise EngineDied(f"no report within {self._options.load_timeout_s:g} s") from error

    def execute(self, rows: int) -> None:
        """Have the first `rows` rows of the region computed; `on_answer` gets the end of it."""
        self._sequence += 1
        self._watchdog = self._loop.call_later(self._options.batch_timeout_s, self._process.kill)
        self._link.send(BATCH.pack(self._sequence, rows))

    def _on_packet(self) -> None:
        try:
            packet = self._link.recv(_REPORT_BYTES)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:
            self._on_end()
        elif not self._report.done():
            self._report.set_result(json.loads(packet))
        else:
            self._on_batch(*ANSWER.unpack(packet))

    def _on_batch(self, sequence: int, compute_ns: int, worked: bool) -> None:
        if sequence == self._sequence:
            self._disarm()
            self._on_answer(compute_ns, worked)

    def _disarm(self) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None

    def _on_end(self) -> None:
        self._disarm()
        self._loop.remove_reader(self._link.fileno())
        if not self._report.done():
            self._report.set_exception(EngineDied("the engine ended before its report"))
            self._report.exception()
        if not self.ended.done():
            self.ended.set_result(None)

    async def stop(self) -> int:
        """End the child: by closing the socket, then by force; return its exit status."""
        if not self.ended.done():
            self._on_end()
        self._link.close()
        try:
            status = await asyncio.to_thread(self._process.wait, _STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = await asyncio.to_thread(self._process.wait)
        self.region.close()
        return status
