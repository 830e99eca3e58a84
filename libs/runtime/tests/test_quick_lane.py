"""Short calls on threads of their own, on a real server."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from slipway.monitoring.v1 import monitoring_pb2 as pb
from slipway.monitoring.v1 import monitoring_pb2_grpc as pb_grpc
from slipway_runtime.errors import Unauthenticated
from slipway_runtime.identity import Verifier
from slipway_runtime.rpc import Server, channel, from_rpc_error

SERVICE = pb.DESCRIPTOR.services_by_name["MonitoringService"]


class Servicer(pb_grpc.MonitoringServiceServicer):
    """Keeps callers of a trace by twos, and counts who is inside; gives the thread's name for a listing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._two = threading.Barrier(2)
        self.open = threading.Event()
        self.inside = 0
        self.most = 0

    def GetTrace(self, request: Any, context: Any) -> Any:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self._two.wait(60)
        self.open.wait(60)
        time.sleep(0.05)
        with self._lock:
            self.inside -= 1
        return pb.Trace(name=threading.current_thread().name)

    def ListTraces(self, request: Any, context: Any) -> Any:
        return pb.ListTracesResponse(next_page_token=threading.current_thread().name)


@pytest.fixture
def servicer() -> Servicer:
    return Servicer()


@pytest.fixture
def stub(tmp_path: Path, servicer: Servicer) -> Iterator[Any]:
    private = Ed25519PrivateKey.generate()
    public = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(private.public_key()))
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [{**public, "kid": "one", "alg": "EdDSA"}]}))
    body = {
        "sub": "users/ann",
        "iss": "t",
        "aud": "slipway",
        "exp": time.time() + 3600,
        "roles": ["engineer"],
    }
    token = jwt.encode(body, private, algorithm="EdDSA", headers={"kid": "one"})
    server = Server(
        service="monitoring",
        host="127.0.0.1",
        port=0,
        threads=8,
        verifier=Verifier(str(tmp_path / "jwks.json")),
        reflected=[SERVICE.full_name],
        quick=[f"/{SERVICE.full_name}/GetTrace"],
        quick_threads=2,
    )
    pb_grpc.add_MonitoringServiceServicer_to_server(servicer, server.grpc)
    server.start()
    with channel(f"127.0.0.1:{server.port}", token=lambda: token) as opened:
        yield pb_grpc.MonitoringServiceStub(opened)
    server.stop(0)


def test_quick_calls_have_few_threads_of_their_own_and_all_are_answered(
    stub: Any, servicer: Servicer
) -> None:
    servicer.open.set()
    with ThreadPoolExecutor(8) as callers:
        found = list(callers.map(lambda _: stub.GetTrace(pb.GetTraceRequest(), timeout=60).name, range(8)))

    assert {name.partition("_")[0] for name in found} == {"quick"}
    assert len(found) == 8
    assert servicer.most == 2


def test_other_calls_do_not_wait_for_quick_ones(stub: Any, servicer: Servicer) -> None:
    waiting = [stub.GetTrace.future(pb.GetTraceRequest(), timeout=60) for _ in range(8)]

    name = stub.ListTraces(pb.ListTracesRequest(), timeout=60).next_page_token

    assert name.startswith("rpc")
    assert not any(one.done() for one in waiting)
    servicer.open.set()
    assert all(one.result().name for one in waiting)


def test_a_quick_call_is_checked_like_every_other(stub: Any) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        stub.GetTrace(pb.GetTraceRequest(), metadata=[("authorization", "Bearer nonsense")], timeout=60)

    assert isinstance(from_rpc_error(refused.value), Unauthenticated)
