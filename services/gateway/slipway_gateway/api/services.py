"""The services' RPCs as REST, one handler for all of them."""

import json
import uuid
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from google.protobuf.message import Message
from slipway_runtime.errors import SlipwayError, near
from starlette.responses import JSONResponse, Response, StreamingResponse

from slipway_gateway.api.door import method_refused, name_operation, session_of, unknown_path
from slipway_gateway.api.problems import problem, problem_document
from slipway_gateway.api.transcoding import Binding, to_json
from slipway_gateway.clients import Services
from slipway_gateway.usecases import Session

VERBS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


class Transcoder:
    """Finds the RPC of a path and calls it as the sender.

    Args:
        services: Clients by descriptor.
        bindings: REST forms, the more literal path first.
        timeout_s: Seconds for one call.
        watch_timeout_s: Seconds for a stream.
    """

    def __init__(
        self, *, services: Services, bindings: list[Binding], timeout_s: float, watch_timeout_s: float
    ) -> None:
        self._services = services
        self._bindings = bindings
        self._timeout_s = timeout_s
        self._watch_timeout_s = watch_timeout_s

    def router(self) -> APIRouter:
        """Return the route that takes every path below /v1 which no other route takes."""
        router = APIRouter()
        router.add_api_route("/v1/{path:path}", self.answer, methods=VERBS, include_in_schema=False)
        return router

    async def answer(self, request: Request) -> Response:
        """Answer one request."""
        raw = request.scope.get("raw_path") or request.url.path.encode()
        path = raw.decode("ascii", "replace").partition("?")[0]
        fitting = [(b, m) for b in self._bindings if (m := b.template.match(path)) is not None]
        chosen = next(((b, m) for b, m in fitting if b.verb == request.method), None)
        if chosen is None:
            return self._unknown(request.method, path, [b.verb for b, _ in fitting])
        binding, variables = chosen
        name_operation(request, str(binding.method.name))
        session = await session_of(request)
        message = binding.request(variables, request.query_params.multi_items(), await request.body())
        _identify(message, request.headers.get("idempotency-key", ""))
        if binding.streams:
            return await self._stream(binding, message, session)
        answer = await self._services.unary(
            binding.method, message, token=session.access_token, timeout_s=self._timeout_s
        )
        return JSONResponse(to_json(answer))

    def _unknown(self, verb: str, path: str, allowed: list[str]) -> Response:
        if allowed:
            return method_refused(verb, path, ", ".join(sorted(set(allowed))))
        forms = {f"{b.verb} {b.template.openapi()[0]}" for b in self._bindings}
        return problem(unknown_path(verb, path, near(f"{verb} {path}", sorted(forms))))

    async def _stream(self, binding: Binding, message: Message, session: Session) -> Response:
        """Answer line by line; an error before the first line is an error, a later one is a line."""
        stream = self._services.stream(
            binding.method, message, token=session.access_token, timeout_s=self._watch_timeout_s
        )
        first = await anext(stream, None)

        async def lines() -> AsyncIterator[str]:
            try:
                if first is not None:
                    yield json.dumps({"result": to_json(first)}) + "\n"
                async for item in stream:
                    yield json.dumps({"result": to_json(item)}) + "\n"
            except SlipwayError as error:
                yield json.dumps(problem_document(error)) + "\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")


def _identify(message: Message, key: str) -> None:
    """Give a write its request_id, so that a lost answer may be asked for again."""
    if "request_id" in message.DESCRIPTOR.fields_by_name and not message.request_id:  # type: ignore[attr-defined]
        message.request_id = key or str(uuid.uuid4())  # type: ignore[attr-defined]
