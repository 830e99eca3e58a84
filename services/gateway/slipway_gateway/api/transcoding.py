"""REST requests to RPC requests and back, by the google.api.http annotations (google/api/http.proto)."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from google.api import annotations_pb2, http_pb2
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from slipway_runtime.errors import InvalidArgument, near

from slipway_gateway.domain.template import PathTemplate

_SCALAR_MESSAGES = {
    "google.protobuf.Timestamp", "google.protobuf.Duration", "google.protobuf.FieldMask",
    "google.protobuf.BoolValue", "google.protobuf.Int32Value", "google.protobuf.Int64Value",
    "google.protobuf.StringValue", "google.protobuf.DoubleValue", "google.protobuf.FloatValue",
}  # fmt: skip


@dataclass(frozen=True)
class Binding:
    """One REST form of one RPC.

    `body` is `*` (the whole request), a field, or nothing.
    """

    method: MethodDescriptor
    verb: str
    template: PathTemplate
    body: str

    @property
    def streams(self) -> bool:
        """Whether the answer is a stream, one JSON object per line."""
        return bool(self.method.server_streaming)

    def request(self, path: dict[str, str], query: Sequence[tuple[str, str]], body: bytes) -> Message:
        """Return the RPC's request.

        Raises:
            InvalidArgument: The body is not JSON, or a field is unknown or has a wrong value.
        """
        document = self._from_body(body)
        for name, value in query:
            _assign(document, self.method.input_type, name, value, whole=name)
        _infer_mask(document, self.method.input_type, self.body)
        for name, value in path.items():
            _assign(document, self.method.input_type, name, value, whole=name)
        message = GetMessageClass(self.method.input_type)()
        try:
            return json_format.ParseDict(document, message)
        except (json_format.ParseError, UnicodeEncodeError) as error:
            raise InvalidArgument.field("body", " ".join(str(error).split())) from error
        except RecursionError as error:
            raise InvalidArgument.field("body", "is nested too deep; flatten it") from error

    def _from_body(self, body: bytes) -> dict[str, Any]:
        if not body:
            return {}
        if not self.body:
            raise InvalidArgument.field("body", f"{self.verb} {self.template.text} takes none; use the query")
        try:
            parsed = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise InvalidArgument.field("body", f"is not JSON ({error})") from error
        if not isinstance(parsed, dict):
            raise InvalidArgument.field("body", f"is a JSON {type(parsed).__name__}; send an object")
        return _canonical(parsed, self.method.input_type) if self.body == "*" else {self.body: parsed}


def bindings(services: Iterable[ServiceDescriptor]) -> list[Binding]:
    """Return every annotated RPC's REST forms, the more literal path first."""
    found = []
    for service in services:
        for method in service.methods:
            rule = method.GetOptions().Extensions[annotations_pb2.http]
            for one in (rule, *rule.additional_bindings):
                pattern = one.WhichOneof("pattern")
                if pattern and not method.client_streaming:
                    found.append(_binding(method, one, pattern))
    return sorted(found, key=lambda binding: binding.template.order)


def _binding(method: MethodDescriptor, rule: http_pb2.HttpRule, pattern: str) -> Binding:
    verb, path = pattern.upper(), str(getattr(rule, pattern))
    if pattern == "custom":
        verb, path = rule.custom.kind, rule.custom.path
    return Binding(method, verb, PathTemplate(path), rule.body)


def _canonical(parsed: dict[str, Any], message: Descriptor) -> dict[str, Any]:
    """Return the object with the proto's own names at the top, so that path fields replace theirs."""
    return {_name_of(message, key): value for key, value in parsed.items()}


def _name_of(message: Descriptor, key: str) -> str:
    field = _field(message, key)
    return key if field is None else str(field.name)


def _field(message: Descriptor, key: str) -> FieldDescriptor | None:
    if key in message.fields_by_name:
        return message.fields_by_name[key]
    return message.fields_by_camelcase_name.get(key)


def _assign(document: dict[str, Any], message: Descriptor, path: str, text: str, *, whole: str) -> None:
    head, _, rest = path.partition(".")
    field = _field(message, head)
    if field is None:
        names = [f.json_name for f in message.fields]
        matches = near(head, names) or names
        raise InvalidArgument.field(whole, f"is not a parameter here; did you mean {', '.join(matches)}?")
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        value_field = kind.fields_by_name["value"]
        document.setdefault(field.name, {})[rest] = _value(value_field, text, whole)
    elif rest and kind is not None:
        key = field.json_name if field.json_name in document else field.name
        inner = document.setdefault(key, {})
        if not isinstance(inner, dict):
            raise InvalidArgument.field(whole, f"{head!r} is not an object in the body")
        _assign(inner, kind, rest, text, whole=whole)
    elif field.is_repeated:
        document.setdefault(field.name, []).append(_value(field, text, whole))
    else:
        if field.json_name != field.name:
            document.pop(field.json_name, None)
        document[field.name] = _value(field, text, whole)


def _value(field: FieldDescriptor, text: str, whole: str) -> Any:
    if field.message_type is not None and field.message_type.full_name not in _SCALAR_MESSAGES:
        raise InvalidArgument.field(whole, f"is an object; name one of its fields, as in `{whole}.field=…`")
    if field.type == FieldDescriptor.TYPE_BOOL:
        if text not in {"true", "false"}:
            raise InvalidArgument.field(whole, f"is {text!r}; send true or false")
        return text == "true"
    if field.type == FieldDescriptor.TYPE_ENUM and text.lstrip("-").isdecimal():
        return int(text)
    if field.message_type is not None and field.message_type.full_name == "google.protobuf.FieldMask":
        return ",".join(_camel(path) for path in text.split(","))
    return text


def _infer_mask(document: dict[str, Any], message: Descriptor, body: str) -> None:
    """Let the body's own fields be the mask when a PATCH names none (AIP-134)."""
    if "update_mask" not in message.fields_by_name or "update_mask" in document or body in {"", "*"}:
        return
    kind = message.fields_by_name[body].message_type
    assert kind is not None, f"{message.full_name}.{body} is a body and no message"
    names = [_name_of(kind, key) for key in document.get(body, {})]
    document["update_mask"] = ",".join(_camel(name) for name in names if name not in {"name", "etag"})


def _camel(name: str) -> str:
    first, *others = name.strip().split("_")
    return first + "".join(word.capitalize() for word in others)


def to_json(message: Message) -> dict[str, Any]:
    """Return a message as JSON, zeros included, so that a weight of 0 is seen."""
    return json_format.MessageToDict(message, always_print_fields_with_no_presence=True)
