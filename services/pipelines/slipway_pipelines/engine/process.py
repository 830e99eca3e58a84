"""One attempt's process as its parent sees it: started with a cleared environment, ended with its group.

The process leads a group of its own and dies with its parent (`slipway.pipeline.attempt`).
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

LOG_TAIL_BYTES = 4000
MAX_ANSWER_BYTES = 1 << 20
MAX_OUTPUT_BYTES = 64 << 10
MAX_WHY = 4000
SAID = {"output", "skipped", "waits", "failed"}
MODULE = "slipway.pipeline.attempt"


@dataclass(frozen=True)
class Answer:
    """What came of an attempt: `output`, `skipped`, `waits`, `failed` or `lost` (the process was killed).

    A failure that is `final` uses up what retries are left.
    """

    kind: str
    output: str = ""
    why: str = ""
    final: bool = False


class StepProcess:
    """One running attempt.

    Args:
        spec: What it is told; the parent's id is added.
        folder: Its own, for spec and log; its home.
        environment: All that it may know of the world, beside paths.
    """

    def __init__(self, spec: Mapping[str, Any], folder: Path, environment: Mapping[str, str]) -> None:
        self._log = folder / "attempt.log"
        told = folder / "spec.json"
        told.write_text(json.dumps({**spec, "parent_pid": os.getpid()}))
        read_end, write_end = os.pipe()
        try:
            with open(self._log, "wb") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-m", MODULE, str(write_end), str(told)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=folder,
                    env=_environment(folder) | dict(environment),
                    pass_fds=(write_end,),
                    start_new_session=True,
                )
        except OSError:
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
        self._pipe = read_end
        self._said = b""
        self.pid = self._process.pid

    def wait(self, seconds: float) -> Answer | None:
        """Return what came of it, or None when it goes on after so many seconds."""
        readable, _, _ = select.select([self._pipe], [], [], seconds)
        if not readable and self._process.poll() is None:
            return None
        data = os.read(self._pipe, 1 << 16) if readable else b""
        self._said += data
        if b"\n" in self._said:
            return self._answer()
        if data and len(self._said) <= MAX_ANSWER_BYTES:
            return None
        return self._death()

    def close(self) -> str:
        """End what is left of the group; return the end of what it printed."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._pipe)
        with open(self._log, "rb") as log:
            log.seek(max(0, self._log.stat().st_size - LOG_TAIL_BYTES))
            text = log.read().decode(errors="replace")
        return text.replace("\0", "").strip()

    def _answer(self) -> Answer:
        """Return what was said, checked: user code runs in the process, too."""
        try:
            answer = Answer(**json.loads(self._said.partition(b"\n")[0]))
            if answer.kind == "output":
                json.loads(answer.output)
            if answer.kind not in SAID or len(answer.output) > MAX_OUTPUT_BYTES:
                raise ValueError
            return replace(answer, why=_storable(answer.why))
        except (ValueError, TypeError, AttributeError):
            return Answer("failed", why="the step's process answered what is no answer")

    def _death(self) -> Answer:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        code = self._process.wait()
        if code < 0:
            return Answer("lost", why=f"the step's process was killed by {signal.Signals(-code).name}")
        return Answer("failed", why=f"the step's process exited with {code} and said nothing")


def _storable(text: str) -> str:
    """Return a text as PostgreSQL keeps it: no NUL, no half of a surrogate pair, not without end."""
    return text.encode(errors="replace").decode().replace("\0", "")[:MAX_WHY]


def _environment(folder: Path) -> dict[str, str]:
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
