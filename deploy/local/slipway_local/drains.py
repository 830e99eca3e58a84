"""Delivers the events that pods have left behind: a process per spool, one at a time, again until it is done.

What is left is moved aside first, so that a new pod of the same name never meets the process that drains it.
"""

import logging
import os
import shutil
import time
from collections.abc import Collection, Sequence
from concurrent.futures import Executor
from pathlib import Path

from slipway_local import spools
from slipway_local.layout import Layout
from slipway_local.processes import Process, Program, State
from slipway_local.servers import Server

log = logging.getLogger(__name__)

NAME = "drain"
LEFT = ".left-"  # no pod's name has a dot
_LOOK_EVERY_S = 1.0
_DRAINS_WITHIN_S = 60
_AGAIN_AFTER_S = 10.0


class Drains:
    """Turned by the pods, which know who lives.

    Args:
        layout: Of the platform.
        environment: Of a model pod; the process speaks as one.
        command: What the image runs; `drain --spool DIR` follows.
        background: Prepares processes.
    """

    def __init__(
        self, *, layout: Layout, environment: dict[str, str], command: Sequence[str], background: Executor
    ) -> None:
        self._layout = layout
        self._environment = environment | {"SLIPWAY_SPOOL_DRAIN_S": str(_DRAINS_WITHIN_S)}
        self._command = tuple(command)
        self._background = background
        self._process: Process | None = None
        self._folder = Path()
        self._look_at = 0.0
        self._again_at: dict[str, float] = {}

    @property
    def busy_with(self) -> str:
        """Name of the folder that is being drained; nothing when none is."""
        return self._folder.name if self._process is not None else ""

    def tick(self, living: Collection[str]) -> None:
        """Go on with what is being drained, or begin with the next orphan."""
        if self._process is not None:
            self._go_on(self._process)
        elif time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK_EVERY_S
            self._begin(living)

    def stop(self) -> bool:
        """End what runs; return whether nothing does."""
        if self._process is None:
            return True
        self._process.stop()
        self._process.tick()
        if self._process.state is State.STOPPED:
            self._process = None
        return self._process is None

    def _go_on(self, process: Process) -> None:
        process.tick()
        if process.state is State.DONE:
            log.info("the events in %s are delivered", self._folder.name)
            shutil.rmtree(self._folder, ignore_errors=True)
            self._process = None
        elif process.state is State.BACKOFF:
            log.warning("the events in %s are not delivered yet: it %s", self._folder.name, process.trouble)
            self._again_at[self._folder.name] = time.monotonic() + _AGAIN_AFTER_S
            self._process = None

    def _begin(self, living: Collection[str]) -> None:
        now = time.monotonic()
        orphans = [one["pod"] for one in spools.listed(self._layout.spool, living) if one["orphan"]]
        self._again_at = {name: at for name, at in self._again_at.items() if name in orphans}
        due = next((name for name in orphans if self._again_at.get(name, 0.0) <= now), None)
        if due is None:
            return
        self._folder = self._set_aside(due)
        self._process = Process(
            self._program(self._folder),
            logs=self._layout.logs,
            mark=str(self._layout.state),
            background=self._background,
        )
        self._process.start()

    def _set_aside(self, name: str) -> Path:
        folder = self._layout.spool / name
        if LEFT in name:
            return folder
        aside = folder.with_name(f"{name}{LEFT}{time.time_ns()}")
        os.rename(folder, aside)
        return aside

    def _program(self, folder: Path) -> Program:
        server = Server(
            name=NAME,
            command=(*self._command, "drain", "--spool", str(folder)),
            ports=(),
            ready=lambda: True,
            stop_within_s=5.0,
            environment=self._environment,
            folder=self._layout.work,
        )
        return Program(NAME, lambda: server, once=True)
