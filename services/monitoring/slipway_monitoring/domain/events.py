"""Prediction events as spools deliver them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from slipway_runtime.errors import FailedPrecondition, InvalidArgument

from slipway_monitoring.domain.names import (
    check_endpoint,
    check_prediction_id,
    check_spool,
    check_text,
    check_version,
)

MAX_ROWS = 20_000  # of one batch
_LATEST_US = 4_102_444_800_000_000  # the year 2100
_MOST = 2**62


class Role(IntEnum):
    """Who saw an answer; the numbers are those of the proto."""

    LIVE = 1
    SHADOW = 2
    TESTER = 3


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor's values without the batch's axis: KServe data type, little-endian bytes in C order."""

    datatype: str
    shape: tuple[int, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class Row:
    """One row of an answered request; `inputs` is empty unless the capture policy kept them."""

    outputs: Mapping[str, Tensor]
    inputs: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Event:
    """One answered request with its place in the spool; `time_us` counts from 1970, UTC."""

    sequence: int
    prediction_id: str
    endpoint: str
    model_version: str
    role: int
    time_us: int
    trace_id: str
    request_id: str
    latency_ms: float
    rows: Sequence[Row]


@dataclass(frozen=True)
class Batch:
    """Events of one spool in the order of their sequence."""

    spool: str
    first_sequence: int
    events: Sequence[Event]
    produced_sequence: int
    endpoint: str
    model_version: str
    closed: bool


@dataclass(frozen=True)
class Spool:
    """What is known of a spool. Sequences begin at 1, and every event that was made has one."""

    id: str
    acknowledged: int = 0
    received: int = 0
    produced: int = 0

    def take(self, batch: Batch) -> tuple["Spool", Sequence[Event]]:
        """Return the spool after a batch, and the events that are new.

        What lies between two events is acknowledged with the later one: it was dropped, and is lost. A spool
        that is closed is acknowledged whole.

        Raises:
            FailedPrecondition: The batch begins after what is expected (SEQUENCE_GAP).
        """
        expected = self.acknowledged + 1
        if batch.first_sequence > expected:
            message = (
                f"the batch begins at {batch.first_sequence}, but spool {self.id!r} is expected to go on at "
                f"{expected}; send again from there, with what is dropped left out"
            )
            raise FailedPrecondition("SEQUENCE_GAP", message, metadata={"expected_sequence": str(expected)})
        new = [event for event in batch.events if event.sequence > self.acknowledged]
        produced = max(self.produced, batch.produced_sequence)
        last = new[-1].sequence if new else self.acknowledged
        return Spool(
            id=self.id,
            acknowledged=produced if batch.closed else last,
            received=self.received + len(new),
            produced=produced,
        ), new


@dataclass(frozen=True)
class SpoolCoverage:
    """What one spool delivered, in events; `closed` also when it was given up."""

    spool: str
    model_version: str
    received_count: int
    lost_count: int
    waiting_count: int
    report_time_us: int
    closed: bool


def check_batch(batch: Batch) -> Batch:
    """Return the batch, checked.

    Raises:
        InvalidArgument: A field is not allowed; the violation names it.
    """
    check_spool("spool", batch.spool)
    check_endpoint("endpoint", batch.endpoint)
    check_version("model_version", batch.model_version)
    if not 1 <= batch.first_sequence < _MOST:
        raise InvalidArgument.field("first_sequence", f"is {batch.first_sequence}; sequences begin at 1")
    previous = batch.first_sequence - 1
    seen: set[str] = set()
    for number, event in enumerate(batch.events):
        if event.sequence <= previous:
            description = f"is {event.sequence} after {previous}; send events in the order of their sequence"
            raise InvalidArgument.field(f"events[{number}].sequence", description)
        previous = event.sequence
        _check_event(event, f"events[{number}].event")
        if event.prediction_id in seen:
            description = f"is {event.prediction_id!r} a second time; an answered request is one event"
            raise InvalidArgument.field(f"events[{number}].event.prediction_id", description)
        seen.add(event.prediction_id)
    if not (previous if batch.events else 0) <= batch.produced_sequence < _MOST:
        description = (
            f"is {batch.produced_sequence}, below the last event's {previous}; give the highest made"
        )
        raise InvalidArgument.field("produced_sequence", description)
    if (rows := sum(len(event.rows) for event in batch.events)) > MAX_ROWS:
        raise InvalidArgument.field("events", f"have {rows} rows; send at most {MAX_ROWS} at a time")
    return batch


def _check_event(event: Event, at: str) -> None:
    check_prediction_id(f"{at}.prediction_id", event.prediction_id)
    check_endpoint(f"{at}.endpoint", event.endpoint)
    check_version(f"{at}.model_version", event.model_version)
    if event.role not in _ROLES:
        raise InvalidArgument.field(f"{at}.role", f"is {event.role}; say LIVE, SHADOW or TESTER")
    if not 0 < event.time_us < _LATEST_US:
        raise InvalidArgument.field(f"{at}.time", "is missing or out of range; give when it was answered")
    if event.trace_id and not _is_trace(event.trace_id):
        raise InvalidArgument.field(
            f"{at}.trace_id", f"is {event.trace_id[:50]!r}; give 32 hexadecimal characters or none"
        )
    check_text(f"{at}.request_id", event.request_id, longest=200)
    if not 0 <= event.latency_ms < 1e9:
        raise InvalidArgument.field(f"{at}.latency_ms", f"is {event.latency_ms}; give milliseconds")
    if not event.rows:
        raise InvalidArgument.field(f"{at}.rows", "is empty; an answered request has rows")


def _is_trace(text: str) -> bool:
    return len(text) == 32 and not set(text) - _HEX


_ROLES = frozenset(int(role) for role in Role)
_HEX = frozenset("0123456789abcdef")
