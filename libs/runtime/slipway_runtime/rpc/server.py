"""A gRPC server with the chassis bolted on: trace, identity, deadline, errors, health, reflection."""

import logging
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status
from opentelemetry.instrumentation.grpc import server_interceptor

from slipway_runtime import deadline, identity, telemetry
from slipway_runtime.errors import Internal, InvalidArgument, ResourceExhausted, SlipwayError, Unstorable
from slipway_runtime.rpc.status import to_status
from slipway_runtime.rpc.streams import whole

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 32 << 20
_OPEN = ("/grpc.health.v1.Health/", "/grpc.reflection.")
_OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", 32 << 10),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5000),
)


class StreamPlaces:
    """How many streams may hold a thread at a time, so that short calls and health always find one.

    Args:
        most: Streams, of either direction.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._free = threading.BoundedSemaphore(most)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Hold a place inside.

        Raises:
            ResourceExhausted: All places are taken (TOO_MANY_STREAMS).
        """
        if not self._free.acquire(blocking=False):
            message = f"{self._most} streams are open here, which is all; end one, or try again"
            raise ResourceExhausted("TOO_MANY_STREAMS", message, retry_after_s=1.0)
        try:
            yield
        finally:
            self._free.release()


class Chassis(grpc.ServerInterceptor):  # type: ignore[misc]
    """Around every method: check the token, bound the time and the streams, turn errors into statuses."""

    def __init__(
        self, domain: str, verifier: identity.Verifier, allowed: frozenset[str], places: StreamPlaces
    ) -> None:
        self._places = places
        self._domain = domain
        self._verifier = verifier
        self._allowed = allowed

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Wrap the handler of one call."""
        handler = continuation(details)
        if handler is None or details.method.startswith(_OPEN):
            return handler
        if handler.response_streaming:
            behavior = handler.stream_stream if handler.request_streaming else handler.unary_stream
            wrapped = self._streaming(behavior, details.method)
        else:
            behavior = _taking_all(handler.stream_unary) if handler.request_streaming else handler.unary_unary
            place = self._places.taken if handler.request_streaming else nullcontext
            wrapped = self._single(behavior, details.method, place)
        return _handler_like(handler, wrapped)

    def _enter(self, stack: ExitStack, context: grpc.ServicerContext) -> None:
        metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        caller = self._verifier.caller(metadata)
        identity.require_role(caller, self._allowed)
        stack.enter_context(identity.acting_as(caller))
        stack.enter_context(deadline.within(context.time_remaining()))

    def _single(
        self, behavior: Any, method: str, place: Callable[[], AbstractContextManager[None]]
    ) -> Callable[[Any, grpc.ServicerContext], Any]:
        def call(request: Any, context: grpc.ServicerContext) -> Any:
            try:
                with ExitStack() as stack:
                    self._enter(stack, context)
                    stack.enter_context(place())
                    return behavior(request, context)
            except Unstorable as error:
                failure: Exception = named(error, request)
            except Exception as error:
                failure = error
            return self._abort(context, failure, method)

        return call

    def _streaming(self, behavior: Any, method: str) -> Callable[[Any, grpc.ServicerContext], Iterator[Any]]:
        def call(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            try:
                with ExitStack() as stack:
                    self._enter(stack, context)
                    stack.enter_context(self._places.taken())
                    yield from behavior(request, context)
                return
            except Unstorable as error:
                failure: Exception = named(error, request)
            except Exception as error:
                failure = error
            self._abort(context, failure, method)

        return call

    def _abort(self, context: grpc.ServicerContext, error: Exception, method: str) -> None:
        if not isinstance(error, SlipwayError):
            if context.code() is not None:  # the method aborted by itself
                raise error
            log.error("%s failed", method, exc_info=error)
            trace_id = telemetry.trace_id()
            error = Internal(
                "INTERNAL",
                f"something unexpected went wrong; the log has it under trace {trace_id or 'none'}",
                metadata={"trace_id": trace_id},
            )
        context.abort_with_status(rpc_status.to_status(to_status(error, self._domain)))


class QuickLane(grpc.ServerInterceptor):  # type: ignore[misc]
    """Around all else: runs short calls on a few threads of their own; more of them wait without a thread.

    Sixty threads that each have a millisecond's work take turns at one interpreter so often that the turns
    cost more than the work. gRPC asks a behavior for the pool to run it on.

    Args:
        methods: Full names of unary methods, `/package.Service/Method`.
        threads: Calls of these at a time.
    """

    def __init__(self, methods: Iterable[str], threads: int) -> None:
        self._methods = frozenset(methods)
        self._pool = futures.ThreadPoolExecutor(max_workers=threads, thread_name_prefix="quick")

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Name the pool on the handler of a short call."""
        handler = continuation(details)
        if handler is None or details.method not in self._methods:
            return handler
        behavior = handler.unary_unary

        def call(request: Any, context: grpc.ServicerContext) -> Any:
            return behavior(request, context)

        call.experimental_thread_pool = self._pool  # type: ignore[attr-defined]
        return _handler_like(handler, call)


def named(error: Unstorable, request: Any) -> InvalidArgument:
    """Return the refusal with the first field that holds a NUL; as it is when none does, or for a stream."""
    field = _field_with_nul(request) if isinstance(request, Message) else ""
    return InvalidArgument.field(field, "has a NUL character; leave it out") if field else error


def _field_with_nul(message: Message) -> str:
    for field, value in message.ListFields():
        entry = field.message_type is not None and field.message_type.GetOptions().map_entry
        parts = [*value.items()] if entry else value if field.is_repeated else [value]
        for part in parts:
            for one in part if entry else (part,):
                if isinstance(one, Message) and (inner := _field_with_nul(one)):
                    return f"{field.name}.{inner}"
                if isinstance(one, str) and "\0" in one:
                    return str(field.name)
    return ""


def _taking_all(behavior: Any) -> Callable[[Any, grpc.ServicerContext], Any]:
    """Return a method that takes a stream of requests only whole."""
    return lambda requests, context: behavior(whole(requests), context)


def _handler_like(handler: Any, behavior: Any) -> grpc.RpcMethodHandler:
    makers = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    make = makers[(handler.request_streaming, handler.response_streaming)]
    return make(
        behavior,
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )


class Server:
    """A sync gRPC server on one plain port; the mesh puts mTLS in front of it.

    Args:
        service: Name for errors (`{service}.slipway`).
        host: Address to listen on.
        port: Port; 0 picks a free one.
        threads: Calls at a time; more wait. Three quarters of them may be streams; more are refused.
        verifier: Checks tokens.
        allowed: Roles that may call.
        reflected: Full names of the services, for reflection.
        quick: Full names of unary methods, `/package.Service/Method`, that take a moment, called often.
        quick_threads: Calls of these at a time.
    """

    def __init__(
        self,
        *,
        service: str,
        host: str,
        port: int,
        threads: int,
        verifier: identity.Verifier,
        reflected: Iterable[str],
        allowed: frozenset[str] = identity.DEFAULT_ROLES,
        quick: Iterable[str] = (),
        quick_threads: int = 8,
    ) -> None:
        places = StreamPlaces(max(threads * 3 // 4, 1))
        self._server = grpc.server(
            futures.ThreadPoolExecutor(max_workers=threads, thread_name_prefix="rpc"),
            interceptors=(
                QuickLane(quick, quick_threads),
                server_interceptor(),
                Chassis(f"{service}.slipway", verifier, allowed, places),
            ),
            options=_OPTIONS,
        )
        self._health = health.HealthServicer()
        self._names = ("", *reflected)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (*reflected, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        self.port = self._server.add_insecure_port(f"{host}:{port}")

    @property
    def grpc(self) -> grpc.Server:
        """The server to register servicers with."""
        return self._server

    def start(self) -> None:
        """Serve, and say so in the health service."""
        self._server.start()
        self._set(health_pb2.HealthCheckResponse.SERVING)

    def stop(self, drain_s: float) -> None:
        """Say NOT_SERVING, give calls in flight `drain_s` seconds, then end."""
        self._set(health_pb2.HealthCheckResponse.NOT_SERVING)
        self._server.stop(drain_s).wait(drain_s + 1)

    def _set(self, status: Any) -> None:
        for name in self._names:
            self._health.set(name, status)


def serve_until_signal(server: Server, drain_s: float, on_stop: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGTERM or SIGINT, then drain; call from the main thread."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server.start()
    log.info("serving on port %d", server.port)
    stop.wait()
    on_stop()
    server.stop(drain_s)
    telemetry.shutdown()
