"""A real server and real channels: identity, errors, deadlines, retries, health."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from grpc_health.v1 import health_pb2, health_pb2_grpc
from slipway.monitoring.v1 import monitoring_pb2 as pb
from slipway.monitoring.v1 import monitoring_pb2_grpc as pb_grpc
from slipway.training.v1 import training_pb2, training_pb2_grpc
from slipway_runtime import deadline
from slipway_runtime.errors import (
    DeadlineExceeded,
    Internal,
    NotFound,
    PermissionDenied,
    SlipwayError,
    Unauthenticated,
    Unstorable,
)
from slipway_runtime.identity import SERVICE_PREFIX, Verifier, current_caller
from slipway_runtime.rpc import Server, channel, from_rpc_error
from slipway_runtime.rpc.client import retryable_methods
from slipway_runtime.rpc.server import named

SERVICE = pb.DESCRIPTOR.services_by_name["MonitoringService"]


class Keys:
    """One signing key and its JWKS file."""

    def __init__(self, folder: Path) -> None:
        self.private = Ed25519PrivateKey.generate()
        public = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(self.private.public_key()))
        self.jwks = folder / "jwks.json"
        self.jwks.write_text(json.dumps({"keys": [{**public, "kid": "one", "alg": "EdDSA"}]}))

    def token(self, subject: str, *, expires_in_s: float = 3600, **claims: Any) -> str:
        body = {"sub": subject, "iss": "test", "aud": "slipway", "exp": time.time() + expires_in_s, **claims}
        return jwt.encode(body, self.private, algorithm="EdDSA", headers={"kid": "one"})


class Servicer(pb_grpc.MonitoringServiceServicer):
    """Answers with who calls, or fails as it is told."""

    asked_to_stop = False

    def GetTrace(self, request: Any, context: Any) -> Any:
        if request.name == "missing":
            raise NotFound("TRACE_NOT_FOUND", "there is no trace 'missing'; look in ListTraces")
        if request.name == "broken":
            raise RuntimeError("the secret of the house")
        if request.name == "stopping" and not self.asked_to_stop:
            self.asked_to_stop = True
            context.abort(grpc.StatusCode.CANCELLED, "as a server does that begins to stop")
        if request.name == "slow":
            gone = threading.Event()
            if context.add_callback(gone.set):
                gone.wait(60)
        caller = current_caller()
        return pb.Trace(name=caller.subject, root=caller.actor, services=[str(deadline.remaining_s())])


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


@pytest.fixture
def server(keys: Keys):
    server = Server(
        service="monitoring",
        host="127.0.0.1",
        port=0,
        threads=4,
        verifier=Verifier(str(keys.jwks)),
        reflected=[SERVICE.full_name],
    )
    pb_grpc.add_MonitoringServiceServicer_to_server(Servicer(), server.grpc)
    training_pb2_grpc.add_TrainingServiceServicer_to_server(Watched(), server.grpc)
    server.start()
    yield server
    server.stop(0)


def call(server: Server, token: str, name: str = "x", metadata: Any = None, timeout_s: float = 60.0) -> Any:
    with channel(f"127.0.0.1:{server.port}", services=[SERVICE], token=lambda: token) as opened:
        stub = pb_grpc.MonitoringServiceStub(opened)
        try:
            return stub.GetTrace(pb.GetTraceRequest(name=name), metadata=metadata, timeout=timeout_s)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None


def test_the_first_field_with_a_nul_is_named_however_deep_it_lies() -> None:
    from slipway.registry.v1 import registry_pb2

    request = registry_pb2.CreateRunRequest(run_id="r", run=registry_pb2.Run(environment={"a": "b\0"}))
    request.run.params["x"] = "y"

    assert named(Unstorable(), request).violations[0].field == "run.environment"
    assert named(Unstorable(), iter([request])).reason == "INVALID_FIELD"


def test_a_caller_is_who_the_token_says(server: Server, keys: Keys) -> None:
    trace = call(server, keys.token("users/ann", roles=["engineer"]))

    assert trace.name == "users/ann"


@pytest.mark.parametrize("token", ["", "nonsense", "slp_x"])
def test_no_token_or_a_damaged_one_is_unauthenticated(server: Server, token: str) -> None:
    with pytest.raises(Unauthenticated):
        call(server, token)


def test_expired_and_foreign_tokens_are_unauthenticated(server: Server, keys: Keys, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    foreign = Keys(tmp_path / "other")

    for token in (keys.token("users/ann", expires_in_s=-60), foreign.token("users/ann", roles=["admin"])):
        with pytest.raises(Unauthenticated) as refused:
            call(server, token)
        assert refused.value.reason == "TOKEN_INVALID"


def test_a_role_that_is_not_enough_is_named(server: Server, keys: Keys) -> None:
    with pytest.raises(PermissionDenied, match="annotator"):
        call(server, keys.token("users/ann", roles=["annotator"]))


def test_a_service_may_act_for_a_user_and_a_user_may_not(server: Server, keys: Keys) -> None:
    metadata = [("slipway-on-behalf-of", "users/bob")]

    trace = call(server, keys.token(SERVICE_PREFIX + "labeling"), metadata=metadata)

    assert (trace.name, trace.root) == ("users/bob", "services/labeling")
    with pytest.raises(PermissionDenied, match="users/bob"):
        call(server, keys.token("users/ann", roles=["admin"]), metadata=metadata)


def test_a_model_pods_account_has_its_namespace_in_its_name_and_a_foreign_one_has_no_role(
    server: Server, keys: Keys
) -> None:
    metadata = [("slipway-on-behalf-of", "users/bob")]
    pod, foreign = (f"system:serviceaccount:{space}:rollout" for space in ("slipway-models", "default"))

    assert call(server, keys.token(pod), metadata=metadata).root == "services/rollout.slipway-models"
    with pytest.raises(PermissionDenied):
        call(server, keys.token(foreign))


def test_a_refusal_arrives_with_its_reason(server: Server, keys: Keys) -> None:
    with pytest.raises(NotFound) as refused:
        call(server, keys.token("users/ann", roles=["admin"]), name="missing")

    assert refused.value.reason == "TRACE_NOT_FOUND"


def test_what_was_unexpected_is_answered_without_its_text(server: Server, keys: Keys) -> None:
    with pytest.raises(Internal) as refused:
        call(server, keys.token("users/ann", roles=["admin"]), name="broken")

    assert "secret" not in str(refused.value)


def test_the_deadline_reaches_the_method_and_ends_the_call(server: Server, keys: Keys) -> None:
    token = keys.token("users/ann", roles=["admin"])

    trace = call(server, token, timeout_s=100.0)

    assert 20.0 < float(trace.services[0]) < 110.0
    with pytest.raises(DeadlineExceeded):
        call(server, token, name="slow", timeout_s=0.2)


def test_a_read_is_retried_while_the_server_comes_up(keys: Keys, server: Server) -> None:
    token = keys.token("users/ann", roles=["admin"])
    port = server.port
    server.stop(0)
    again = Server(
        service="monitoring",
        host="127.0.0.1",
        port=port,
        threads=2,
        verifier=Verifier(str(keys.jwks)),
        reflected=[],
    )
    pb_grpc.add_MonitoringServiceServicer_to_server(Servicer(), again.grpc)
    threading.Timer(0.5, again.start).start()

    trace = call(again, token)

    assert trace.name == "users/ann"
    again.stop(0)


def test_a_read_that_a_stopping_server_gave_up_is_retried(server: Server, keys: Keys) -> None:
    assert call(server, keys.token("users/ann", roles=["admin"]), "stopping").name == "users/ann"


def test_only_reads_and_calls_with_a_request_id_are_retried() -> None:
    methods = retryable_methods(training_pb2.DESCRIPTOR.services_by_name["TrainingService"])

    assert "CreateTrainingJob" in methods
    assert "GetTrainingJob" in methods
    assert "UploadTaskCode" not in methods


class Watched(training_pb2_grpc.TrainingServiceServicer):
    """Streams for as long as somebody listens, and takes streams."""

    def UploadTaskCode(self, requests: Any, context: Any) -> Any:
        return training_pb2.TaskCode(name=",".join(request.chunk.decode() for request in requests))

    def WatchTrainingJob(self, request: Any, context: Any) -> Any:
        while context.is_active():
            yield training_pb2.TrainingJob()
            time.sleep(0.02)


def test_streams_leave_threads_for_short_calls_and_one_more_is_refused(server: Server, keys: Keys) -> None:
    token = keys.token("users/ann", roles=["admin"])
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as opened:
        stub = training_pb2_grpc.TrainingServiceStub(opened)

        def watch() -> Any:
            stream = stub.WatchTrainingJob(
                training_pb2.WatchTrainingJobRequest(),
                metadata=[("authorization", f"Bearer {token}")],
                timeout=200,
            )
            next(stream)
            return stream

        watches = [watch() for _ in range(3)]
        with pytest.raises(grpc.RpcError) as refused:
            watch()
        answered = call(server, token).name
        for stream in watches:
            stream.cancel()
        until(watch)

    assert from_rpc_error(refused.value).reason == "TOO_MANY_STREAMS"
    assert answered == "users/ann"


def test_a_stream_is_taken_only_with_the_message_that_says_it_was_all(server: Server, keys: Keys) -> None:
    parts = [training_pb2.UploadTaskCodeRequest(chunk=text) for text in (b"a", b"b")]
    token = keys.token("users/ann", roles=["admin"])
    address = f"127.0.0.1:{server.port}"

    with channel(address, token=lambda: token, timeout_s=60) as ours, grpc.insecure_channel(address) as plain:
        taken = training_pb2_grpc.TrainingServiceStub(ours).UploadTaskCode(iter(parts))
        with pytest.raises(grpc.RpcError) as refused:
            training_pb2_grpc.TrainingServiceStub(plain).UploadTaskCode(
                iter(parts), metadata=[("authorization", f"Bearer {token}")]
            )

    assert taken.name == "a,b"
    assert from_rpc_error(refused.value).reason == "UNFINISHED_STREAM"


def until(attempt: Any) -> None:
    """Repeat what is refused, for a minute at most."""
    stop_at = time.monotonic() + 60
    while True:
        try:
            attempt()
            return
        except grpc.RpcError:
            assert time.monotonic() < stop_at
            time.sleep(0.05)


def test_health_needs_no_token(server: Server) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as opened:
        answer = health_pb2_grpc.HealthStub(opened).Check(health_pb2.HealthCheckRequest(), timeout=60)

    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_a_rotated_key_file_is_read_again(server: Server, keys: Keys, tmp_path: Path) -> None:
    call(server, keys.token("users/ann", roles=["admin"]))
    (tmp_path / "new").mkdir()
    new = Keys(tmp_path / "new")
    document = json.loads(new.jwks.read_text())
    document["keys"][0]["kid"] = "two"
    keys.jwks.write_text(json.dumps(document))
    body = {"sub": "users/eve", "iss": "t", "aud": "slipway", "exp": time.time() + 3600, "roles": ["admin"]}
    token = jwt.encode(body, new.private, algorithm="EdDSA", headers={"kid": "two"})

    assert call(server, token).name == "users/eve"
    with pytest.raises(SlipwayError):
        call(server, keys.token("users/zoe", roles=["admin"]))
