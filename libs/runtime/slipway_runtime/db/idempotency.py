"""A request_id makes a repeat return the first answer (AIP-155).

The row is written in the transaction of the effect, so either both are there or neither is. Two equal
requests at once: the second waits on the row's unique index, then reads the first one's answer.
"""

import functools
import hashlib
import random
from collections.abc import Callable
from typing import Any, TypeVar

from google.protobuf.message import Message
from pydantic import TypeAdapter
from sqlalchemy import (
    Column,
    Connection,
    DateTime,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    func,
    text,
)

from slipway_runtime.errors import InvalidArgument
from slipway_runtime.identity import current_caller

KEPT_DAYS = 7
_MAX_ID_LENGTH = 128

T = TypeVar("T")


def idempotency_table(metadata: MetaData) -> Table:
    """Return the table that `once` uses; every service makes it in its first migration."""
    return Table(
        "idempotency",
        metadata,
        Column("caller", Text, nullable=False),
        Column("request_id", Text, nullable=False),
        Column("method", Text, nullable=False),
        Column("fingerprint", LargeBinary, nullable=False),
        Column("answer", LargeBinary),
        Column("create_time", DateTime(timezone=True), nullable=False, server_default=func.now(), index=True),
        PrimaryKeyConstraint("caller", "request_id"),
    )


def fingerprint(method: str, request: Message | bytes) -> bytes:
    """Return what tells two requests apart: the method and the content, request_id included."""
    content = request if isinstance(request, bytes) else request.SerializeToString(deterministic=True)
    return hashlib.sha256(method.encode() + b"\0" + content).digest()


def once(
    connection: Connection,
    *,
    request_id: str,
    method: str,
    request: Message | bytes,
    answer: type[T],
    effect: Callable[[], T],
) -> T:
    """Run `effect` unless this request was answered before; then return that answer.

    Args:
        connection: The transaction of the effect.
        request_id: As sent; empty means that the caller wants no such protection.
        method: Name of the verb.
        request: The request, or bytes that stand for its content.
        answer: Dataclass of the answer (kept as JSON).
        effect: What to do, on the same connection.

    Raises:
        InvalidArgument: The id was used with other content (REQUEST_ID_REUSED), or is too long.
    """
    if not request_id:
        return effect()
    check_request_id(request_id)
    adapter: TypeAdapter[T] = _adapter(answer)  # type: ignore[arg-type]
    mark = fingerprint(method, request)
    key = {"caller": current_caller().subject, "request_id": request_id}
    if not _claim(connection, key, method, mark):
        first = first_answer(connection, request_id=request_id, method=method, mark=mark)
        assert first is not None
        return adapter.validate_json(first)
    result = effect()
    connection.execute(
        text("UPDATE idempotency SET answer = :answer WHERE caller = :caller AND request_id = :request_id"),
        {**key, "answer": adapter.dump_json(result)},
    )
    return result


def check_request_id(request_id: str) -> str:
    """Return the id, checked for length."""
    if len(request_id) > _MAX_ID_LENGTH:
        raise InvalidArgument.field(
            "request_id", f"has {len(request_id)} characters; at most {_MAX_ID_LENGTH}"
        )
    return request_id


def first_answer(connection: Connection, *, request_id: str, method: str, mark: bytes) -> bytes | None:
    """Return what a request was answered with before, or None.

    For an effect that writes the row itself, in the statement that does the rest; others use `once`.

    Raises:
        InvalidArgument: The id was used with other content (REQUEST_ID_REUSED).
    """
    row = connection.execute(
        text(
            "SELECT method, fingerprint, answer FROM idempotency "
            "WHERE caller = :caller AND request_id = :request_id"
        ),
        {"caller": current_caller().subject, "request_id": request_id},
    ).one_or_none()
    if row is None:
        return None
    if bytes(row.fingerprint) != mark:
        message = (
            f"request_id {request_id!r} was used for another {row.method}; send a new id with new content"
        )
        raise InvalidArgument("REQUEST_ID_REUSED", message, metadata={"method": method})
    return bytes(row.answer)


def forget_old(connection: Connection) -> None:
    """Drop what was kept for repeats longer than anybody repeats."""
    connection.execute(
        text("DELETE FROM idempotency WHERE create_time < now() - make_interval(days => :days)"),
        {"days": KEPT_DAYS},
    )


@functools.cache
def _adapter(answer: Any) -> Any:
    return TypeAdapter(answer)  # takes a millisecond to build


def _claim(connection: Connection, key: dict[str, str], method: str, mark: bytes) -> bool:
    if random.random() < 0.002:
        forget_old(connection)
    inserted = connection.execute(
        text(
            "INSERT INTO idempotency (caller, request_id, method, fingerprint) "
            "VALUES (:caller, :request_id, :method, :mark) ON CONFLICT DO NOTHING"
        ),
        {**key, "method": method, "mark": mark},
    )
    return inserted.rowcount == 1
