"""Starting, looking at and stopping a platform from outside: what `slipway up | down | status` do."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from slipway_local import leftovers, logs, ports, spools, stand_ins
from slipway_local.layout import DEFAULT_PORT_BASE, Layout
from slipway_local.processes import inherited

SUPERVISOR = "supervisor"
_POLL_S = 0.1
_DYING_S = 1.0
_STOPS_WITHIN_S = 60.0
Report = Callable[[dict[str, Any]], None]


class PlatformError(Exception):
    """Something stands in the way; the text says what to do. `exit_code` is the command's."""

    exit_code = 1


class UnknownProgram(PlatformError):
    """There is no program of that name."""

    exit_code = 2


class PortTaken(PlatformError):
    """A port is not free."""

    exit_code = 3


class NotRunning(PlatformError):
    """There is no platform in this folder."""

    exit_code = 4


class NotReady(PlatformError):
    """A program does not become ready."""

    exit_code = 5


class OtherPlatform(PlatformError):
    """The platform of this folder runs at another port."""

    exit_code = 6


@dataclass(frozen=True)
class Started:
    """What `up` did; `left_over` tells of data of an earlier platform of this folder, outside of it."""

    status: dict[str, Any]
    already: bool
    seconds: float
    ended: list[int]
    left_over: list[str]


def layout_of(state: Path, port_base: int | None = None) -> Layout:
    """Return the layout of a state folder: at the port asked for, else where it was last."""
    layout = Layout(state.resolve(), DEFAULT_PORT_BASE)
    last = recorded(layout).get("port_base")
    return replace(layout, port_base=port_base or last or DEFAULT_PORT_BASE)


def supervisor_runs(layout: Layout) -> bool:
    """Say whether a supervisor lives: it holds the lock."""
    if not layout.lock.exists():
        return False
    descriptor = os.open(layout.lock, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _runs_steadily(layout: Layout) -> bool:
    """Say whether a supervisor lives and is not just dying: a killed one holds its lock a moment longer."""
    if not supervisor_runs(layout):
        return False
    time.sleep(0.2)
    return supervisor_runs(layout)


def up(
    layout: Layout, *, only: Sequence[str] = (), within_s: float = 180.0, report: Report = print
) -> Started:
    """Start the platform, or find it running; return when everything is ready.

    Args:
        layout: Of the platform.
        only: Names of programs; with what they need. None: everything.
        within_s: After that NotReady.
        report: Called with the status whenever it changed.

    Raises:
        UnknownProgram: `only` names what there is not.
        PortTaken: A port is not free; nothing was started.
        NotReady: A program does not come up; the rest runs, so that one can look.
        OtherPlatform: It runs already, at another port.
        PlatformError: The database's data are gone or another platform's; nothing was started.
    """
    began = time.monotonic()
    ended: list[int] = []
    left_over: list[str] = []
    only = _with_needs(layout, only)
    already = _runs_steadily(layout)
    daemon = None
    if already:
        _same_platform(layout)
    else:
        layout.make_folders()
        left_over = _data_usable(layout, only)
        ended = leftovers.end(layout)
        _ports_free(layout, only)
        daemon = _start(layout, only)
    status = _await(layout, daemon, began + within_s, report)
    return Started(status, already, time.monotonic() - began, ended, left_over)


def down(layout: Layout) -> list[int]:
    """Stop the platform; return the ids of processes that had to be killed besides.

    Raises:
        PlatformError: Something does not end.
    """
    if supervisor_runs(layout):
        pid = int(recorded(layout).get("pid", 0))
        stop_at = time.monotonic() + _STOPS_WITHIN_S
        _signal(pid, signal.SIGTERM)
        while supervisor_runs(layout):
            if time.monotonic() > stop_at:
                _signal(pid, signal.SIGKILL)
                break
            time.sleep(_POLL_S)
        _reap(pid)
    leftovers.wait_gone(layout, within_s=3)
    try:
        killed = leftovers.end(layout)
    except TimeoutError as error:
        raise PlatformError(str(error)) from error
    if layout.status.exists():
        layout.status.write_text(json.dumps({"phase": "stopped", "port_base": layout.port_base}))
    return killed


def status(layout: Layout) -> dict[str, Any]:
    """Return how things are, with the memory of every process.

    Raises:
        NotRunning: No supervisor lives here.
    """
    if not supervisor_runs(layout):
        left = leftovers.find(layout) if layout.state.exists() else []
        hint = f"; {len(left)} of its processes are left: `slipway down` ends them" if left else ""
        raise NotRunning(f"no platform runs in {layout.state}{hint}; start it with `slipway up`")
    found = recorded(layout)
    for process in found.get("processes", []):
        process["rss_bytes"] = _memory(process["pid"])
    found["supervisor"] = {
        "pid": found.get("pid", 0),
        "rss_bytes": _memory(int(found.get("pid", 0)), children=False),
    }
    found["spools"] = spools.listed(layout.spool, {pod["name"] for pod in found.get("pods", [])})
    found["removed_spools"] = spools.removed(layout.spool)
    for pod in found.get("pods", []):
        pod["rss_bytes"] = _memory(pod["pid"])
    return found


def _start(layout: Layout, only: Sequence[str]) -> subprocess.Popen[bytes]:
    layout.status.unlink(missing_ok=True)
    log = logs.open_log(layout.logs, SUPERVISOR)
    command = [sys.executable, "-m", "slipway_local.daemon", "--state", str(layout.state)]
    command += ["--port-base", str(layout.port_base), "--only", ",".join(only)]
    try:
        return subprocess.Popen(
            command,
            env=inherited(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=layout.state.parent,
        )
    finally:
        os.close(log)


def _await(
    layout: Layout, daemon: subprocess.Popen[bytes] | None, stop_at: float, report: Report
) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    while True:
        found = recorded(layout)
        if found != seen and found:
            seen = found
            report(found)
        if found.get("phase") == "ready":
            return status(layout)
        ended = daemon.poll() is not None if daemon is not None else not supervisor_runs(layout)
        if ended:
            tail = "\n".join(logs.tail(logs.path_of(layout.logs, SUPERVISOR), 15))
            raise NotReady(f"the supervisor ended; its log says:\n{tail}")
        if time.monotonic() > stop_at:
            raise NotReady(_what_is_missing(layout, found))
        time.sleep(_POLL_S)


def _what_is_missing(layout: Layout, found: dict[str, Any]) -> str:
    lines = []
    for process in found.get("processes", []):
        if process["state"] in ("ready", "done"):
            continue
        lines.append(f"{process['name']} is {process['state']} {process['trouble']}".rstrip())
        if process["state"] != "waiting":
            lines += [f"    {line}" for line in logs.tail(logs.path_of(layout.logs, process["name"]), 8)]
    hint = "what is ready runs on; look with `slipway logs NAME`, stop with `slipway down`"
    return "\n".join(["the platform is not ready:", *lines, hint])


def _same_platform(layout: Layout) -> None:
    base = recorded(layout).get("port_base", layout.port_base)
    if base != layout.port_base:
        message = f"the platform of {layout.state} runs at port base {base}, not {layout.port_base}"
        raise OtherPlatform(f"{message}; stop it first (`slipway down`), or use another --state")


def _data_usable(layout: Layout, only: Sequence[str]) -> list[str]:
    """Refuse data that are gone; when there are none yet, tell of those that an earlier platform left."""
    from slipway_local.servers import check_data

    folder = layout.folder("pg")
    if only and "postgres" not in only:
        return []
    try:
        check_data(folder)
    except stand_ins.StateError as error:
        raise PlatformError(str(error)) from error
    if os.path.lexists(folder):
        return []
    return [stand_ins.told(left) for left in stand_ins.without_a_link(folder)]


def _with_needs(layout: Layout, only: Sequence[str]) -> list[str]:
    from slipway_local.programs import chosen_names

    try:
        return chosen_names(layout, only) if only else []
    except ValueError as error:
        raise UnknownProgram(str(error)) from error


def _ports_free(layout: Layout, only: Sequence[str]) -> None:
    """Check the ports; a process of ours that is dying has them for a moment and no marks any more."""
    stop_at = time.monotonic() + _DYING_S
    while busy := ports.taken(uses(layout, only)):
        if time.monotonic() > stop_at:
            lines = "; ".join(str(one) for one in busy[:5])
            raise PortTaken(f"{lines}: stop it, or choose another --port-base (now {layout.port_base})")
        time.sleep(_POLL_S)


def uses(layout: Layout, only: Sequence[str] = ()) -> dict[int, str]:
    """Return every fixed port of a platform, or of these programs, with its use."""
    from slipway_local.programs import port_uses

    return port_uses(layout, only)


def recorded(layout: Layout) -> dict[str, Any]:
    """Return what the supervisor said last, nothing when none has."""
    try:
        found: dict[str, Any] = json.loads(layout.status.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found


def _memory(pid: int, children: bool = True) -> int:
    """Return the resident memory of a process with its children; shared pages are shared out (PSS)."""
    if pid == 0:
        return 0
    try:
        process = psutil.Process(pid)
        family = process.children(recursive=True) if children else []
        return sum(_own_memory(one) for one in (process, *family))
    except psutil.Error:
        return 0


def _own_memory(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.AccessDenied:
        return int(process.memory_info().rss)


def _reap(pid: int) -> None:
    """Wait until a supervisor that let go of its lock is gone, and forget it when it was a child of ours."""
    if not pid:
        return
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        try:
            psutil.Process(pid).wait(timeout=5)
        except psutil.Error:
            return


def _signal(pid: int, number: signal.Signals) -> None:
    if pid:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
