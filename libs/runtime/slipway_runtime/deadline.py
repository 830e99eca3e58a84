"""The time that the current call has left, so that whatever it calls gets no more than that.

The server keeps a little for itself, so that it can say what timed out (boulder does the same).
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

MARGIN_S = 0.05

_deadline: ContextVar[float | None] = ContextVar("slipway_deadline", default=None)


@contextmanager
def within(timeout_s: float | None) -> Iterator[None]:
    """Bound everything inside to `timeout_s` seconds from now, less a margin; None sets no bound."""
    bound = None if timeout_s is None else time.monotonic() + max(timeout_s - MARGIN_S, 0.0)
    token = _deadline.set(bound)
    try:
        yield
    finally:
        _deadline.reset(token)


def remaining_s() -> float | None:
    """Return the seconds left, at least 0, or None when there is no deadline."""
    bound = _deadline.get()
    return None if bound is None else max(bound - time.monotonic(), 0.0)
