"""An engine's process as its parent sees it: start, orders, events, stop.

The environment is cleared, the process leads a group of its own, and dies with its parent.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from slipway_training.engine.events import Event, Order, decode, encode
from slipway_training.engine.spec import Told

POLL_S = 0.25
LOG_TAIL_BYTES = 2000


class EngineProcess:
    """One running attempt.

    Args:
        module: What it runs.
        told: What it is told.
        folder: Where its spec and its log go.
        work: What it does, for people: `training` or `scoring`.
        orders: Whether it takes orders on its standard input.
    """

    def __init__(self, module: str, told: Told, folder: Path, work: str, *, orders: bool = False) -> None:
        self._work = work
        self._log = folder / "process.log"
        spec = folder / "spec.json"
        told.write(spec)
        read_end, write_end = os.pipe()
        try:
            with open(self._log, "wb") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-m", module, str(write_end), str(spec)],
                    stdin=subprocess.PIPE if orders else subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=folder,
                    env=_environment(folder, told.threads),
                    pass_fds=(write_end,),
                    start_new_session=True,
                )
        except OSError:
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
        self._pipe = read_end
        self.pid = self._process.pid

    def order(self, order: Order) -> None:
        """Ask the process for something; one that has died says nothing, and `events` ends."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(encode(order))
            self._process.stdin.flush()
        except BrokenPipeError:
            return

    def events(self) -> Iterator[Event | None]:
        """Yield events as they come, and None now and then while there are none; ends with the process.

        Raises:
            ValueError: the process wrote what is no event.
        """
        rest = b""
        while True:
            readable, _, _ = select.select([self._pipe], [], [], POLL_S)
            if not readable:
                yield None
                if self._process.poll() is not None:  # a grandchild may hold the pipe open
                    return
                continue
            data = os.read(self._pipe, 1 << 16)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield decode(line)

    def stop(self, grace_s: float = 0.0) -> None:
        """Stop the whole group: asked first when `grace_s` is given, killed after it."""
        if grace_s and self._process.poll() is None:
            self._signal(signal.SIGTERM)
            deadline = time.monotonic() + grace_s
            while self._process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
        self._signal(signal.SIGKILL)

    def close(self) -> str:
        """Order nothing more, end what is left of the group; return how the process ended, `` when well."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            code = self._process.wait(timeout=POLL_S * 4)
        except subprocess.TimeoutExpired:
            code = None
        self.stop()
        os.close(self._pipe)
        code = self._process.wait() if code is None else code
        if code == 0:
            return ""
        if code < 0:
            return f"the {self._work} process was killed by {signal.Signals(-code).name}"
        return f"the {self._work} process exited with {code}: {self._tail()}"

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            return

    def _tail(self) -> str:
        text = self._log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").strip()
        return text.splitlines()[-1] if text else "its log is empty"


def _environment(folder: Path, threads: int) -> dict[str, str]:
    """Return all that the process may know of the world."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": str(threads),
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # else cuBLAS is not deterministic
        "PYTHONDONTWRITEBYTECODE": "1",
    }
