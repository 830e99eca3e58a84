"""Around every call: check the token, turn errors into statuses. The aio sibling of the runtime's server."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from grpc_status import rpc_status
from slipway_runtime import identity, telemetry
from slipway_runtime.errors import Internal, SlipwayError
from slipway_runtime.rpc import to_status

log = logging.getLogger(__name__)

DOMAIN = "inference.slipway"
_OPEN = ("/grpc.health.v1.Health/", "/grpc.reflection.")


class Chassis(grpc.aio.ServerInterceptor):
    """Wraps unary methods; health and reflection need no token."""

    def __init__(self, verifier: identity.Verifier, allowed: frozenset[str] = identity.DEFAULT_ROLES) -> None:
        self._verifier = verifier
        self._allowed = allowed

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Wrap the handler of one call."""
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None or details.method.startswith(_OPEN):
            return handler
        return grpc.unary_unary_rpc_method_handler(
            self._wrapped(handler.unary_unary, details.method),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _wrapped(
        self, behavior: Callable[[Any, Any], Awaitable[Any]], method: str
    ) -> Callable[[Any, Any], Awaitable[Any]]:
        async def call(request: Any, context: Any) -> Any:
            try:
                metadata = {k: v for k, v in context.invocation_metadata() if isinstance(v, str)}
                identity.require_role(self._verifier.caller(metadata), self._allowed)
                return await behavior(request, context)
            except SlipwayError as error:
                failure = error
            except Exception:
                log.exception("%s failed", method)
                trace_id = telemetry.trace_id()
                text = f"something unexpected went wrong; the log has it under trace {trace_id or 'none'}"
                failure = Internal("INTERNAL", text, metadata={"trace_id": trace_id})
            return await context.abort_with_status(rpc_status.to_status(to_status(failure, DOMAIN)))

        return call
