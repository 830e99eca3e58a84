"""Watches over REST: one JSON object per line, from a real gRPC stream."""

import json
from collections.abc import Iterator
from concurrent import futures
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from slipway.training.v1 import training_pb2 as pb
from slipway.training.v1 import training_pb2_grpc
from slipway_gateway.api.door import install_errors
from slipway_gateway.api.services import Transcoder
from slipway_gateway.api.transcoding import bindings
from slipway_gateway.clients import Backend, Services
from slipway_gateway.domain.identity import User
from slipway_gateway.usecases import Identities, Signer, new_pem

SERVICE = pb.DESCRIPTOR.services_by_name["TrainingService"]
USER = User("ann", "Ann", ("engineer",), datetime.now(UTC))


class Jobs(training_pb2_grpc.TrainingServiceServicer):
    """A job that runs, then ends, or breaks in the middle."""

    def WatchTrainingJob(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        """Stream two states."""
        if request.name.endswith("/none"):
            context.abort(grpc.StatusCode.NOT_FOUND, "there is no such job")
        yield pb.TrainingJob(name=request.name, state=pb.TrainingJob.RUNNING)
        if request.name.endswith("/broken"):
            context.abort(grpc.StatusCode.UNAVAILABLE, "the server stops")
        yield pb.TrainingJob(name=request.name, state=pb.TrainingJob.SUCCEEDED)


@pytest.fixture(scope="module")
def rest() -> Iterator[TestClient]:
    server = grpc.server(futures.ThreadPoolExecutor(4))
    training_pb2_grpc.add_TrainingServiceServicer_to_server(Jobs(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    signer = Signer(pem=new_pem(), key_id="", lifetime_s=3600)
    app = FastAPI()
    app.state.identities = Identities(store=None, signer=signer, verifier=None, cache_s=0)  # type: ignore[arg-type]
    install_errors(app)

    async def wire() -> None:
        services = Services([Backend("training", f"127.0.0.1:{port}", SERVICE)])
        rest = bindings([SERVICE])
        app.include_router(
            Transcoder(services=services, bindings=rest, timeout_s=60, watch_timeout_s=60).router()
        )

    with TestClient(app, headers={"Authorization": f"Bearer {signer.sign(USER)}"}) as client:
        client.portal.call(wire)  # type: ignore[union-attr]
        yield client
    server.stop(0)


def test_each_change_is_a_line(rest: TestClient) -> None:
    answer = rest.get("/v1/trainingJobs/a:watch")

    lines = [json.loads(line)["result"]["state"] for line in answer.text.splitlines()]
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert lines == ["RUNNING", "SUCCEEDED"]


def test_a_refusal_before_the_first_line_has_its_http_code(rest: TestClient) -> None:
    assert rest.get("/v1/trainingJobs/none:watch").status_code == 404


def test_an_error_in_the_middle_is_the_last_line(rest: TestClient) -> None:
    lines = [json.loads(line) for line in rest.get("/v1/trainingJobs/broken:watch").text.splitlines()]

    assert lines[0]["result"]["state"] == "RUNNING"
    assert lines[1]["error"]["status"] == "UNAVAILABLE"
