"""KServe v2 inference over REST, mapped to the endpoint's host in the mesh."""

import json
import re
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from slipway.rollout.v1 import rollout_pb2
from slipway_runtime.errors import InvalidArgument, SlipwayError
from starlette.responses import JSONResponse, Response

from slipway_gateway.api.door import name_operation, session_of
from slipway_gateway.clients import Models, Services, service_pb2
from slipway_gateway.domain.buckets import bucket_of
from slipway_gateway.domain.tensors import InferRequest, Tensor, parse_request, render_tensor
from slipway_gateway.usecases import Session

_ENDPOINT_ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_VERSION = re.compile(r"v?([0-9]{1,9})")  # ASCII alone: it goes into a header
_MOST_REQUEST_ID = 200
_HEADER_LENGTH = "inference-header-content-length"
_GET_ENDPOINT: MethodDescriptor = rollout_pb2.DESCRIPTOR.services_by_name["RolloutService"].methods_by_name[
    "GetEndpoint"
]
_CALLS: dict[str, tuple[str, type[Message]]] = {
    "": ("ModelMetadata", service_pb2.ModelMetadataRequest),
    "config": ("ModelConfig", service_pb2.ModelConfigRequest),
    "ready": ("ModelReady", service_pb2.ModelReadyRequest),
    "stats": ("ModelStatistics", service_pb2.ModelStatisticsRequest),
}


class Inference:
    """The /v2 routes.

    Args:
        models: Clients of the endpoints.
        services: For rollout, which knows the endpoints' names.
        version: Of the gateway, for the server's metadata.
        timeout_s: Seconds that a model has to answer.
    """

    def __init__(self, *, models: Models, services: Services, version: str, timeout_s: float) -> None:
        self._models = models
        self._services = services
        self._version = version
        self._timeout_s = timeout_s

    def router(self) -> APIRouter:
        """Return the routes."""
        routes = APIRouter(tags=["Inference"])
        routes.add_api_route("/v2", self.server, methods=["GET"], summary="Server metadata")
        routes.add_api_route("/v2/health/live", self.alive, methods=["GET"], summary="Server liveness")
        routes.add_api_route("/v2/health/ready", self.alive, methods=["GET"], summary="Server readiness")
        for prefix in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
            at = "" if prefix.endswith("{name}") else " of a version"
            routes.add_api_route(prefix + "/infer", self.infer, methods=["POST"], summary=f"Infer{at}")
            for verb, (method, _) in _CALLS.items():
                path = f"{prefix}/{verb}".rstrip("/")
                routes.add_api_route(path, self.describe, methods=["GET"], summary=f"{method}{at}")
        return routes

    async def alive(self) -> dict[str, bool]:
        """Say that the door is open; models have their own `/ready`."""
        return {"live": True, "ready": True}

    async def server(self) -> dict[str, Any]:
        """Describe the server."""
        return {
            "name": "slipway",
            "version": self._version,
            "extensions": ["binary_tensor_data", "statistics"],
        }

    async def describe(self, request: Request, name: str, version: str = "") -> Response:
        """Answer metadata, config, readiness or statistics."""
        method, kind = _CALLS[_verb(request.url.path)]
        name_operation(request, method)
        session = await session_of(request)
        message = kind(name=name, version=_number(version))
        answer, _ = await self._call(request, session, name, version, method, message)
        if method == "ModelReady":
            ready = bool(answer.ready)  # type: ignore[attr-defined]
            return JSONResponse({"name": name, "ready": ready}, status_code=200 if ready else 503)
        return JSONResponse(json_format.MessageToDict(answer, preserving_proto_field_name=True))

    async def infer(self, request: Request, name: str, version: str = "") -> Response:
        """Answer one inference; the prediction id and the version are in parameters and headers."""
        name_operation(request, "ModelInfer")
        session = await session_of(request)  # before the body: strangers cost no memory
        length = request.headers.get(_HEADER_LENGTH)
        if length is not None and not length.isdecimal():
            raise InvalidArgument.field("Inference-Header-Content-Length", f"is {length!r}; send a number")
        asked = parse_request(await request.body(), None if length is None else int(length))
        try:
            message = _to_proto(asked, name, _number(version))
        except UnicodeEncodeError as error:  # JSON may hold half a character
            raise InvalidArgument.field("body", f"has a text that is not Unicode ({error.reason})") from error
        answer, metadata = await self._call(request, session, name, version, "ModelInfer", message)
        return _render(answer, asked, metadata)

    async def _call(
        self, request: Request, session: Session, name: str, version: str, method: str, message: Message
    ) -> tuple[Message, dict[str, str]]:
        if not _ENDPOINT_ID.fullmatch(name):
            raise InvalidArgument.field("name", f"{name!r} is not an endpoint's name: a DNS label")
        number = _number(version or request.headers.get("slipway-version", ""))
        headers = {"slipway-version": f"v{number}"} if number else {}
        if key := request.headers.get("slipway-key", ""):
            headers["slipway-bucket"] = bucket_of(
                name, key
            )  # the key itself is nobody's business behind here
        request_id = request.headers.get("x-request-id", "")
        if request_id.isascii() and 0 < len(request_id) <= _MOST_REQUEST_ID:
            headers["x-request-id"] = request_id  # the door's: one request, one id, mirrored or not
        try:
            return await self._models.call(
                name, method, message, token=session.access_token, timeout_s=self._timeout_s, headers=headers
            )
        except SlipwayError as error:
            if error.reason not in {"UNAVAILABLE", "UNIMPLEMENTED", "NOT_FOUND"}:
                raise
            await self._name_unknown(name, session.access_token)
            raise

    async def _name_unknown(self, name: str, token: str) -> None:
        """Ask rollout whether the endpoint exists: no mesh can say which names are near.

        Raises:
            SlipwayError: There is no such endpoint.
        """
        asked = rollout_pb2.GetEndpointRequest(name=f"endpoints/{name}")
        try:
            await self._services.unary(_GET_ENDPOINT, asked, token=token, timeout_s=5.0)
        except SlipwayError as error:
            if error.reason == "ENDPOINT_NOT_FOUND":
                await self._models.forget(name)
                raise


def _verb(path: str) -> str:
    last = path.rstrip("/").rpartition("/")[2]
    return last if last in _CALLS else ""


def _number(version: str) -> str:
    found = _VERSION.fullmatch(version)
    if version and found is None:
        raise InvalidArgument.field("version", f"is {version!r}; send a number, as in /versions/2")
    return found[1] if found else ""


def _set(parameters: Any, values: Mapping[str, Any], where: str) -> None:
    for key, value in values.items():
        fields = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}
        if type(value) not in fields or (type(value) is int and abs(value) >= 1 << 63):
            raise InvalidArgument.field(f"{where}.{key}", f"is {value!r}; send text, a number or a boolean")
        setattr(parameters[key], fields[type(value)], value)


def _to_proto(asked: InferRequest, name: str, version: str) -> Message:
    message = service_pb2.ModelInferRequest(model_name=name, model_version=version, id=asked.id)
    _set(message.parameters, asked.parameters, "parameters")
    for tensor in asked.inputs:
        row = message.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        _set(row.parameters, tensor.parameters, f"inputs.{tensor.name}.parameters")
        message.raw_input_contents.append(tensor.data)
    for wanted in asked.outputs:
        message.outputs.add(name=wanted.name)
    return message


def _plain(parameters: Any) -> dict[str, Any]:
    return {key: getattr(value, value.WhichOneof("parameter_choice")) for key, value in parameters.items()}


def _render(answer: Any, asked: InferRequest, metadata: Mapping[str, str]) -> Response:
    wants = {
        wanted.name: wanted.parameters.get("binary_data", asked.binary_outputs) for wanted in asked.outputs
    }
    rows, tail = [], b""
    for row, data in zip(answer.outputs, answer.raw_output_contents, strict=True):
        tensor = Tensor(row.name, row.datatype, tuple(row.shape), data, _plain(row.parameters))
        document, binary = render_tensor(tensor, binary=bool(wants.get(row.name, asked.binary_outputs)))
        rows.append(document)
        tail += binary
    parameters = _plain(answer.parameters) | {
        key.removeprefix("slipway-").replace("-", "_"): value
        for key, value in metadata.items()
        if key in {"slipway-prediction-id", "slipway-model-version"}
    }
    document = {"model_name": answer.model_name, "model_version": answer.model_version, "id": answer.id}
    document |= {"parameters": parameters, "outputs": rows}
    headers = {
        f"slipway-{k.replace('_', '-')}": str(v) for k, v in parameters.items() if k == "prediction_id"
    }
    if not tail:
        return JSONResponse(document, headers=headers)
    head = json.dumps(document).encode()
    headers["Inference-Header-Content-Length"] = str(len(head))
    return Response(head + tail, media_type="application/octet-stream", headers=headers)
