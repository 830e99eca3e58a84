"""The server processes of a benchmark: in sessions of their own, measured, and ended whatever comes."""

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

import psutil

_STOP_S = 10.0


class ServerProcess:
    """One server and its children.

    Args:
        command: Its words.
        environment: Variables added to those of this process.
        log: File that takes what it prints.
    """

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str] = {}) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C reaches the benchmark alone, which ends its servers
            )
        self._tree = psutil.Process(self._process.pid)

    def cpu_s(self) -> float:
        """Return the CPU seconds, user and system, of the process and its children so far."""
        total = 0.0
        for process in (self._tree, *self._tree.children(recursive=True)):
            times = process.cpu_times()
            total += times.user + times.system
        return total

    def check(self) -> None:
        """Raise when it has ended, with the end of its log."""
        if self._process.poll() is not None:
            tail = self.log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{self._process.args!r} ended with {self._process.returncode}:\n{tail}")

    def stop(self) -> None:
        """End it and its children: SIGTERM, then SIGKILL."""
        with contextlib.suppress(psutil.NoSuchProcess):
            children = self._tree.children(recursive=True)
            self._process.send_signal(signal.SIGTERM)
            _, alive = psutil.wait_procs([self._tree, *children], timeout=_STOP_S)
            for process in alive:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self._process.wait()


@contextlib.contextmanager
def workplace(name: str) -> Iterator[tuple[Path, contextlib.ExitStack]]:
    """Yield a temporary folder and a stack whose ends run whatever happens, SIGTERM included."""

    def interrupted(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupted)
    roomy = "/var/tmp" if os.access("/var/tmp", os.W_OK) else None  # /tmp may be memory
    with (
        tempfile.TemporaryDirectory(
            prefix=f"slipway-bench-{name}-", dir=roomy, ignore_cleanup_errors=True
        ) as folder,
        contextlib.ExitStack() as ends,
    ):
        yield Path(folder), ends


def peers_folder() -> Path:
    """Return where peers are installed, each in a virtual environment of its own, outside the project's."""
    named = os.environ.get("SLIPWAY_BENCH_PEERS")
    return Path(named) if named else Path(tempfile.gettempdir()) / "slipway-bench-peers"
