"""KServe v2 tensors in JSON and in the binary extension."""

import json

import numpy as np
import pytest
from slipway_gateway.domain.tensors import DTYPES, Tensor, parse_request, render_tensor
from slipway_runtime.errors import InvalidArgument


def body(**tensor: object) -> bytes:
    row = {"name": "x", "datatype": "UINT8", "shape": [1, 2], "data": [1, 2]} | tensor
    return json.dumps({"inputs": [row]}).encode()


@pytest.mark.parametrize("datatype", DTYPES)
def test_values_survive_json_and_binary(datatype: str) -> None:
    data = np.array([[0, 1], [1, 0]], DTYPES[datatype])
    tensor = Tensor("x", datatype, (2, 2), data.tobytes())

    row, _ = render_tensor(tensor, binary=False)
    as_json = parse_request(json.dumps({"inputs": [row]}).encode(), None).inputs[0]
    row, tail = render_tensor(tensor, binary=True)
    head = json.dumps({"inputs": [row]}).encode()
    as_binary = parse_request(head + tail, len(head)).inputs[0]

    assert as_json.data == as_binary.data == tensor.data


@pytest.mark.parametrize(
    ("tensor", "field"),
    [
        ({"shape": [1, 3]}, "inputs[0].data"),
        ({"shape": [1, -2]}, "inputs[0].shape"),
        ({"shape": "12"}, "inputs[0].shape"),
        ({"datatype": "UINT9"}, "inputs[0].datatype"),
        ({"data": [1, 256]}, "inputs[0].data"),
        ({"data": [1, -1]}, "inputs[0].data"),
        ({"data": [1.5, 2]}, "inputs[0].data"),
        ({"data": [[1], [2, 3]]}, "inputs[0].data"),
        ({"data": None}, "inputs[0].data"),
        ({"shape": [1 << 30, 1 << 30], "data": [1]}, "inputs[0].data"),
        ({"parameters": {"binary_data_size": 3}}, "inputs[0].parameters.binary_data_size"),
        ({"parameters": 3}, "inputs[0].parameters"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_allocated(
    tensor: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse_request(body(**tensor), None)

    assert refused.value.violations[0].field == field


def test_bytes_that_no_input_names_are_refused() -> None:
    head = body()

    with pytest.raises(InvalidArgument, match="follow the JSON"):
        parse_request(head + b"xyz", len(head))
