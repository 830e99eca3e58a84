"""What is around every request: size, trace id, who sent it, errors."""

import logging
import time

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from opentelemetry import trace
from prometheus_client import Histogram
from slipway_runtime import telemetry
from slipway_runtime.errors import (
    Internal,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    SlipwayError,
    Violation,
)
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slipway_gateway.api.problems import problem
from slipway_gateway.usecases import Identities, Session

log = logging.getLogger(__name__)
SECONDS = Histogram(
    "slipway_gateway_request_seconds", "Time to the end of the answer, in seconds.", ["operation", "code"]
)


class Door:
    """Bounds the body, tells the trace id and counts; pure ASGI, so that streams stay streams.

    Args:
        app: What answers.
        max_body_bytes: Bytes of a body; a larger one is refused with 413.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin, seen = time.perf_counter(), {"code": 500}

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen["code"] = message["status"]
                trace_id = telemetry.trace_id()
                if trace_id:
                    message["headers"] = [*message["headers"], (b"slipway-trace-id", trace_id.encode())]
            await send(message)

        try:
            await self._bounded(scope, receive, sending)
        finally:
            operation = scope.get("state", {}).get("operation", "other")
            SECONDS.labels(operation, seen["code"]).observe(time.perf_counter() - begin)

    async def _bounded(self, scope: Scope, receive: Receive, send: Send) -> None:
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if int(declared or 0) > self._max_body_bytes:
            await self._refusal(int(declared))(scope, receive, send)
            return
        taken = 0

        async def receiving() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._max_body_bytes:
                raise TooLarge(self._max_body_bytes)
            return message

        await self._app(scope, receiving, send)

    def _refusal(self, size: int) -> Response:
        return problem(_too_large(self._max_body_bytes, f"{size} bytes"), status_code=413)


class TooLarge(Exception):
    """The body went past the limit while it came."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit


def _too_large(limit: int, size: str) -> ResourceExhausted:
    message = f"the body has {size}; at most {limit} are taken: `slipway dataset import` uploads data"
    return ResourceExhausted("BODY_TOO_LARGE", message, metadata={"limit_bytes": str(limit)})


def name_operation(request: Request, operation: str) -> None:
    """Give the request its name in metrics and in the trace."""
    request.state.operation = operation
    trace.get_current_span().update_name(f"REST {operation}")


async def session_of(request: Request) -> Session:
    """Return who sent the request.

    Raises:
        Unauthenticated: There is no good token.
    """
    identities: Identities = request.app.state.identities
    return await run_in_threadpool(identities.session, request.headers.get("authorization", ""))


def install_errors(app: FastAPI) -> None:
    """Answer every error in one form."""

    @app.exception_handler(SlipwayError)
    async def slipway_error(request: Request, error: SlipwayError) -> Response:
        return problem(error)

    @app.exception_handler(TooLarge)
    async def too_large(request: Request, error: TooLarge) -> Response:
        return problem(_too_large(error.limit, "more bytes than allowed"), status_code=413)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        violations = [Violation(".".join(map(str, e["loc"][1:])) or "body", e["msg"]) for e in error.errors()]
        text = "; ".join(f"{v.field}: {v.description}" for v in violations)
        return problem(InvalidArgument("INVALID_FIELD", text, violations=violations))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        if error.status_code == 405:
            allowed = (error.headers or {}).get("Allow", "")
            return method_refused(request.method, request.url.path, allowed)
        return problem(unknown_path(request.method, request.url.path, []), status_code=error.status_code)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        trace_id = telemetry.trace_id()
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        message = f"something unexpected went wrong; the log has it under trace {trace_id or 'none'}"
        return problem(Internal("INTERNAL", message, metadata={"trace_id": trace_id}))


def unknown_path(method: str, path: str, near: list[str]) -> NotFound:
    """Return the error for a path that nothing answers."""
    hint = f"did you mean {' or '.join(near)}?" if near else "GET /docs lists what there is"
    return NotFound(
        "PATH_NOT_FOUND", f"nothing answers {method} {path}; {hint}", metadata={"near": ", ".join(near)}
    )


def method_refused(method: str, path: str, allowed: str) -> Response:
    """Return the answer for a path that takes other methods."""
    error = InvalidArgument("METHOD_NOT_ALLOWED", f"{path} does not take {method}; it takes {allowed}")
    return problem(error, status_code=405, headers={"Allow": allowed})
