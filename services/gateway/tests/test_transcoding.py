"""REST to RPC and back, over every annotated RPC of every service."""

import json

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from slipway.ingestion.v1 import ingestion_pb2
from slipway.labeling.v1 import labeling_pb2
from slipway.monitoring.v1 import monitoring_pb2
from slipway.registry.v1 import registry_pb2
from slipway.rollout.v1 import rollout_pb2
from slipway.training.v1 import training_pb2
from slipway_gateway.api.openapi import Document, read_comments
from slipway_gateway.api.transcoding import Binding, bindings, to_json
from slipway_runtime.errors import InvalidArgument

MODULES = (ingestion_pb2, training_pb2, registry_pb2, rollout_pb2, monitoring_pb2, labeling_pb2)
SERVICES = [service for module in MODULES for service in module.DESCRIPTOR.services_by_name.values()]
BINDINGS = bindings(SERVICES)


def binding(name: str) -> Binding:
    return next(b for b in BINDINGS if b.method.name == name)


def filled(kind: Descriptor, depth: int = 0) -> Message:
    """Return a message with a value in every field, two levels deep."""
    message = GetMessageClass(kind)()
    for field in kind.fields:
        if field.containing_oneof is None and not (field.message_type and depth > 1):
            _fill(message, field, depth)
    return message


def _fill(message: Message, field: FieldDescriptor, depth: int) -> None:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        if kind.fields_by_name["value"].message_type is None:
            value = "x" if kind.fields_by_name["value"].type == FieldDescriptor.TYPE_STRING else 3
            getattr(message, field.name)["k"] = value
    elif kind is not None:
        values = {
            "google.protobuf.Timestamp": '"2026-01-02T03:04:05.678Z"',
            "google.protobuf.Duration": '"1.5s"',
            "google.protobuf.FieldMask": '"displayName,description"',
            "google.protobuf.Struct": '{"a": [1, "b", null]}',
        }
        target = getattr(message, field.name)
        if field.is_repeated:
            target.add().CopyFrom(filled(kind, depth + 1))
        elif kind.full_name in values:
            json_format.Parse(values[kind.full_name], target)
        else:
            target.CopyFrom(filled(kind, depth + 1))
    else:
        _fill_scalar(message, field)


def _fill_scalar(message: Message, field: FieldDescriptor) -> None:
    by_type = {
        FieldDescriptor.TYPE_STRING: "text/ü",
        FieldDescriptor.TYPE_BOOL: True,
        FieldDescriptor.TYPE_BYTES: b"\0\xff",
    }
    value: object = by_type.get(field.type, 7)
    if field.enum_type is not None:
        value = field.enum_type.values[-1].number
    if field.is_repeated:
        getattr(message, field.name).extend([value, value])
    else:
        setattr(message, field.name, value)


def _query(document: object, prefix: str = "") -> list[tuple[str, str]]:
    if isinstance(document, dict):
        return [
            pair for key, value in document.items() for pair in _query(value, f"{prefix}.{key}".strip("."))
        ]
    if isinstance(document, list):
        return [pair for value in document for pair in _query(value, prefix)]
    return [(prefix, str(document).lower() if isinstance(document, bool) else str(document))]


@pytest.mark.parametrize("rest", BINDINGS, ids=lambda b: f"{b.verb}-{b.method.name}")
def test_every_annotated_rpc_survives_the_round_trip(rest: Binding) -> None:
    request = filled(rest.method.input_type)
    for path, pattern in rest.template.variables.items():
        *parents, last = path.split(".")
        owner = request
        for parent in parents:
            owner = getattr(owner, parent)
        setattr(owner, last, pattern.replace("*", "some-id"))
    values = {path: pattern.replace("*", "some-id") for path, pattern in rest.template.variables.items()}
    document = json_format.MessageToDict(request)
    body, query = b"", document
    if rest.body == "*":
        body, query = json.dumps(document).encode(), {}
    elif rest.body:
        name = rest.method.input_type.fields_by_name[rest.body].json_name
        query = {key: value for key, value in document.items() if key != name}
        body = json.dumps(document[name]).encode()

    path = rest.template.expand(values)
    matched = rest.template.match(path)
    assert matched is not None
    parsed = rest.request(matched, _query(query), body)

    assert parsed == request
    assert next(b for b in BINDINGS if b.verb == rest.verb and b.template.match(path) is not None) is rest


def test_every_rpc_without_a_client_stream_has_a_rest_form_or_streams_bytes() -> None:
    bound = {b.method.full_name for b in BINDINGS}
    missing = {m.name for s in SERVICES for m in s.methods if m.full_name not in bound}

    assert missing == {
        "DownloadBundle",
        "ExportAnnotations",
        "ImportAnnotations",
        "ImportPredictions",
        "ImportScores",
        "ReadExamples",
        "ReadScores",
        "RecordEvaluation",
        "UploadBundle",
        "UploadExamples",
        "UploadTaskCode",
    }


def test_query_parameters_take_enums_by_name_and_by_number() -> None:
    rest = binding("ListTrainingJobs")

    by_name = rest.request({}, [("state", "RUNNING")], b"")
    by_number = rest.request({}, [("state", "2")], b"")

    assert (
        by_name == by_number == training_pb2.ListTrainingJobsRequest(state=training_pb2.TrainingJob.RUNNING)
    )


def test_a_path_field_wins_over_the_body() -> None:
    rest = binding("SetSplit")

    request = rest.request({"name": "endpoints/a"}, [], b'{"name": "endpoints/b", "weights": {"v1": 100}}')

    assert request == rollout_pb2.SetSplitRequest(name="endpoints/a", weights={"v1": 100})


@pytest.mark.parametrize(
    ("name", "query", "body", "field"),
    [
        ("ListModels", [("nope", "1")], b"", "nope"),
        ("ListModels", [("pageSize", "many")], b"", "body"),
        ("ListModels", [], b"{}", "body"),
        ("CreateModel", [], b"[1]", "body"),
        ("CreateModel", [], b"{", "body"),
        ("CreateModel", [], b"[" * 100_000, "body"),
        ("CreateModel", [], b'{"model":' * 500 + b"1" + b"}" * 500, "body"),
        ("CreateModel", [], b'{"description": "half \\ud800"}', "body"),
        ("ListTraces", [("errorsOnly", "yes")], b"", "errorsOnly"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    name: str, query: list[tuple[str, str]], body: bytes, field: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        binding(name).request({}, query, body)

    assert refused.value.violations[0].field == field


def test_zeros_are_in_the_answer() -> None:
    served = rollout_pb2.ServedVersion(subset="v2", weight=0)

    assert to_json(served)["weight"] == 0


def test_every_operation_and_field_in_openapi_has_the_comment_of_its_proto() -> None:
    document = Document(BINDINGS, read_comments())

    bare = [
        o["operationId"] for path in document.paths.values() for o in path.values() if not o["description"]
    ]
    unsaid = [
        f"{name}.{field}"
        for name, schema in document.schemas.items()
        if name.startswith("slipway.")
        for field, described in schema["properties"].items()
        if not described.get("description")
    ]
    assert (bare, unsaid) == ([], [])
