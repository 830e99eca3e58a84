"""The services and the models behind the door, over grpc.aio; the caller's own JWT goes along."""

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status
from opentelemetry.instrumentation.grpc import aio_client_interceptors
from slipway_runtime.errors import DeadlineExceeded, SlipwayError, Unavailable
from slipway_runtime.rpc import from_rpc_error
from slipway_runtime.rpc.client import service_config
from slipway_runtime.rpc.server import MAX_MESSAGE_BYTES
from tritonclient.grpc import service_pb2, service_pb2_grpc

_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2000),
]


def _channel(address: str, *options: tuple[str, Any]) -> grpc.aio.Channel:
    authority, _, target = address.rpartition("@")
    chosen = [*_OPTIONS, *options]
    if authority:
        chosen.append(("grpc.default_authority", authority))
    return grpc.aio.insecure_channel(target, options=chosen, interceptors=aio_client_interceptors())


@dataclass(frozen=True)
class Backend:
    """One service: its name for people, where it is, what it offers."""

    name: str
    address: str
    service: ServiceDescriptor


class Services:
    """Calls RPCs by descriptor."""

    def __init__(self, backends: Iterable[Backend]) -> None:
        self.backends = tuple(backends)
        self._channels = {
            b.service.full_name: _channel(b.address, ("grpc.service_config", service_config([b.service])))
            for b in self.backends
        }
        self._names = {b.service.full_name: b.name for b in self.backends}

    async def unary(
        self, method: MethodDescriptor, request: Message, *, token: str, timeout_s: float
    ) -> Message:
        """Send one, get one.

        Raises:
            SlipwayError: What the service answered with, reason and details restored.
        """
        call = self._channels[method.containing_service.full_name].unary_unary(
            _path(method), type(request).SerializeToString, GetMessageClass(method.output_type).FromString
        )
        try:
            return await call(request, metadata=_bearer(token), timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise restored(error, f"the service {self._name(method)!r}") from error

    async def stream(
        self, method: MethodDescriptor, request: Message, *, token: str, timeout_s: float
    ) -> AsyncIterator[Message]:
        """Send one, get many; ends without an error when the time is over.

        Raises:
            SlipwayError: What the service answered with.
        """
        call = self._channels[method.containing_service.full_name].unary_stream(
            _path(method), type(request).SerializeToString, GetMessageClass(method.output_type).FromString
        )
        try:
            async for message in call(request, metadata=_bearer(token), timeout=timeout_s):
                yield message
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                raise restored(error, f"the service {self._name(method)!r}") from error

    def _name(self, method: MethodDescriptor) -> str:
        return self._names[method.containing_service.full_name]

    async def close(self) -> None:
        """Close every channel."""
        for channel in self._channels.values():
            await channel.close()


class Models:
    """Calls endpoints over KServe v2 gRPC; the mesh chooses the version.

    Args:
        door: `host:port` of the sidecar that routes by authority; empty: dial the endpoint's host.
        domain: What follows the endpoint's name in its host.
        port: Port of that host.
    """

    def __init__(self, *, door: str, domain: str, port: int) -> None:
        self._door = door
        self._domain = domain
        self._port = port
        self._stubs: dict[str, tuple[grpc.aio.Channel, Any]] = {}

    async def call(
        self,
        endpoint: str,
        method: str,
        request: Message,
        *,
        token: str,
        timeout_s: float,
        headers: Mapping[str, str],
    ) -> tuple[Message, dict[str, str]]:
        """Return the answer of one KServe v2 method and the metadata that came with it.

        Raises:
            SlipwayError: What the model, or the mesh before it, answered with.
        """
        metadata = (*_bearer(token), ("slipway-endpoint", endpoint), *headers.items())
        call = getattr(self._stub(endpoint), method)(request, metadata=metadata, timeout=timeout_s)
        try:
            answer = await call
            received = [*(await call.initial_metadata()), *(await call.trailing_metadata())]
        except grpc.aio.AioRpcError as error:
            raise restored(error, f"endpoint {endpoint!r}") from error
        return answer, {key: value for key, value in received if isinstance(value, str)}

    def _stub(self, endpoint: str) -> Any:
        known = self._stubs.get(endpoint)
        if known is None:
            host = f"{endpoint}.{self._domain}:{self._port}"
            channel = _channel(f"{host}@{self._door}" if self._door else host)
            known = self._stubs[endpoint] = (channel, service_pb2_grpc.GRPCInferenceServiceStub(channel))
        return known[1]

    async def forget(self, endpoint: str) -> None:
        """Close the channel of an endpoint that does not exist."""
        known = self._stubs.pop(endpoint, None)
        if known is not None:
            await known[0].close()

    async def close(self) -> None:
        """Close every channel."""
        for channel, _ in self._stubs.values():
            await channel.close()


def _path(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def _bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),) if token else ()


class Answered(SlipwayError):
    """What another service answered with, to be handed on as it is."""

    def __init__(self, status: Status, error: SlipwayError) -> None:
        super().__init__(
            error.reason,
            error.message,
            metadata=error.metadata,
            violations=error.violations,
            retry_after_s=error.retry_after_s,
        )
        self.status = status


def restored(error: grpc.aio.AioRpcError, who: str) -> SlipwayError:
    """Return the error with its reason; one of the transport, which has none, gets a text for people."""
    status = rpc_status.from_call(error)
    if status is not None and status.details:
        return Answered(status, from_rpc_error(error))
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return Unavailable("UNAVAILABLE", f"{who} cannot be reached; try again", retry_after_s=1)
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceeded("DEADLINE_EXCEEDED", f"{who} did not answer in time")
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return Unavailable("UNIMPLEMENTED", f"nothing answers for {who}; deploy a version of its model to it")
    return from_rpc_error(error)


__all__ = ["Answered", "Backend", "Models", "Services", "restored", "service_pb2"]
