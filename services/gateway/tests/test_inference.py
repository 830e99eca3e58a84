"""KServe v2 REST over a small model server that speaks real KServe v2 gRPC."""

import json
from collections.abc import Iterator
from concurrent import futures
from datetime import UTC, datetime
from typing import Any

import grpc
import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from slipway.rollout.v1 import rollout_pb2
from slipway_gateway.api.door import install_errors
from slipway_gateway.api.inference import Inference
from slipway_gateway.clients import Backend, Models, Services
from slipway_gateway.domain.buckets import bucket_of
from slipway_gateway.domain.identity import User
from slipway_gateway.usecases import Identities, Signer, new_pem
from tritonclient.grpc import service_pb2 as kserve
from tritonclient.grpc import service_pb2_grpc

USER = User("ann", "Ann", ("engineer",), datetime.now(UTC))


class Doubler(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Doubles its input and tells what it was called with."""

    def ModelInfer(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Double."""
        metadata = dict(context.invocation_metadata())
        if request.model_name == "broken":
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full")
        answer = kserve.ModelInferResponse(model_name=request.model_name, model_version="3", id=request.id)
        answer.parameters["prediction_id"].string_param = "0198-abc"
        answer.parameters["route"].string_param = metadata["slipway-endpoint"]
        answer.parameters["tester"].string_param = metadata.get("slipway-version", "")
        for told in ("slipway-bucket", "slipway-key", "x-request-id"):
            answer.parameters[told].string_param = metadata.get(told, "")
        answer.parameters["authorized"].bool_param = metadata["authorization"].startswith("Bearer ey")
        for row, data in zip(request.inputs, request.raw_input_contents, strict=True):
            answer.outputs.add(name=f"double_{row.name}", datatype=row.datatype, shape=row.shape)
            answer.raw_output_contents.append((np.frombuffer(data, "<f4") * 2).tobytes())
        return answer

    def ModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Describe."""
        answer = kserve.ModelMetadataResponse(name=request.name, versions=["3"], platform="onnx")
        answer.inputs.add(name="x", datatype="FP32", shape=[-1, 2])
        return answer

    def ModelReady(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Not yet."""
        return kserve.ModelReadyResponse(ready=False)


@pytest.fixture(scope="module")
def model() -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(4))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Doubler(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0)


@pytest.fixture(scope="module")
def rest(model: str) -> Iterator[TestClient]:
    signer = Signer(pem=new_pem(), key_id="", lifetime_s=3600)
    app = FastAPI()
    app.state.identities = Identities(store=None, signer=signer, verifier=None, cache_s=0)  # type: ignore[arg-type]
    install_errors(app)

    async def wire() -> None:
        rollout = rollout_pb2.DESCRIPTOR.services_by_name["RolloutService"]
        models = Models(door=model, domain="slipway-models.svc.cluster.local", port=8500)
        services = Services([Backend("rollout", "127.0.0.1:1", rollout)])
        routes = Inference(models=models, services=services, version="0", timeout_s=60).router()
        app.include_router(routes)

    with TestClient(app, headers={"Authorization": f"Bearer {signer.sign(USER)}"}) as client:
        client.portal.call(wire)  # type: ignore[union-attr]
        yield client


def tensor(**fields: object) -> dict[str, object]:
    return {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [[1.5, 2]]} | fields


def test_json_goes_in_and_comes_out_with_prediction_id_and_version(rest: TestClient) -> None:
    answer = rest.post("/v2/models/flowers/infer", json={"id": "7", "inputs": [tensor()]})

    document = answer.json()
    assert answer.status_code == 200, answer.text
    assert document["outputs"] == [
        {"name": "double_x", "datatype": "FP32", "shape": [1, 2], "data": [3.0, 4.0]}
    ]
    assert (document["id"], document["model_name"], document["model_version"]) == ("7", "flowers", "3")
    assert document["parameters"]["prediction_id"] == answer.headers["slipway-prediction-id"] == "0198-abc"


def test_the_endpoint_s_name_and_the_user_s_jwt_reach_the_mesh(rest: TestClient) -> None:
    document = rest.post("/v2/models/flowers/infer", json={"inputs": [tensor()]}).json()

    assert document["parameters"]["route"] == "flowers"
    assert document["parameters"]["authorized"] is True


def test_a_version_in_the_path_is_a_tester_s_route(rest: TestClient) -> None:
    document = rest.post("/v2/models/flowers/versions/2/infer", json={"inputs": [tensor()]}).json()

    assert document["parameters"]["tester"] == "v2"


def test_binary_tensors_go_in_and_come_out(rest: TestClient) -> None:
    data = np.array([1.5, 2], "<f4").tobytes()
    row = {"name": "x", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [row], "parameters": {"binary_data_output": True}}).encode()

    answer = rest.post(
        "/v2/models/flowers/infer",
        content=head + data,
        headers={"Inference-Header-Content-Length": str(len(head))},
    )

    tail = answer.content[int(answer.headers["inference-header-content-length"]) :]
    assert np.frombuffer(tail, "<f4").tolist() == [3.0, 4.0]


def test_metadata_is_that_of_the_model(rest: TestClient) -> None:
    assert rest.get("/v2/models/flowers").json()["inputs"][0]["shape"] == ["-1", "2"]


def test_a_model_that_is_not_ready_is_a_503(rest: TestClient) -> None:
    assert rest.get("/v2/models/flowers/ready").status_code == 503


def test_a_refusal_of_the_model_keeps_its_kind(rest: TestClient) -> None:
    answer = rest.post("/v2/models/broken/infer", json={"inputs": [tensor()]})

    assert answer.status_code == 429
    assert "queue is full" in answer.json()["error"]["message"]


def test_a_tensor_that_does_not_fit_its_shape_never_leaves_the_gateway(rest: TestClient) -> None:
    answer = rest.post("/v2/models/flowers/infer", json={"inputs": [tensor(shape=[1, 3])]})

    assert answer.status_code == 400
    assert "holds 2 values, shape [1, 3] needs 3" in answer.json()["error"]["message"]


def test_without_a_token_nothing_is_asked_of_a_model(rest: TestClient) -> None:
    answer = rest.post("/v2/models/flowers/infer", json={}, headers={"Authorization": ""})

    assert answer.status_code == 401


@pytest.mark.parametrize(
    "body",
    [
        b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": '
        + b"[" * 5000
        + b"]" * 5000
        + b"}]}",
        b'{"inputs": [], "id": "half \\ud800"}',
        b'{"inputs": [], "parameters": {"large": 1180591620717411303424}}',
    ],
    ids=["nested", "half a character", "a large number"],
)
def test_json_that_no_message_holds_is_the_caller_s_mistake(rest: TestClient, body: bytes) -> None:
    answer = rest.post("/v2/models/flowers/infer", content=body)

    assert answer.status_code == 400
    assert answer.json()["error"]["status"] == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    ("path", "header"), [("/versions/%D9%A3", ""), ("/versions/x", ""), ("", "v1, v2"), ("", "\u00b2")]
)
def test_a_version_that_is_no_number_is_refused_and_never_becomes_a_header(
    rest: TestClient, path: str, header: str
) -> None:
    headers = {"slipway-version": header.encode("latin-1")}

    answer = rest.post(f"/v2/models/flowers{path}/infer", json={"inputs": [tensor()]}, headers=headers)

    assert answer.status_code == 400
    assert "send a number" in answer.json()["error"]["message"]


def test_a_tester_s_header_goes_along(rest: TestClient) -> None:
    headers = {"slipway-version": "v2"}

    document = rest.post("/v2/models/flowers/infer", json={"inputs": [tensor()]}, headers=headers).json()

    assert document["parameters"]["tester"] == "v2"


def told(rest: TestClient, endpoint: str = "flowers", **headers: str) -> dict[str, Any]:
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1.0]}]}
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    answer = rest.post(f"/v2/models/{endpoint}/infer", json=body, headers=named)
    return dict(answer.json()["parameters"])


def test_a_key_becomes_a_bucket_of_the_endpoint_and_goes_no_further(rest: TestClient) -> None:
    first, again = told(rest, slipway_key="ann"), told(rest, slipway_key="ann")
    elsewhere = {told(rest, f"flowers-{n}", slipway_key="ann")["slipway-bucket"] for n in range(8)}

    assert first["slipway-bucket"] == again["slipway-bucket"] == bucket_of("flowers", "ann")
    assert first["slipway-key"] == ""
    assert len(elsewhere) > 1


def test_without_a_key_no_bucket_is_said_not_even_the_callers_own(rest: TestClient) -> None:
    assert told(rest, slipway_bucket="07")["slipway-bucket"] == ""


@pytest.mark.parametrize(("sent", "received"), [("8c1c-9e", "8c1c-9e"), ("x" * 201, "")])
def test_the_doors_request_id_goes_on_to_the_model(rest: TestClient, sent: str, received: str) -> None:
    assert told(rest, x_request_id=sent)["x-request-id"] == received
