"""OpenAPI 3.1 of the services' RPCs, from the descriptors and the comments in the protos."""

from collections.abc import Iterable
from importlib.resources import files
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet

from slipway_gateway.api.transcoding import Binding

_ERROR_REF = {"$ref": "#/components/schemas/google.rpc.Status"}
_WELL_KNOWN: dict[str, dict[str, Any]] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "description": "such as `1.5s`"},
    "google.protobuf.FieldMask": {"type": "string", "description": "field names, separated by commas"},
    "google.protobuf.Struct": {"type": "object", "additionalProperties": True},
    "google.protobuf.Value": {},
}
_ERROR = {
    "type": "object",
    "description": "google.rpc.Status as JSON (AIP-193).",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "code": {"type": "integer"},
                "status": {"type": "string"},
                "message": {"type": "string"},
                "details": {"type": "array", "items": {"type": "object"}},
            },
        }
    },
}
_T = FieldDescriptor
_SCALARS: dict[int, dict[str, Any]] = {
    _T.TYPE_STRING: {"type": "string"},
    _T.TYPE_BOOL: {"type": "boolean"},
    _T.TYPE_BYTES: {"type": "string", "format": "byte"},
    _T.TYPE_DOUBLE: {"type": "number", "format": "double"},
    _T.TYPE_FLOAT: {"type": "number", "format": "float"},
    _T.TYPE_INT32: {"type": "integer", "format": "int32"},
    _T.TYPE_UINT32: {"type": "integer", "format": "uint32"},
    _T.TYPE_INT64: {"type": "string", "format": "int64"},
    _T.TYPE_UINT64: {"type": "string", "format": "uint64"},
}


def read_comments() -> dict[str, str]:
    """Return the comment before each message, field, enum value and method, by full name."""
    described = FileDescriptorSet.FromString(files("slipway").joinpath("protos.binpb").read_bytes())
    comments: dict[str, str] = {}
    for file in described.file:
        names = _names(file)
        for place in file.source_code_info.location:
            name = names.get(tuple(place.path))
            if name is not None and place.leading_comments:
                comments[name] = " ".join(place.leading_comments.split())
    return comments


def _names(file: FileDescriptorProto) -> dict[tuple[int, ...], str]:
    """Return source path → full name; the numbers are fields of descriptor.proto."""
    found: dict[tuple[int, ...], str] = {}
    for index, message in enumerate(file.message_type):
        _message_names(message, file.package, (4, index), found)
    for index, service in enumerate(file.service):
        found[(6, index)] = f"{file.package}.{service.name}"
        for number, method in enumerate(service.method):
            found[(6, index, 2, number)] = f"{file.package}.{service.name}.{method.name}"
    return found


def _message_names(
    message: DescriptorProto, prefix: str, path: tuple[int, ...], found: dict[tuple[int, ...], str]
) -> None:
    full = found[path] = f"{prefix}.{message.name}"
    for index, field in enumerate(message.field):
        found[(*path, 2, index)] = f"{full}.{field.name}"
    for index, nested in enumerate(message.nested_type):
        _message_names(nested, full, (*path, 3, index), found)
    for index, enum in enumerate(message.enum_type):
        found[(*path, 4, index)] = f"{full}.{enum.name}"


class Document:
    """Builds paths and schemas.

    Args:
        bindings: REST forms of RPCs.
        comments: By full name.
    """

    def __init__(self, bindings: Iterable[Binding], comments: dict[str, str]) -> None:
        self._comments = comments
        self.schemas: dict[str, Any] = {"google.rpc.Status": _ERROR}
        self.paths: dict[str, dict[str, Any]] = {}
        for binding in bindings:
            path, parameters = binding.template.openapi()
            self.paths.setdefault(path, {})[binding.verb.lower()] = self._operation(binding, parameters)

    def _operation(self, binding: Binding, parameters: dict[str, str]) -> dict[str, Any]:
        method = binding.method
        comment = self._comments.get(method.full_name, "")
        answer = self._reference(method.output_type)
        content = {"application/json": {"schema": answer}}
        if binding.streams:
            line = {"type": "object", "properties": {"result": answer}}
            content = {"application/x-ndjson": {"schema": line}}
        operation: dict[str, Any] = {
            "tags": [method.containing_service.name],
            "operationId": method.name,
            "summary": comment.partition(". ")[0].rstrip("."),
            "description": comment,
            "parameters": [*self._path_parameters(parameters), *self._query_parameters(binding)],
            "responses": {
                "200": {"description": "Done.", "content": content},
                "default": {
                    "description": "Refused.",
                    "content": {"application/json": {"schema": _ERROR_REF}},
                },
            },
        }
        if binding.body:
            schema = self._body(binding)
            operation["requestBody"] = {"content": {"application/json": {"schema": schema}}, "required": True}
        return operation

    def _path_parameters(self, parameters: dict[str, str]) -> list[dict[str, Any]]:
        return [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            | {"description": f"Part of `{field}`."}
            for name, field in parameters.items()
        ]

    def _query_parameters(self, binding: Binding) -> list[dict[str, Any]]:
        if binding.body == "*":
            return []
        taken = {binding.body, *(path.partition(".")[0] for path in binding.template.variables)}
        return [
            {
                "name": field.json_name,
                "in": "query",
                "schema": self._schema(field),
                "description": self._comments.get(field.full_name, ""),
            }
            for field in binding.method.input_type.fields
            if field.name not in taken
        ]

    def _body(self, binding: Binding) -> dict[str, Any]:
        request = binding.method.input_type
        if binding.body == "*":
            return self._reference(request)
        return self._one(request.fields_by_name[binding.body])

    def _reference(self, message: Descriptor) -> dict[str, Any]:
        name = str(message.full_name)
        if name in _WELL_KNOWN:
            return dict(_WELL_KNOWN[name])
        if name not in self.schemas:
            self.schemas[name] = {}  # taken, should it contain itself
            self.schemas[name] = {
                "type": "object",
                "description": self._comments.get(name, ""),
                "properties": {f.json_name: self._described(f) for f in message.fields},
            }
        return {"$ref": f"#/components/schemas/{name}"}

    def _described(self, field: FieldDescriptor) -> dict[str, Any]:
        schema = self._schema(field)
        comment = self._comments.get(field.full_name, "")
        return {**schema, "description": comment} if comment else schema

    def _schema(self, field: FieldDescriptor) -> dict[str, Any]:
        kind = field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            return {"type": "object", "additionalProperties": self._one(kind.fields_by_name["value"])}
        one = self._one(field)
        return {"type": "array", "items": one} if field.is_repeated else one

    def _one(self, field: FieldDescriptor) -> dict[str, Any]:
        if field.message_type is not None:
            return self._reference(field.message_type)
        if field.enum_type is not None:
            return _enum(field.enum_type)
        return dict(_SCALARS.get(field.type, {"type": "string"}))


def _enum(enum: EnumDescriptor) -> dict[str, Any]:
    return {"type": "string", "enum": [value.name for value in enum.values]}
