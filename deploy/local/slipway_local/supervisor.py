"""The supervisor's loop: starts in order, watches, restarts, reports, and stops in the reverse order.

It owns no policy about what runs: programs come by constructor, and so does what else the loop turns
(`Companion`: the Kubernetes API with the mesh, and the model pods).
"""

import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from slipway_local import logs
from slipway_local.credentials import write_private
from slipway_local.layout import Layout
from slipway_local.processes import Process, Program, State

log = logging.getLogger(__name__)

_TICK_S = 0.05
_BOUND_LOGS_EVERY_S = 10.0


class Companion(Protocol):
    """What else the loop turns. Every method is called from the main thread and must not block."""

    def tick(self, ready: Callable[[str], bool]) -> None:
        """Do what is due; `ready` says whether a program serves."""

    def report(self) -> dict[str, Any]:
        """Return what belongs into the status."""

    def restart(self, name: str) -> bool:
        """Begin to restart what has this name; return whether there is such a thing."""

    def stop(self) -> bool:
        """Begin or go on to stop; return whether all is gone."""


class Supervisor:
    """Runs programs until told to stop.

    Args:
        layout: Of the platform.
        programs: What to run.
        companions: What else the loop turns; stopped first, one after the other.
    """

    def __init__(
        self, *, layout: Layout, programs: Sequence[Program], companions: Sequence[Companion] = ()
    ) -> None:
        self._layout = layout
        self._companions = companions
        self._background = ThreadPoolExecutor(max_workers=16, thread_name_prefix="probe")
        self.processes = {
            program.name: Process(
                program, logs=layout.logs, mark=str(layout.state), background=self._background
            )
            for program in programs
        }
        self._after = {
            program.name: tuple(name for name in program.after if name in self.processes)
            for program in programs
        }
        self._before = {name: self._all_before(name) for name in self.processes}
        self._to_restart: set[str] = set()
        self._asked = self._requests()
        self._forget_requests()  # of one who asked the supervisor before us
        self._started_at = time.time()
        self._written = ""
        self._seen: dict[str, tuple[State, int]] = {}
        self._said: dict[Companion, str] = {}
        self._bound_logs_at = time.monotonic()

    def run(self, stopping: Callable[[], bool]) -> None:
        """Turn the loop until `stopping`, then stop everything."""
        self.turn_until(stopping)
        self.stop()

    def turn_until(self, stopping: Callable[[], bool]) -> None:
        """Turn the loop until `stopping`; everything runs on."""
        while not stopping():
            self._restart_what_may()
            self._start_what_may()
            self._turn()
            self._forget_requests()  # now that the status tells what came of them
            time.sleep(_TICK_S)

    def stop(self) -> None:
        """Stop all, the last started first; bounded by what each may take."""
        while not all(companion.stop() for companion in self._companions):
            self._turn(companions=False)
            time.sleep(_TICK_S)
        while not all(process.state is State.STOPPED for process in self.processes.values()):
            for name, process in self.processes.items():
                if all(self.processes[other].gone for other in self._followers(name)):
                    process.stop()
            self._turn(companions=False)
            time.sleep(_TICK_S)
        self._background.shutdown()
        self._write_status("stopped")

    def ready(self, name: str) -> bool:
        """Say whether a program serves or has done its work."""
        process = self.processes.get(name)
        return process is not None and process.settled

    def _start_what_may(self) -> None:
        for name, process in self.processes.items():
            before = self._before[name]
            if before & self._to_restart:
                continue  # what it needs is about to stop
            if process.state is State.WAITING and all(self.ready(other) for other in before):
                process.start()

    def _restart_what_may(self) -> None:
        """Begin restarts: of those that are asked for together, who comes after another stops before it."""
        self._asked = self._requests()
        for path in self._asked:
            name = path.name.rpartition(".")[0]
            if name in self.processes:
                self._to_restart.add(name)
            elif not any(companion.restart(name) for companion in self._companions):
                log.warning("a restart of %r was asked for, which is not there", name)
        for name in sorted(self._to_restart):
            followers = self._followers(name)
            stopping = any(self.processes[other].state is State.STOPPING for other in followers)
            if not stopping and not followers & self._to_restart:
                self._to_restart.remove(name)
                log.info("%s is restarted: somebody asked for it", name)
                self.processes[name].restart()

    def _requests(self) -> list[Path]:
        return sorted(self._layout.restarts.glob("*.*"))

    def _forget_requests(self) -> None:
        for path in self._asked:
            path.unlink(missing_ok=True)
        self._asked = []

    def _turn(self, companions: bool = True) -> None:
        for process in self.processes.values():
            process.tick()
            self._say(process)
        if companions:
            for companion in self._companions:
                self._tick(companion)
        if time.monotonic() - self._bound_logs_at > _BOUND_LOGS_EVERY_S:
            logs.bound(self._layout.logs)
            self._bound_logs_at = time.monotonic()
        self._write_status(self._phase() if companions else "stopping")

    def _tick(self, companion: Companion) -> None:
        """Turn a companion; its failure is said once and must not take everything down with us."""
        try:
            companion.tick(self.ready)
        except Exception as error:
            if self._said.get(companion) != repr(error):
                log.exception("%s failed; it is tried again", type(companion).__name__)
            self._said[companion] = repr(error)
        else:
            self._said.pop(companion, None)

    def _followers(self, name: str) -> set[str]:
        """Return all that come after it, also by way of a step that has long ended."""
        direct = {other for other, after in self._after.items() if name in after}
        return direct.union(*(self._followers(other) for other in direct))

    def _all_before(self, name: str) -> set[str]:
        """Return all that it comes after: once a step has ended, what that needed must be there still."""
        direct = set(self._after[name])
        return direct.union(*(self._all_before(other) for other in direct))

    def _phase(self) -> str:
        return "ready" if all(self.ready(name) for name in self.processes) else "starting"

    def _say(self, process: Process) -> None:
        now = (process.state, process.restarts)
        if self._seen.get(process.name) != now:
            self._seen[process.name] = now
            level = logging.WARNING if process.state is State.BACKOFF else logging.INFO
            log.log(level, "%s is %s %s", process.name, process.state.value, process.trouble)

    def _write_status(self, phase: str) -> None:
        status: dict[str, Any] = {
            "phase": phase,
            "pid": os.getpid(),
            "port_base": self._layout.port_base,
            "state": str(self._layout.state),
            "started_at": self._started_at,
            "addresses": self._layout.addresses(),
            "processes": [describe(process) for process in self.processes.values()],
        }
        for companion in self._companions:
            status |= companion.report()
        text = json.dumps(status, indent=1)
        if text != self._written:
            self._written = text
            write_private(self._layout.status, text)


def describe(process: Process) -> dict[str, Any]:
    """Return what the status says about a process."""
    server = process.server
    return {
        "name": process.name,
        "state": process.state.value,
        "pid": process.pid,
        "ports": list(server.ports) if server is not None else [],
        "restarts": process.restarts,
        "restarts_asked": process.restarts_asked,
        "trouble": process.trouble,
        "log": str(logs.path_of(Path("logs"), process.name)),
    }
