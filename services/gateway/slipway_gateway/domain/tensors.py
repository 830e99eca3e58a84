"""Tensors of the KServe v2 REST protocol (JSON and binary extension) to raw bytes and back.

Shapes and sizes are checked before anything is allocated.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from slipway_runtime.errors import InvalidArgument

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_), "UINT8": np.dtype(np.uint8), "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"), "UINT64": np.dtype("<u8"), "INT8": np.dtype(np.int8),
    "INT16": np.dtype("<i2"), "INT32": np.dtype("<i4"), "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"), "FP32": np.dtype("<f4"), "FP64": np.dtype("<f8"),
}  # fmt: skip
_MAX_RANK = 8


@dataclass(frozen=True)
class Tensor:
    """One tensor; `data` is row-major and little-endian."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Wanted:
    """One output asked for."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class InferRequest:
    """One inference call."""

    id: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Wanted, ...]
    parameters: Mapping[str, Any]
    binary_outputs: bool


def parse_request(body: bytes, json_length: int | None) -> InferRequest:
    """Return the request in a body; with `json_length` what follows that many bytes is binary.

    Raises:
        InvalidArgument: Not JSON, a field is missing or of a wrong type, or data does not fit the shape.
    """
    size = len(body) if json_length is None else json_length
    if not 0 <= size <= len(body):
        raise InvalidArgument.field(
            "Inference-Header-Content-Length", f"is {size}, and the body has {len(body)} bytes"
        )
    try:
        document = json.loads(body[:size])
    except (ValueError, RecursionError) as error:
        raise InvalidArgument.field("body", f"is not JSON ({error})") from error
    if not isinstance(document, dict) or not isinstance(document.get("inputs"), list):
        raise InvalidArgument.field("inputs", "is missing; send a list of tensors")
    inputs = _parse_inputs(document["inputs"], memoryview(body)[size:])
    parameters = _mapping(document.get("parameters"), "parameters")
    outputs = tuple(
        Wanted(
            str(_mapping(o, f"outputs[{i}]").get("name", "")), _mapping(o.get("parameters"), f"outputs[{i}]")
        )
        for i, o in enumerate(document.get("outputs") or [])
    )
    return InferRequest(
        id=str(document.get("id", "")),
        inputs=inputs,
        outputs=outputs,
        parameters={k: v for k, v in parameters.items() if k != "binary_data_output"},
        binary_outputs=bool(parameters.get("binary_data_output", False)),
    )


def _parse_inputs(rows: Sequence[Any], binary: memoryview) -> tuple[Tensor, ...]:
    tensors, offset = [], 0
    for index, row in enumerate(rows):
        tensor, used = _parse_tensor(_mapping(row, f"inputs[{index}]"), f"inputs[{index}]", binary[offset:])
        tensors.append(tensor)
        offset += used
    if offset != len(binary):
        raise InvalidArgument.field("body", f"{len(binary)} bytes follow the JSON, the inputs name {offset}")
    return tuple(tensors)


def _parse_tensor(row: Mapping[str, Any], where: str, binary: memoryview) -> tuple[Tensor, int]:
    datatype, shape = _type_and_shape(row, where)
    parameters = dict(_mapping(row.get("parameters"), f"{where}.parameters"))
    size = parameters.pop("binary_data_size", None)
    expected = prod(shape) * DTYPES[datatype].itemsize
    if size is None:
        data, used = _from_json(row.get("data"), datatype, shape, where), 0
    elif not isinstance(size, int) or size != expected or size > len(binary):
        text = f"is {size!r}; {datatype} {list(shape)} has {expected} bytes and {len(binary)} are there"
        raise InvalidArgument.field(f"{where}.parameters.binary_data_size", text)
    else:
        data, used = bytes(binary[:size]), size
    return Tensor(str(row.get("name", "")), datatype, shape, data, parameters), used


def _type_and_shape(row: Mapping[str, Any], where: str) -> tuple[str, tuple[int, ...]]:
    datatype, shape = row.get("datatype"), row.get("shape")
    if datatype not in DTYPES:
        raise InvalidArgument.field(f"{where}.datatype", f"is {datatype!r}; known are {', '.join(DTYPES)}")
    if not isinstance(shape, list) or len(shape) > _MAX_RANK or not all(_is_size(s) for s in shape):
        raise InvalidArgument.field(f"{where}.shape", f"is {shape!r}; send a list of up to {_MAX_RANK} sizes")
    return str(datatype), tuple(shape)


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31


def _from_json(data: Any, datatype: str, shape: tuple[int, ...], where: str) -> bytes:
    if not isinstance(data, list):
        raise InvalidArgument.field(f"{where}.data", "is missing; send a list of values")
    dtype = DTYPES[datatype]
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise InvalidArgument.field(f"{where}.data", "is ragged; every row needs the same length") from error
    if array.size != prod(shape):
        text = f"holds {array.size} values, shape {list(shape)} needs {prod(shape)}"
        raise InvalidArgument.field(f"{where}.data", text)
    _check_values(array, dtype, datatype, where)
    return array.astype(dtype).tobytes()


def _check_values(array: Any, dtype: np.dtype[Any], datatype: str, where: str) -> None:
    allowed = {"b": "b", "u": "iu", "i": "iu", "f": "iuf"}[dtype.kind]
    if array.size and array.dtype.kind not in allowed:
        text = f"holds {array.dtype.name} values; {datatype} cannot hold them"
        raise InvalidArgument.field(f"{where}.data", text)
    if array.size and dtype.kind in "ui":
        bounds = np.iinfo(dtype)
        low, high = int(array.min()), int(array.max())
        if low < bounds.min or high > bounds.max:
            text = f"holds values from {low} to {high}; {datatype} goes from {bounds.min} to {bounds.max}"
            raise InvalidArgument.field(f"{where}.data", text)


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidArgument.field(where, f"is {type(value).__name__}; send an object")
    return value


def render_tensor(tensor: Tensor, *, binary: bool) -> tuple[dict[str, Any], bytes]:
    """Return the JSON row of an output and the bytes that follow the JSON (none unless `binary`)."""
    row: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
    parameters = dict(tensor.parameters)
    if binary:
        row["parameters"] = {**parameters, "binary_data_size": len(tensor.data)}
        return row, tensor.data
    values = np.frombuffer(tensor.data, DTYPES[tensor.datatype])
    row["data"] = values.tolist()
    if parameters:
        row["parameters"] = parameters
    return row, b""
