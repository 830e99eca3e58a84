"""A version's exported graph under ONNX Runtime, with what its bundle says of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from slipway.client.errors import SlipwayError
from slipway.client.prediction import DTYPES

Arrays = dict[str, NDArray[Any]]
# As bundles are written: sums in another order differ in the last bits; more is another model. Relative to
# the largest value of an output, at least 1.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Tensor:
    """A tensor of a signature: `shape` without the batch, `dtype` by its KServe name."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Signature:
    """What goes in and comes out."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    classes: tuple[str, ...]
    max_batch: int


def read_signature(files: Mapping[str, bytes]) -> Signature:
    """Return the signature in a bundle.

    Raises:
        SlipwayError: It is not there or cannot be read.
    """
    try:
        document = json.loads(files["signature.json"])
        return Signature(
            inputs=tuple(_tensor(row) for row in document["inputs"]),
            outputs=tuple(_tensor(row) for row in document["outputs"]),
            classes=tuple(map(str, document["classes"])),
            max_batch=int(document["max_batch"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        text = f"the bundle's signature.json cannot be read ({type(error).__name__}: {error}); train again"
        raise SlipwayError("DATA_LOSS", "SIGNATURE_REFUSED", text) from error


def _tensor(row: Mapping[str, Any]) -> Tensor:
    return Tensor(str(row["name"]), str(row["dtype"]), tuple(int(size) for size in row["shape"][1:]))


def read_golden(files: Mapping[str, bytes]) -> tuple[Arrays, Arrays]:
    """Return the golden inputs and outputs by name; a pickle in them is refused by numpy.

    Raises:
        SlipwayError: The bundle has none.
    """
    if "golden.npz" not in files:
        raise SlipwayError("FAILED_PRECONDITION", "NO_GOLDEN", "the bundle has no golden.npz; train again")
    with np.load(BytesIO(files["golden.npz"]), allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    return tuple(  # type: ignore[return-value]
        {name.partition(".")[2]: array for name, array in arrays.items() if name.startswith(prefix)}
        for prefix in ("in.", "out.")
    )


class Engine:
    """The graph, ready to answer.

    Args:
        files: Of the bundle.

    Raises:
        SlipwayError: There is no graph, or ONNX Runtime is not installed.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            text = "ONNX Runtime is not installed; `pip install 'slipway[checks]'`"
            raise SlipwayError("FAILED_PRECONDITION", "NO_ENGINE", text) from error
        if "model.onnx" not in files:
            text = "the bundle has no model.onnx; train again with a task that exports it"
            raise SlipwayError("FAILED_PRECONDITION", "NO_ENGINE", text)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            files["model.onnx"], options, providers=["CPUExecutionProvider"]
        )
        self.outputs = [one.name for one in self._session.get_outputs()]
        self.inputs = [one.name for one in self._session.get_inputs()]

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Return outputs by name."""
        answers = self._session.run(None, dict(inputs))
        return {name: np.asarray(answer) for name, answer in zip(self.outputs, answers, strict=True)}


def shape_faults(signature: Signature, inputs: Arrays, outputs: Arrays) -> list[str]:
    """Return what does not fit the signature, one sentence each."""
    faults = []
    for kind, tensors, arrays in (
        ("input", signature.inputs, inputs),
        ("output", signature.outputs, outputs),
    ):
        named = {tensor.name for tensor in tensors}
        faults += [f"{kind} {name!r} is not in the signature" for name in sorted(arrays.keys() - named)]
        for tensor in tensors:
            array = arrays.get(tensor.name)
            if array is None:
                faults.append(f"{kind} {tensor.name!r} of the signature is missing")
            elif array.dtype != np.dtype(DTYPES.get(tensor.dtype, "V1")):
                faults.append(f"{kind} {tensor.name!r} is {array.dtype}, the signature says {tensor.dtype}")
            elif not _fits(array.shape[1:], tensor.shape):
                faults.append(
                    f"{kind} {tensor.name!r} has rows of {array.shape[1:]}, the signature says {tensor.shape}"
                )
    return faults


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(b in (-1, a) for a, b in zip(shape, wanted, strict=True))


def relative_difference(got: Arrays, wanted: Arrays) -> float:
    """Return the largest difference over all outputs, relative to the output's largest value, at least 1.

    Infinite where names or shapes differ; NaN where a value is NaN.
    """
    if got.keys() != wanted.keys() or not wanted:
        return float("inf")
    worst = 0.0
    for name, want in wanted.items():
        if got[name].shape != want.shape:
            return float("inf")
        difference = float(np.abs(got[name].astype(np.float64) - want).max(initial=0.0))
        scaled = difference / max(1.0, float(np.abs(want).max(initial=0.0)))
        worst = scaled if not scaled <= worst else worst  # NaN stays
        if np.isnan(worst):
            return worst
    return worst


__all__ = [
    "TOLERANCE",
    "Engine",
    "Signature",
    "Tensor",
    "read_golden",
    "read_signature",
    "relative_difference",
    "shape_faults",
]
