"""One process under supervision: prepared, started, probed, restarted with backoff, stopped in bounds.

A process never outlives its supervisor: the kernel sends it PR_SET_PDEATHSIG, prctl(2). That is bound to the
*thread* that spawned it, so only the main thread spawns; it is forgotten at a change of user, so it is
set after that; and a supervisor that died in between is seen by asking for the parent again.
"""

import ctypes
import enum
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway_local.logs import open_log
from slipway_local.servers import Server

log = logging.getLogger(__name__)

MARK = "SLIPWAY_PLATFORM"
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 10.0
_CALM_AFTER_S = 20.0
_PROBE_EVERY_S = 0.1
_ALIVE_EVERY_S = 10.0
_DEAD_AFTER = 6


class State(enum.StrEnum):
    """Where a process is in its life."""

    WAITING = "waiting"
    PREPARING = "preparing"
    STARTING = "starting"
    READY = "ready"
    DONE = "done"
    BACKOFF = "backoff"
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Program:
    """What to run, and after what.

    Attributes:
        name: Also the name of its log.
        prepare: Makes ready what it needs and returns how it is run; may take its time.
        after: Names of what must be ready (or done) before.
        once: It runs to its end instead of serving.
        alive: Says whether it still works; asked every 10 s, restarted after 6 times no.
        death_signal: What it gets when the supervisor dies.
    """

    name: str
    prepare: Callable[[], Server]
    after: tuple[str, ...] = ()
    once: bool = False
    alive: Callable[[], bool] | None = None
    death_signal: signal.Signals = signal.SIGKILL


class Process:
    """A program and what became of it. All methods are for the supervisor's main thread."""

    def __init__(self, program: Program, *, logs: Path, mark: str, background: Executor) -> None:
        self.program = program
        self.state = State.WAITING
        self.restarts = 0
        self.restarts_asked = 0
        self.trouble = ""
        self.server: Server | None = None
        self._logs = logs
        self._mark = mark
        self._background = background
        self._popen: subprocess.Popen[bytes] | None = None
        self._answer: Future[Any] | None = None
        self._returns = False
        self._pause_s = _FIRST_PAUSE_S
        self._since = time.monotonic()
        self._probe_at = 0.0
        self._deaf = 0

    @property
    def name(self) -> str:
        """Its program's name."""
        return self.program.name

    @property
    def pid(self) -> int:
        """Its process id; 0 when it does not run."""
        return self._popen.pid if self._popen is not None else 0

    @property
    def settled(self) -> bool:
        """Whether what comes after it may start."""
        return self.state in (State.READY, State.DONE)

    @property
    def gone(self) -> bool:
        """Whether nothing of it runs."""
        return self._popen is None and self.state is not State.PREPARING

    def start(self) -> None:
        """Begin; for one that waits."""
        if self.state is State.WAITING:
            self._begin()

    def stop(self) -> None:
        """Ask it to end; killed when it takes longer than it may."""
        self._returns = False
        if self.state in (State.STOPPING, State.STOPPED):
            return
        if self._popen is None:
            self._enter(State.STOPPED)
            return
        assert self.server is not None
        self._popen.send_signal(self.server.stop_signal)
        self._enter(State.STOPPING)

    def restart(self) -> None:
        """Ask it to end as `stop` does, then let it wait for its start: no crash, and no pause before it.

        One that is about to start does so anyway; a step that was done is done again.
        """
        self.restarts_asked += 1
        self._pause_s = _FIRST_PAUSE_S
        if self._popen is not None:
            self.stop()
            self._returns = True
        elif self.state in (State.BACKOFF, State.DONE):
            self._enter(State.WAITING)

    def tick(self) -> None:
        """Look at it once, and do what is due. Never blocks."""
        if self._popen is not None and self._popen.poll() is not None:
            self._ended(self._popen.returncode)
        step = {
            State.PREPARING: self._prepared,
            State.STARTING: self._probe,
            State.READY: self._check_alive,
            State.BACKOFF: self._again,
            State.STOPPING: self._hurry,
        }.get(self.state)
        if step is not None:
            step()

    def _begin(self) -> None:
        self._enter(State.PREPARING)
        self._answer = self._background.submit(self.program.prepare)

    def _prepared(self) -> None:
        answer = self._answer
        if answer is None or not answer.done():
            return
        self._answer = None
        error = answer.exception()
        if error is not None:
            log.warning("%s could not be prepared", self.name, exc_info=error)
            self._fall_back(f"could not be prepared: {error}")
            return
        self.server = answer.result()
        try:
            self._popen = spawn(
                self.server, death_signal=self.program.death_signal, logs=self._logs, mark=self._mark
            )
        except OSError as problem:
            self._fall_back(f"could not be started: {problem}")
            return
        self._enter(State.STARTING)

    def _probe(self) -> None:
        assert self.server is not None
        if self.program.once:
            return
        if time.monotonic() - self._since > self.server.ready_within_s:
            self._kill(f"was not ready within {self.server.ready_within_s:g} s")
        elif self._asked(self.server.ready, _PROBE_EVERY_S):
            self.trouble = ""
            self._enter(State.READY)

    def _check_alive(self) -> None:
        if time.monotonic() - self._since > _CALM_AFTER_S:
            self._pause_s = _FIRST_PAUSE_S
        if self.program.alive is None:
            return
        answer = self._asked(self.program.alive, _ALIVE_EVERY_S)
        if answer is not None:
            self._deaf = 0 if answer else self._deaf + 1
        if self._deaf >= _DEAD_AFTER:
            self._kill("did not answer its liveness probe")

    def _asked(self, question: Callable[[], bool], every_s: float) -> bool | None:
        """Return the answer to a question that was put in the background, None while there is none."""
        answer, now = self._answer, time.monotonic()
        if answer is None:
            if now >= self._probe_at:
                self._answer = self._background.submit(question)
            return None
        if not answer.done():
            return None
        self._answer, self._probe_at = None, now + every_s
        return answer.exception() is None and bool(answer.result())

    def _ended(self, code: int) -> None:
        self._popen, self._answer = None, None
        if self.state is State.STOPPING:
            self._enter(State.WAITING if self._returns else State.STOPPED)
            self._returns = False
        elif self.program.once and code == 0:
            self.trouble = ""
            self._enter(State.DONE)
        else:
            self._fall_back(self.trouble if code == -signal.SIGKILL and self.trouble else _how(code))

    def _fall_back(self, trouble: str) -> None:
        self.trouble = trouble
        self.restarts += 1
        self._enter(State.BACKOFF)

    def _again(self) -> None:
        if time.monotonic() - self._since >= self._pause_s:
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
            self._begin()

    def _hurry(self) -> None:
        assert self.server is not None
        if self._popen is not None and time.monotonic() - self._since > self.server.stop_within_s:
            self._kill(f"did not stop within {self.server.stop_within_s:g} s")

    def _kill(self, trouble: str) -> None:
        self.trouble = trouble
        if self._popen is not None:
            end_session(self._popen.pid)

    def _enter(self, state: State) -> None:
        self.state, self._since, self._probe_at, self._deaf = state, time.monotonic(), 0.0, 0


def spawn(server: Server, *, death_signal: signal.Signals, logs: Path, mark: str) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own that dies with us; from the main thread only."""
    log = open_log(logs, server.name)
    account = server.account
    drop: dict[str, Any] = {}
    if account is not None:
        drop = {"user": account.uid, "group": account.gid, "extra_groups": []}
    try:
        return subprocess.Popen(
            server.command,
            env={**inherited(), MARK: mark, **server.environment},
            cwd=server.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=_dies_with(os.getpid(), death_signal),
            **drop,
        )
    finally:
        os.close(log)


def inherited() -> dict[str, str]:
    """Return our environment without what is Slipway's: every process gets exactly its own settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SLIPWAY_")}


def end_session(leader: int) -> None:
    """Kill a process and its session's process group; no error when it is gone already."""
    for kill in (os.killpg, os.kill):
        try:
            kill(leader, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


def _dies_with(parent: int, death_signal: signal.Signals) -> Callable[[], None]:
    number = int(death_signal)

    def in_child() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return in_child


def _how(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
