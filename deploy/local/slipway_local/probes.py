"""Questions that a supervisor asks a service: do you serve, do you live."""

import http.client
from collections.abc import Callable

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from slipway_local.layout import HOST
from slipway_local.servers import listens

_TIMEOUT_S = 2.0
_LONGEST_TEXT = 2000


def http_ok(port: int, path: str) -> Callable[[], bool]:
    """Return a probe that asks for a 200."""

    def ask() -> bool:
        connection = http.client.HTTPConnection(HOST, port, timeout=_TIMEOUT_S)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return ask


def http_refusal(port: int, path: str) -> Callable[[], str | None]:
    """Return a probe that asks for the text of a 503: empty with a 200, None without an answer."""

    def ask() -> str | None:
        connection = http.client.HTTPConnection(HOST, port, timeout=_TIMEOUT_S)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.read(_LONGEST_TEXT).decode(errors="replace") if answer.status == 503 else ""
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    return ask


def grpc_serving(port: int) -> Callable[[], bool]:
    """Return a probe that asks grpc.health.v1 for SERVING."""

    def ask() -> bool:
        if not listens(port):  # a channel is dear while ten services start
            return False
        options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(f"{HOST}:{port}", options=options) as channel:
            try:
                answer = health_pb2_grpc.HealthStub(channel).Check(
                    health_pb2.HealthCheckRequest(), timeout=_TIMEOUT_S
                )
            except grpc.RpcError:
                return False
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    return ask
