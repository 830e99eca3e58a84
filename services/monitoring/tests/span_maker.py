"""Spans for tests, told by letters: `span("b", "a")` is b, called by a."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from slipway_monitoring.domain.spans import Span

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def trace_id(number: int = 1) -> str:
    """Return the id of the n-th trace."""
    return f"{number:032x}"


def span_id(letter: str) -> str:
    """Return the id of a span that a letter names; nothing for no letter."""
    return letter and f"{ord(letter):016x}"


def span(letter: str, parent: str = "", *, at_ms: float = 0.0, trace: int = 1, **fields: Any) -> Span:
    """Return a server's span that starts so many ms after noon and takes 10."""
    made = Span(
        trace_id=trace_id(trace),
        span_id=span_id(letter),
        parent_span_id=span_id(parent),
        service=f"service-{letter}",
        operation=f"work of {letter}",
        kind="server",
        start_time=NOON + timedelta(milliseconds=at_ms),
        duration_us=10_000,
        error=False,
        status_message="",
    )
    return replace(made, **fields)
