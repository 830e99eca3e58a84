"""Between proto and domain."""

from datetime import UTC, datetime
from typing import Any

from google.protobuf import duration_pb2, timestamp_pb2
from slipway_runtime.errors import InvalidArgument


def duration_of(microseconds: int) -> duration_pb2.Duration:
    """Return a length of time."""
    length = duration_pb2.Duration()
    length.FromMicroseconds(microseconds)
    return length


def microseconds_of(stamp: timestamp_pb2.Timestamp) -> int:
    """Return a time in microseconds since 1970."""
    return int(stamp.seconds) * 1_000_000 + int(stamp.nanos) // 1000


def from_microseconds(value: int) -> timestamp_pb2.Timestamp:
    """Return a time, given in microseconds since 1970."""
    return timestamp_pb2.Timestamp(seconds=value // 1_000_000, nanos=value % 1_000_000 * 1000)


def from_time(message: Any, field_name: str) -> datetime | None:
    """Return the time in a field, or None when it is not set.

    Raises:
        InvalidArgument: It is out of range.
    """
    if not message.HasField(field_name):
        return None
    try:
        return datetime.fromtimestamp(microseconds_of(getattr(message, field_name)) / 1e6, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidArgument.field(field_name, "is out of range; give a time of this century") from error
