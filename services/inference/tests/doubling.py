"""A bundle of a graph that doubles its input, and the ways in which one can be wrong."""

import asyncio
import functools
import io
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, ParamSpec

import numpy as np
from blake3 import blake3
from onnx import TensorProto, helper
from slipway_inference.domain import Signature

P = ParamSpec("P")
DOCUMENT = {
    "inputs": [{"name": "x", "dtype": "FP32", "shape": [-1, 2]}],
    "outputs": [{"name": "y", "dtype": "FP32", "shape": [-1, 2]}],
    "classes": ["left", "right"],
    "max_batch": 8,
}
SIGNATURE = Signature.from_json(DOCUMENT)


def in_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a coroutine test in an event loop of its own."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


def graph(*, mean_of_batch: bool = False) -> bytes:
    """Return y = x + x, or one row for the whole batch: its mean."""
    node = helper.make_node("Add", ["x", "x"], ["y"])
    if mean_of_batch:
        node = helper.make_node("ReduceMean", ["x"], ["y"], axes=[0], keepdims=1)
    sides = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2])] for name in ("x", "y")
    ]  # (N, 2) float32
    model = helper.make_model(
        helper.make_graph([node], "doubling", *sides),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    return bytes(model.SerializeToString())


def golden(rows: int = 8, factor: float = 2.0) -> bytes:
    """Return golden.npz of so many rows."""
    x = np.arange(rows * 2, dtype=np.float32).reshape(rows, 2)
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {"in.x": x, "out.y": x * np.float32(factor)}
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def parts(**changed: bytes) -> dict[str, bytes]:
    """Return the files of a bundle but for its manifest; `golden__npz=…` changes golden.npz."""
    good = {"model.onnx": graph(), "golden.npz": golden(), "signature.json": json.dumps(DOCUMENT).encode()}
    return {**good, **{name.replace("__", "."): data for name, data in changed.items()}}


def with_manifest(files: dict[str, bytes]) -> tuple[str, dict[str, bytes]]:
    """Return the bundle's digest and all of its files, the manifest among them."""
    listed = {name: {"blake3": blake3(data).hexdigest(), "size": len(data)} for name, data in files.items()}
    digest = blake3(json.dumps(listed, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    manifest = {"format": 1, "files": listed, "engines": ["onnx"]}
    return digest, {**files, "manifest.json": json.dumps(manifest).encode()}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files into a new folder and return it."""
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder
