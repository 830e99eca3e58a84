"""What a request may hold: each wrong tensor is refused by field, before anything large is made."""

import re
import tracemalloc
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from slipway_inference.domain import (
    DATATYPES,
    BundleRefused,
    CapturePolicy,
    PredictionIds,
    Signature,
    Tensor,
    TensorSpec,
    checked_rows,
    chosen_outputs,
)
from slipway_runtime.errors import InvalidArgument
from tritonclient.grpc import service_pb2

BOTH = Signature(
    (TensorSpec("image", "UINT8", (-1, 2, 2)), TensorSpec("scale", "FP32", (-1, 1))),
    (TensorSpec("y", "FP32", (-1, 3)), TensorSpec("z", "FP32", (-1, 2))),
    max_rows=4,
)
SCALE = Tensor("scale", "FP32", (1, 1), raw=bytes(4))


def image(shape: tuple[int, ...] = (1, 2, 2), datatype: str = "UINT8", **content: Any) -> Tensor:
    return Tensor("image", datatype, shape, **(content or {"raw": bytes(4)}))


def refusal(*tensors: Tensor) -> tuple[str, str]:
    """Return the field that is refused and what is said of it."""
    with pytest.raises(InvalidArgument) as caught:
        checked_rows(BOTH, tensors)
    assert caught.value.reason == "TENSOR_INVALID"
    (violation,) = caught.value.violations
    return violation.field, violation.description


def test_inputs_come_out_in_the_signatures_order_whatever_order_they_came_in() -> None:
    scale = Tensor("scale", "FP32", (2, 1), typed={"fp32_contents": [0.5, 1.5]})

    rows, parts = checked_rows(BOTH, [scale, image((2, 2, 2), raw=bytes(range(8)))])

    assert rows == 2
    assert parts == [bytes(range(8)), np.array([0.5, 1.5], "<f4").tobytes()]


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((2, 2), r"is \[2, 2\]; send \['rows', 2, 2\]"),
        ((1, 2, 3), r"is \[1, 2, 3\]"),
        ((1, 4), r"is \[1, 4\]"),
        ((0, 2, 2), "1 row or more"),
        ((-1, 2, 2), "1 row or more"),
        ((5, 2, 2), "has 5 rows; send 4 at most"),
        ((10**12, 2, 2), "send 4 at most"),
        ((1, 10**9, 10**9), "send"),
    ],
)
def test_a_shape_that_is_not_the_signatures_is_refused(shape: tuple[int, ...], said: str) -> None:
    field, description = refusal(image(shape), SCALE)

    assert field == "inputs['image'].shape"
    assert re.search(said, description)


@pytest.mark.parametrize("datatype", ["FP32", "INT8", "BYTES", "uint8", ""])
def test_a_datatype_that_is_not_the_signatures_is_refused(datatype: str) -> None:
    field, description = refusal(image(datatype=datatype), SCALE)

    assert field == "inputs['image'].datatype"
    assert description.endswith("send UINT8")


@pytest.mark.parametrize("size", [0, 3, 5, 16])
def test_raw_bytes_of_another_size_are_refused_with_both_sizes(size: int) -> None:
    field, description = refusal(image(raw=bytes(size)), SCALE)

    assert field == "inputs['image'].raw_input_contents"
    assert f"has {size} bytes" in description
    assert description.endswith("is 4")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({}, "have 0 values"),
        ({"uint_contents": [1, 2, 3]}, "have 3 values"),
        ({"uint_contents": [1] * 5}, "have 5 values"),
        ({"int_contents": [1, 2, 3, 4]}, "UINT8 goes to uint_contents"),
        ({"uint_contents": [1, 2, 3, 4], "fp32_contents": [1.0]}, "UINT8 goes to uint_contents"),
        ({"uint_contents": [1, 2, 3, 256]}, "do not fit UINT8"),
    ],
)
def test_typed_values_of_another_field_number_or_range_are_refused(
    typed: Mapping[str, Sequence[Any]], said: str
) -> None:
    field, description = refusal(image(typed=typed), SCALE)

    assert field == "inputs['image'].contents"
    assert said in description


def test_inputs_of_unequal_rows_are_refused_at_the_second() -> None:
    field, description = refusal(image((2, 2, 2), raw=bytes(8)), SCALE)

    assert field == "inputs['scale'].shape"
    assert "has 1 rows where the inputs before it have 2" in description


@pytest.mark.parametrize(
    ("tensors", "field", "said"),
    [
        ([], "inputs", "'image' is missing"),
        ([image()], "inputs", "'scale' is missing"),
        ([image(), SCALE, SCALE], "inputs", "came twice"),
        ([Tensor("imgae", "UINT8", (1, 2, 2)), SCALE], "inputs['imgae']", "did you mean 'image'"),
    ],
    ids=["none", "one", "three", "misspelt"],
)
def test_inputs_that_are_missing_doubled_or_unknown_are_named(
    tensors: list[Tensor], field: str, said: str
) -> None:
    refused, description = refusal(*tensors)

    assert refused == field
    assert said in description


def test_nothing_of_the_claimed_size_is_made_before_the_refusal() -> None:
    wide = Signature((TensorSpec("x", "FP64", (-1, 1 << 20)),), BOTH.outputs, max_rows=64)
    claims = [
        Tensor("x", "FP64", (64, 1 << 20), raw=b"few"),
        Tensor("x", "FP64", (64, 1 << 20), typed={"fp64_contents": [1.0]}),
    ]  # 512 MiB each, if one believed them

    tracemalloc.start()
    for claim in claims:
        with pytest.raises(InvalidArgument):
            checked_rows(wide, [claim])
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak_bytes < 1 << 20


@pytest.mark.parametrize("datatype", sorted(name for name, (_, field) in DATATYPES.items() if field))
def test_typed_contents_of_a_real_message_become_the_bytes_of_their_datatype(datatype: str) -> None:
    dtype, field = DATATYPES[datatype]
    signature = Signature((TensorSpec("x", datatype, (-1, 2)),), BOTH.outputs, max_rows=2)
    bounds = np.iinfo(dtype) if dtype.kind in "iu" else None
    values = [int(bounds.min), int(bounds.max)] if bounds else [0, 1]
    contents = service_pb2.InferTensorContents(**{field: values})

    rows, parts = checked_rows(
        signature, [Tensor("x", datatype, (1, 2), typed={field: getattr(contents, field)})]
    )

    assert rows == 1
    assert parts == [np.array(values, dtype).tobytes()]


def test_half_floats_come_raw_or_not_at_all() -> None:
    signature = Signature((TensorSpec("x", "FP16", (-1, 1)),), BOTH.outputs, max_rows=2)

    assert checked_rows(signature, [Tensor("x", "FP16", (1, 1), raw=bytes(2))]) == (1, [bytes(2)])
    with pytest.raises(InvalidArgument, match="FP16 goes to raw_input_contents"):
        checked_rows(signature, [Tensor("x", "FP16", (1, 1), typed={"fp32_contents": [1.0]})])


def test_outputs_come_as_asked_and_all_when_none_is_asked() -> None:
    assert chosen_outputs(BOTH, []) == [0, 1]
    assert chosen_outputs(BOTH, ["z", "y"]) == [1, 0]
    with pytest.raises(InvalidArgument, match="the outputs are y, z"):
        chosen_outputs(BOTH, ["y", "x"])


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"inputs": [], "outputs": [], "max_batch": 1},
        {"inputs": "x", "outputs": "y", "max_batch": 1},
        {"inputs": [{"name": "x", "dtype": "BYTES", "shape": [-1]}], "outputs": [], "max_batch": 1},
        {"inputs": [{"name": "x", "dtype": "FP32", "shape": [-1, 0]}], "outputs": [], "max_batch": 1},
        {"inputs": [{"name": "x", "dtype": "FP32", "shape": [4, 2]}], "outputs": [], "max_batch": 1},
        {"inputs": [{"name": "x", "dtype": "FP32", "shape": [-1, -1]}], "outputs": [], "max_batch": 1},
        {"inputs": [{"name": "x", "dtype": "FP32", "shape": []}], "outputs": [], "max_batch": 1},
        {
            "inputs": [{"name": "x", "dtype": "FP32", "shape": [-1]}],
            "outputs": [{"name": "y", "dtype": "FP32", "shape": [-1]}],
            "max_batch": 0,
        },
    ],
    ids=["empty", "no-tensors", "text", "bytes", "zero", "fixed-batch", "open-size", "scalar", "no-rows"],
)
def test_a_signature_that_cannot_be_served_is_refused(document: Mapping[str, Any]) -> None:
    with pytest.raises(BundleRefused):
        Signature.from_json(document)


def test_a_prediction_id_is_a_uuid_of_version_7_with_the_bundles_first_characters() -> None:
    ids = PredictionIds("abcdef0123456789")

    made = [ids() for _ in range(2000)]

    found = uuid.UUID(made[0][:36])
    assert (found.version, found.variant) == (7, uuid.RFC_4122)
    assert {id[36:] for id in made} == {"-abcdef01"}
    assert len(set(made)) == len(made)
    assert [id[:13] for id in made] == sorted(id[:13] for id in made)


@pytest.mark.parametrize(
    ("text", "draw", "rows"),
    [
        ("none", 0.0, []),
        ("all", 0.99, [0, 1, 2]),
        ("sample:0.25", 0.24, [0, 1, 2]),
        ("sample:0.25", 0.25, []),
        ("sample:0", 0.0, []),
        ("low_confidence:0.6", 0.0, [1, 2]),
        ("low_confidence:0.5", 0.0, [2]),
    ],
)
def test_a_capture_policy_keeps_the_rows_that_it_names(text: str, draw: float, rows: list[int]) -> None:
    scores = np.array([[0.9, 0.1], [0.5, 0.5], [0.3, 0.4]], np.float32)

    assert CapturePolicy.parse(text).rows(scores, draw) == rows


@pytest.mark.parametrize(
    "text", ["", "some", "sample", "sample:x", "sample:1.1", "sample:-1", "none:1", "all:1"]
)
def test_a_capture_policy_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"sample|none|float"):
        CapturePolicy.parse(text)
