"""Finds processes of a platform, also those whose supervisor is gone.

Two marks: the variable SLIPWAY_PLATFORM in the environment, and a working folder below the state folder
(PostgreSQL overwrites its environment with its title, and attempts of training jobs have a cleared one).
"""

import os
import time

import psutil

from slipway_local.layout import Layout
from slipway_local.processes import MARK


def find(layout: Layout) -> list[psutil.Process]:
    """Return every living process of the platform but its supervisor and ourselves."""
    folders = _folders(layout)
    ours = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return [p for p in psutil.process_iter() if p.pid not in ours and _belongs(p, str(layout.state), folders)]


def end(layout: Layout, within_s: float = 10.0) -> list[int]:
    """Kill what `find` finds until nothing is left; return the ids of what was killed.

    Raises:
        TimeoutError: Something does not die (it waits for the kernel); the text names it.
    """
    killed: list[int] = []
    stop_at = time.monotonic() + within_s
    while found := find(layout):
        if time.monotonic() > stop_at:
            names = ", ".join(f"{process.name()} ({process.pid})" for process in found)
            raise TimeoutError(f"these processes do not end: {names}")
        for process in found:
            try:
                process.kill()
                killed.append(process.pid)
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(found, timeout=1)
    return sorted(set(killed))


def wait_gone(layout: Layout, within_s: float) -> bool:
    """Wait until no process is left by itself; return whether that came."""
    stop_at = time.monotonic() + within_s
    while find(layout):
        if time.monotonic() > stop_at:
            return False
        time.sleep(0.1)
    return True


def _belongs(process: psutil.Process, mark: str, folders: list[str]) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        if process.environ().get(MARK) == mark:
            return True
        folder = process.cwd()
    except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
        return False
    return any(folder == known or folder.startswith(f"{known}/") for known in folders)


def _folders(layout: Layout) -> list[str]:
    """State folders that only platform processes work in; a shell may well stand in `.slipway` itself."""
    names = ("pg", "valkey-queues", "valkey-online", "s3", "envoy", "work", "pods", "spool")
    return [os.path.realpath(layout.folder(name)) for name in names if layout.folder(name).exists()]
