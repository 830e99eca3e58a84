"""Kill campaign: effects are acknowledged into an fsynced journal while the processes are killed.

The audit then asks the service what is there. Missing is what was acknowledged and is not there; doubled is
what is there more than once. Both lists must be empty, whatever moment a process died at.
"""

import os
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import grpc

EFFECT_WITHIN_S = 180.0


class Killable(Protocol):
    """A process that can be killed and started again."""

    def kill(self) -> None:
        """End it with SIGKILL."""

    def start(self) -> object:
        """Start it and wait until it serves."""


class Journal:
    """One line per acknowledged effect, on disk before the next effect is tried."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a")

    def acknowledge(self, effect: str) -> None:
        """Write the effect down, durably."""
        self._file.write(effect + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def effects(self) -> list[str]:
        """Return all that was acknowledged."""
        return Path(self._file.name).read_text().split()


@dataclass(frozen=True)
class Audit:
    """What the campaign found."""

    acknowledged: int
    kills: int
    missing: list[str]
    doubled: list[str]

    @property
    def clean(self) -> bool:
        """Say whether nothing was lost and nothing came twice."""
        return not self.missing and not self.doubled


class Killer(threading.Thread):
    """Kills one of the processes at random moments, and starts it again."""

    def __init__(self, victims: list[Killable], seed: int, pause_s: tuple[float, float]) -> None:
        super().__init__(daemon=True)
        self._victims = victims
        self._random = random.Random(seed)
        self._pause_s = pause_s
        self._done = threading.Event()
        self._progress = threading.Event()
        self.kills = 0
        self.failure: BaseException | None = None

    def run(self) -> None:
        """Kill until told to stop; every victim is up again at the end.

        The next kill is due a random time after the client has got through again: a client in its backoff
        sees nothing of a process that comes and goes meanwhile.
        """
        try:
            while not self._done.is_set():
                if not self._progress.wait(0.1):
                    continue
                if self._done.wait(self._random.uniform(*self._pause_s)):
                    return
                victim = self._victims[self.kills % len(self._victims)]
                victim.kill()
                self.kills += 1
                victim.start()
                self._progress.clear()
        except BaseException as error:
            self.failure = error

    def see_progress(self) -> None:
        """Note that an effect was acknowledged."""
        self._progress.set()

    def stop(self) -> None:
        """End after the restart in hand."""
        self._done.set()
        self.join(300)
        if self.failure is not None:
            raise self.failure


def campaign(
    *,
    victims: list[Killable],
    effect: Callable[[str], None],
    present: Callable[[], Iterable[str]],
    journal: Journal,
    effects: int,
    kills: int,
    passing: Callable[[Exception], bool] | None = None,
    seed: int = 0,
    pause_s: tuple[float, float] = (0.0, 1.0),
) -> Audit:
    """Acknowledge at least `effects` effects under at least `kills` kills, then audit.

    Args:
        victims: Killed in turn.
        effect: Makes one effect under the given id, with the id as request_id; raises when refused.
        present: Lists the ids of the effects that the service has, each as often as it is there.
        journal: Where acknowledged ids go.
        effects: How many at least.
        kills: How many at least.
        passing: Says of an error whether a careful client tries again; default: by its gRPC code.
        seed: Of the moments.
        pause_s: Range of the time between the first effect after a restart and the next kill.
    """
    killer = Killer(victims, seed, pause_s)
    killer.start()
    done = 0
    try:
        while (done < effects or killer.kills < kills) and killer.is_alive():
            id = f"e-{uuid.uuid4().hex}"
            _until_acknowledged(effect, id, passing or _is_passing)
            journal.acknowledge(id)
            killer.see_progress()
            done += 1
    finally:
        killer.stop()  # why a victim did not come up again matters more than what its clients then saw
    counts = Counter(present())
    acknowledged = journal.effects()
    return Audit(
        acknowledged=len(acknowledged),
        kills=killer.kills,
        missing=[id for id in acknowledged if not counts[id]],
        doubled=[id for id, count in counts.items() if count > 1],
    )


def _is_passing(error: Exception) -> bool:
    codes = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
    return isinstance(error, grpc.RpcError) and error.code() in codes


def _until_acknowledged(effect: Callable[[str], None], id: str, passing: Callable[[Exception], bool]) -> None:
    """Repeat the effect under its id until it is acknowledged: what a careful client does."""
    stop_at = time.monotonic() + EFFECT_WITHIN_S
    while True:
        try:
            effect(id)
            return
        except Exception as error:
            if not passing(error) or time.monotonic() > stop_at:
                raise
            time.sleep(0.05)
