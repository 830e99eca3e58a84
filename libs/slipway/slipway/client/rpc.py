"""One service over gRPC: token, deadline, request_id, safe retries, errors with a reason."""

import json
import uuid
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from slipway.client.errors import SlipwayError

_READS = ("Get", "List", "Find", "Diff", "Read", "Download")
_MAX_MESSAGE_BYTES = 32 << 20
_STREAM_TIMEOUT_S = 3600.0
_RETRY = {
    "maxAttempts": 5,
    "initialBackoff": "0.1s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2,
    # A server that begins to stop answers what arrives that moment as cancelled (docs/learned.md).
    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
}


def may_retry(method: MethodDescriptor) -> bool:
    """Say whether a call may be sent again: reads, and effects that carry a request_id."""
    named = "request_id" in method.input_type.fields_by_name
    return not method.client_streaming and (method.name.startswith(_READS) or named)


def open_channel(address: str, service: ServiceDescriptor) -> grpc.Channel:
    """Return a channel that retries UNAVAILABLE where that is safe (gRFC A6).

    An address is `host:port`, or `authority@host:port` where a sidecar listens there and routes by authority.
    """
    authority, _, target = address.rpartition("@")
    names = [{"service": service.full_name, "method": m.name} for m in service.methods if may_retry(m)]
    config = {"methodConfig": [{"name": names, "retryPolicy": _RETRY}]}
    options: list[tuple[str, Any]] = [
        ("grpc.service_config", json.dumps(config)),
        ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ]
    if authority:
        options.append(("grpc.default_authority", authority))
    return grpc.insecure_channel(target, options=options)


class Service:
    """Calls by the RPC's name: `registry.GetModel(GetModelRequest(name=…))`.

    Unary calls return the message, server streams an iterator; client streams take an iterable. Each
    takes `timeout` in seconds.

    Args:
        channel: Opened when first used.
        service: What is offered there.
        token: Gives the JWT of the moment.
        timeout_s: Deadline of unary calls that set none.
        target: What people call the other side.
        traceparent: W3C context that calls go on from; empty for none.
    """

    def __init__(
        self,
        *,
        channel: Callable[[], grpc.Channel],
        service: ServiceDescriptor,
        token: Callable[[], str],
        timeout_s: float,
        target: str,
        traceparent: str = "",
    ) -> None:
        self._channel = channel
        self._service = service
        self._token = token
        self._timeout_s = timeout_s
        self._target = target
        self._trace = (("traceparent", traceparent),) if traceparent else ()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return the method of that name."""
        method = self._service.methods_by_name.get(name)
        if method is None:
            offered = ", ".join(m.name for m in self._service.methods)
            raise AttributeError(f"{self._service.name} has no method {name!r}; it has {offered}")
        if method.client_streaming:
            return self._sender(method)
        return self._watcher(method) if method.server_streaming else self._caller(method)

    def __dir__(self) -> list[str]:
        """Return the methods, for completion."""
        return [method.name for method in self._service.methods]

    def request(self, method: str, **fields: Any) -> Message:
        """Return a request of a method by its name."""
        return GetMessageClass(self._service.methods_by_name[method].input_type)(**fields)

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self._token()}"), *self._trace)

    def _callable(self, method: MethodDescriptor, kind: str) -> Any:
        make = getattr(self._channel(), kind)
        path = f"/{self._service.full_name}/{method.name}"
        return make(
            path,
            GetMessageClass(method.input_type).SerializeToString,
            GetMessageClass(method.output_type).FromString,
        )

    def _caller(self, method: MethodDescriptor) -> Callable[..., Message]:
        def call(request: Message, timeout: float | None = None) -> Message:
            request = with_request_id(request)
            try:
                return self._callable(method, "unary_unary")(
                    request, timeout=timeout or self._timeout_s, metadata=self._metadata()
                )
            except grpc.RpcError as error:
                raise SlipwayError.from_rpc(error, self._target) from None

        return call

    def _watcher(self, method: MethodDescriptor) -> Callable[..., Iterator[Message]]:
        def call(request: Message, timeout: float = _STREAM_TIMEOUT_S) -> Iterator[Message]:
            stream = self._callable(method, "unary_stream")(
                request, timeout=timeout, metadata=self._metadata()
            )
            try:
                yield from stream
            except grpc.RpcError as error:
                raise SlipwayError.from_rpc(error, self._target) from None
            finally:
                stream.cancel()

        return call

    def _sender(self, method: MethodDescriptor) -> Callable[..., Message]:
        kind = GetMessageClass(method.input_type)

        def call(requests: Iterable[Message], timeout: float = _STREAM_TIMEOUT_S) -> Message:
            whole = chain(requests, [kind(last=True)])  # an end without it is not believed
            try:
                return self._callable(method, "stream_unary")(
                    whole, timeout=timeout, metadata=self._metadata()
                )
            except grpc.RpcError as error:
                raise SlipwayError.from_rpc(error, self._target) from None

        return call


def with_request_id(request: Message) -> Message:
    """Return the request with an id, so that it may be sent again; one that is there stays."""
    if "request_id" not in request.DESCRIPTOR.fields_by_name or request.request_id:  # type: ignore[attr-defined]
        return request
    named = type(request)()
    named.CopyFrom(request)
    named.request_id = str(uuid.uuid4())  # type: ignore[attr-defined]
    return named
