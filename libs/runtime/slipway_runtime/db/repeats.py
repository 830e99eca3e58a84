"""What makes a repeat of a request recognisable."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.message import Message
from sqlalchemy import Connection

from slipway_runtime.db.idempotency import check_request_id, fingerprint, first_answer, once
from slipway_runtime.identity import current_caller

T = TypeVar("T")


@dataclass(frozen=True)
class Repeat:
    """A verb with its request_id and the request's bytes; the verb's use case runs its effect through it."""

    method: str
    request_id: str
    request: bytes

    @classmethod
    def of(cls, request: Message) -> "Repeat":
        """Return what makes a repeat of this message recognisable; it has a field request_id."""
        method = type(request).__name__.removesuffix("Request")
        return cls(method, request.request_id, request.SerializeToString(deterministic=True))  # type: ignore[attr-defined]

    def once(self, connection: Connection, answer: type[T], effect: Callable[[], T]) -> T:
        """Run `effect`, unless this request was answered before: then return that answer."""
        return once(
            connection,
            request_id=self.request_id,
            method=self.method,
            request=self.request,
            answer=answer,
            effect=effect,
        )

    def first(self, connection: Connection) -> str:
        """Return what this request was answered with before, or nothing."""
        if not self.request_id:
            return ""
        mark = fingerprint(self.method, self.request)
        found = first_answer(connection, request_id=self.request_id, method=self.method, mark=mark)
        return found.decode() if found is not None else ""

    def row(self) -> dict[str, str | bytes]:
        """Return what a statement writes that keeps the answer itself."""
        return {
            "caller": current_caller().subject,
            "request_id": check_request_id(self.request_id),
            "method": self.method,
            "mark": fingerprint(self.method, self.request),
        }
