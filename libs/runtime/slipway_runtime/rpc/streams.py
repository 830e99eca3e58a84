"""The end of a stream of requests, said in the stream itself.

When a caller dies in the middle, gRPC for Python now and then (measured: one kill in ten) ends the server's
iterator as if the caller had closed it, and `is_active` still says yes: half a stream would be taken for the
whole. So every message of a request stream has `bool last = 15`, our channels send it true after the others,
and a server does not believe an end without it.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from slipway_runtime.errors import InvalidArgument


def ended(messages: Iterable[Any]) -> Iterator[Any]:
    """Yield the messages of a stream, then one that says that it was the last."""
    kind = None
    for message in messages:
        kind = type(message)
        yield message
    if kind is not None:
        yield kind(last=True)


def whole(messages: Iterable[Any]) -> Iterator[Any]:
    """Yield the messages of a stream up to the one that says that it was the last.

    Raises:
        InvalidArgument: The stream ended without one (UNFINISHED_STREAM).
    """
    for message in messages:
        if message.last:
            return
        yield message
    text = "the stream ended without a message that has `last` set: part of it may be lost; send it again"
    raise InvalidArgument("UNFINISHED_STREAM", text)
