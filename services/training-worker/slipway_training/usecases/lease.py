"""The heartbeat of one attempt: renews its lease, and hears of cancellation, fencing and shutdown."""

import logging
import threading
import time
from collections.abc import Callable

from slipway_training.domain import FencedError

log = logging.getLogger(__name__)

LOOK_S = 0.1


class InterruptedAttempt(Exception):
    """The attempt must end: `verdict` is `cancelled`, `fenced` or `stopping`."""

    def __init__(self, verdict: str) -> None:
        super().__init__(verdict)
        self.verdict = verdict


class Heartbeat:
    """Renews in a thread of its own, because uploads and slow neighbours may hold up the attempt's.

    Args:
        renew: Prolongs the lease, says whether a cancellation waits; raises FencedError.
        interval_s: Between two renewals.
        stopping: Set when the worker shuts down.
    """

    def __init__(self, *, renew: Callable[[], bool], interval_s: float, stopping: threading.Event) -> None:
        self._renew = renew
        self._interval_s = interval_s
        self._stopping = stopping
        self._interrupt: Callable[[], None] = lambda: None
        self._verdict = ""
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> "Heartbeat":
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._done.set()
        self._thread.join(timeout=self._interval_s + 5)

    def on_interrupt(self, interrupt: Callable[[], None]) -> None:
        """Call `interrupt` when the attempt must end; at once when it must already."""
        self._interrupt = interrupt
        if self._verdict:
            interrupt()

    def check(self) -> None:
        """Go on.

        Raises:
            InterruptedAttempt: the attempt must end.
        """
        if self._verdict:
            raise InterruptedAttempt(self._verdict)

    def _beat(self) -> None:
        renewed_at = time.monotonic()
        while not self._done.wait(LOOK_S) and not self._verdict:
            if self._stopping.is_set():
                self._end("stopping")
            elif time.monotonic() - renewed_at >= self._interval_s:
                self._renew_once()
                renewed_at = time.monotonic()

    def _renew_once(self) -> None:
        try:
            if self._renew():
                self._end("cancelled")
        except FencedError:
            self._end("fenced")
        except Exception as error:  # a heart that stops for any other reason would cost the attempt
            log.warning("the lease was not renewed (%s); trying again", error)

    def _end(self, verdict: str) -> None:
        self._verdict = verdict
        self._interrupt()
