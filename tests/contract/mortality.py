"""Programs that die at the n-th point: each order on standard input is obeyed by a forked process.

The answer to an order is `killed`, or `ended n` with the number of points that were passed.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from slipway_runtime.db import Database


class Clock:
    """Counts points, and ends the process at one of them; 0 never does."""

    def __init__(self) -> None:
        self._fatal = self.passed = 0

    def start(self, fatal: int) -> None:
        """Count from here on."""
        self._fatal, self.passed = fatal, 0

    def tick(self) -> None:
        """Pass a point, or die there."""
        self.passed += 1
        if self.passed == self._fatal:
            os.kill(os.getpid(), signal.SIGKILL)


class MortalDatabase(Database):
    """A database with a point before and after each transaction."""

    clock: Clock

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        self.clock.tick()
        with super().transaction() as connection:
            yield connection
        self.clock.tick()


def obey(do: Callable[[str, Clock], None]) -> None:
    """Do each line of standard input in a process of its own, until it ends."""
    for line in sys.stdin:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            clock = Clock()
            do(line, clock)
            os.write(writing, str(clock.passed).encode())
            os._exit(0)
        os.close(writing)
        _, status = os.waitpid(child, 0)
        passed = os.read(reading, 20).decode()
        os.close(reading)
        print("killed" if os.WIFSIGNALED(status) else f"ended {passed}", flush=True)
