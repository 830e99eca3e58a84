"""Inference through the REST door: KServe v2 with binary tensors."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from slipway.client.errors import SlipwayError
from slipway.client.tokens import Rest

_LENGTH = "Inference-Header-Content-Length"
DTYPES = {
    "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "i1",
    "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
_NAMES = {np.dtype(code).str: name for name, code in DTYPES.items()}


@dataclass(frozen=True)
class Prediction:
    """What an endpoint answered.

    `model_version` is the number of the version that did; `outputs` are arrays by name.
    """

    id: str
    model_version: str
    outputs: Mapping[str, np.ndarray]
    trace_id: str
    parameters: Mapping[str, Any]

    @property
    def rows(self) -> list[str]:
        """Ids of the rows, `<id>.0`, `<id>.1`, …, as labels and lineage name them."""
        count = max((len(array) for array in self.outputs.values()), default=0)
        return [f"{self.id}.{row}" for row in range(count)]


def bucket_of(endpoint: str, key: str) -> str:
    """Return the bucket, `00` to `99`, of a key at an endpoint: what gRPC callers send as `slipway-bucket`.

    The first eight bytes of SHA-256 over `endpoint/key`, as a number, by 100; REST callers send `slipway-key`
    and the gateway does the same.
    """
    digest = hashlib.sha256(f"{endpoint.rpartition('/')[2]}/{key}".encode()).digest()
    return f"{int.from_bytes(digest[:8]) % 100:02d}"


def infer(
    rest: Rest,
    token: str,
    endpoint: str,
    inputs: Mapping[str, np.ndarray],
    version: str = "",
    key: str = "",
) -> Prediction:
    """Send tensors to an endpoint.

    Args:
        rest: The REST door.
        token: The caller's.
        endpoint: Its name.
        inputs: Arrays by the model's names.
        version: `v2` or `2` picks one of those that it serves, as a tester.
        key: Whose request it is, such as a user's id in ASCII: a key stays with its version during a canary.

    Raises:
        SlipwayError: A dtype has no KServe name, or the endpoint refused.
    """
    rows, payload = [], b""
    for name, array in inputs.items():
        raw = np.ascontiguousarray(array).tobytes()
        row = {"name": name, "datatype": _datatype(name, array), "shape": list(array.shape)}
        rows.append({**row, "parameters": {"binary_data_size": len(raw)}})
        payload += raw
    head = json.dumps({"inputs": rows, "parameters": {"binary_data_output": True}}).encode()
    headers = {_LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}
    if key:
        headers["slipway-key"] = _ascii(key)
    at = f"/versions/{quote(version, safe='')}" if version else ""
    path = f"/v2/models/{endpoint}{at}/infer"
    response = rest.send("POST", path, token=token, content=head + payload, headers=headers)
    return _read(response.content, response.headers)


def _ascii(key: str) -> str:
    if not key.isascii() or not key.isprintable():
        text = f"the key {key!r} does not go into a header; use printable ASCII, such as a digest of it"
        raise SlipwayError("INVALID_ARGUMENT", "INVALID_FIELD", text)
    return key


def _datatype(name: str, array: np.ndarray) -> str:
    datatype = _NAMES.get(array.dtype.newbyteorder("<").str if array.dtype.itemsize > 1 else array.dtype.str)
    if datatype is None:
        text = f"input {name!r} is {array.dtype}; send one of {', '.join(DTYPES)}"
        raise SlipwayError("INVALID_ARGUMENT", "INVALID_FIELD", text)
    return datatype


def _read(body: bytes, headers: Mapping[str, str]) -> Prediction:
    size = int(headers.get(_LENGTH, len(body)))
    document, binary = json.loads(body[:size]), body[size:]
    outputs, offset = {}, 0
    for row in document["outputs"]:
        dtype, length = np.dtype(DTYPES[row["datatype"]]), row.get("parameters", {}).get("binary_data_size")
        if length is None:
            array = np.asarray(row["data"], dtype)
        else:
            array = np.frombuffer(binary[offset : offset + length], dtype)
            offset += length
        outputs[row["name"]] = array.reshape(row["shape"])
    parameters = document.get("parameters", {})
    return Prediction(
        id=str(parameters.get("prediction_id", document.get("id", ""))),
        model_version=str(document.get("model_version", "")),
        outputs=outputs,
        trace_id=headers.get("slipway-trace-id", ""),
        parameters=parameters,
    )


def image_tensor(path: Path, shape: list[int]) -> np.ndarray:
    """Return an image file as (H, W, C) uint8, resized when it has another size.

    Args:
        path: PNG or JPEG.
        shape: (H, W, C) that the model takes; C is 1 or 3.

    Raises:
        SlipwayError: The file is not an image, or the model takes no images.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        text = f"{path} cannot be read ({error.strerror or error}); name a PNG or JPEG file"
        raise SlipwayError("INVALID_ARGUMENT", "NOT_AN_IMAGE", text) from error
    return decode_image(data, shape, name=str(path))


def decode_image(data: bytes, shape: list[int], *, name: str) -> np.ndarray:
    """Return an image's bytes as (H, W, C) uint8, resized when it has another size.

    Args:
        data: A PNG or JPEG file.
        shape: (H, W, C) that the model takes; C is 1 or 3.
        name: What errors call it.

    Raises:
        SlipwayError: These are no image's bytes, or the model takes no images.
    """
    from PIL import Image, UnidentifiedImageError

    if len(shape) != 3 or shape[2] not in {1, 3}:
        text = f"the model takes rows of shape {shape}, not images; send tensors with `Client.infer`"
        raise SlipwayError("FAILED_PRECONDITION", "NOT_AN_IMAGE_MODEL", text)
    height, width, channels = shape
    try:
        with Image.open(BytesIO(data)) as image:
            converted = image.convert("L" if channels == 1 else "RGB")
            if converted.size != (width, height):
                converted = converted.resize((width, height), Image.Resampling.BILINEAR)
            return np.asarray(converted, np.uint8).reshape(height, width, channels)
    except UnidentifiedImageError as error:
        raise SlipwayError(
            "INVALID_ARGUMENT", "NOT_AN_IMAGE", f"{name} is not an image; send a PNG or JPEG file"
        ) from error
    except OSError as error:
        text = f"{name} is damaged ({error}); send a whole PNG or JPEG file"
        raise SlipwayError("INVALID_ARGUMENT", "NOT_AN_IMAGE", text) from error
