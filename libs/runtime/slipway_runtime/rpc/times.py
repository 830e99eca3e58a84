"""Times as messages."""

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp


def timestamp(value: datetime | None) -> Timestamp | None:
    """Return a time as a message; None stays, and leaves a field unset."""
    if value is None:
        return None
    made = Timestamp()
    made.FromDatetime(value)
    return made
