"""Channels to other services: own token, caller's deadline, one retry layer, trace context.

An address is `host:port`, or `authority@host:port` where a sidecar listens on `host:port` and routes by
authority (on the laptop each service dials its own outbound listener so).
"""

import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from opentelemetry.instrumentation.grpc import client_interceptor
from opentelemetry.instrumentation.grpc.grpcext import intercept_channel as traced

from slipway_runtime import deadline, identity
from slipway_runtime.rpc.server import MAX_MESSAGE_BYTES
from slipway_runtime.rpc.streams import ended

DEFAULT_TIMEOUT_S = 10.0
_READS = ("Get", "List", "Find", "Diff", "Read", "Download")
_RETRY = {
    "maxAttempts": 5,
    "initialBackoff": "0.1s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2,
    # A server that begins to stop answers what arrives that moment as cancelled (docs/learned.md).
    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
}


class _Details(NamedTuple):
    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class _Details_(_Details, grpc.ClientCallDetails):  # type: ignore[misc]
    """Call details that can be built."""


class Outgoing(
    grpc.UnaryUnaryClientInterceptor,  # type: ignore[misc]
    grpc.UnaryStreamClientInterceptor,  # type: ignore[misc]
    grpc.StreamUnaryClientInterceptor,  # type: ignore[misc]
    grpc.StreamStreamClientInterceptor,  # type: ignore[misc]
):
    """Adds token, user and deadline to every call, and its end to every stream of requests."""

    def __init__(self, token: Callable[[], str], timeout_s: float) -> None:
        self._token = token
        self._timeout_s = timeout_s

    def _with(self, details: Any) -> _Details_:
        metadata = list(details.metadata or ())
        present = {key for key, _ in metadata}
        token = self._token()
        if token and "authorization" not in present:
            metadata.append(("authorization", f"Bearer {token}"))
            user = identity.current_caller().subject
            if user.startswith("users/") and identity.ON_BEHALF_OF not in present:
                metadata.append((identity.ON_BEHALF_OF, user))
        bounds = [b for b in (details.timeout or self._timeout_s, deadline.remaining_s()) if b is not None]
        return _Details_(
            details.method,
            min(bounds),
            metadata,
            details.credentials,
            getattr(details, "wait_for_ready", None),
            getattr(details, "compression", None),
        )

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        """Send one, get one."""
        return continuation(self._with(details), request)

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        """Send one, get many."""
        return continuation(self._with(details), request)

    def intercept_stream_unary(self, continuation: Any, details: Any, requests: Any) -> Any:
        """Send many and say that it was all, get one."""
        return continuation(self._with(details), ended(requests))

    def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
        """Send many, get many."""
        return continuation(self._with(details), requests)


def retryable_methods(service: ServiceDescriptor) -> list[str]:
    """Return the methods that may be sent again: reads, and effects that carry a request_id."""
    return [
        method.name
        for method in service.methods
        if not method.client_streaming
        and (method.name.startswith(_READS) or "request_id" in method.input_type.fields_by_name)
    ]


def service_config(services: Iterable[ServiceDescriptor]) -> str:
    """Return the gRPC service config that retries UNAVAILABLE where that is safe (gRFC A6)."""
    names = [{"service": s.full_name, "method": m} for s in services for m in retryable_methods(s)]
    return json.dumps({"methodConfig": [{"name": names, "retryPolicy": _RETRY}] if names else []})


def channel(
    address: str,
    *,
    services: Iterable[ServiceDescriptor] = (),
    token: Callable[[], str] = str,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> grpc.Channel:
    """Return a channel to a service.

    Args:
        address: `host:port` or `authority@host:port`.
        services: Descriptors of what is called there; they say which methods may be retried.
        token: Gives the token of the moment.
        timeout_s: Deadline of calls that set none; the caller's own remaining time bounds it further.
    """
    authority, _, target = address.rpartition("@")
    options: list[tuple[str, Any]] = [
        ("grpc.service_config", service_config(services)),
        ("grpc.enable_retries", 1),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 2000),
    ]
    if authority:
        options.append(("grpc.default_authority", authority))
    plain = grpc.insecure_channel(target, options=options)
    return traced(grpc.intercept_channel(plain, Outgoing(token, timeout_s)), client_interceptor())


class Channels:
    """The channels of one process, closed together."""

    def __init__(self, token: Callable[[], str]) -> None:
        self._token = token
        self._open: list[grpc.Channel] = []

    def to(
        self, address: str, *services: ServiceDescriptor, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> grpc.Channel:
        """Open a channel to the services at an address."""
        opened = channel(address, services=services, token=self._token, timeout_s=timeout_s)
        self._open.append(opened)
        return opened

    def close(self) -> None:
        """Close all of them."""
        for opened in self._open:
            opened.close()
