"""Bundles for tests: a real small graph, and the ways in which one can be wrong."""

import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from blake3 import blake3
from onnx import TensorProto, helper
from slipway.registry.v1 import registry_pb2 as pb

CLASSES = ["a", "b", "c"]


def graph(seed: int = 0) -> bytes:
    """Return a linear classifier of 4 uint8 values into 3 classes."""
    weights = np.random.default_rng(seed).normal(size=(4, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "W"], ["embedding"]),
        helper.make_node("Softmax", ["embedding"], ["probabilities"], axis=1),
    ]
    inputs = [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", 4])]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3])
        for name in ("probabilities", "embedding")
    ]
    initial = [onnx.numpy_helper.from_array(weights, "W")]
    model = helper.make_model(
        helper.make_graph(nodes, "linear", inputs, outputs, initial),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    return model.SerializeToString()


def files(seed: int = 0) -> dict[str, bytes]:
    """Return the files of a good bundle but for its manifest."""
    import onnxruntime

    model = graph(seed)
    images = np.random.default_rng(1).integers(0, 4, size=(8, 4), dtype=np.uint8)
    names = ["probabilities", "embedding"]
    answers = onnxruntime.InferenceSession(model).run(names, {"image": images})
    golden = io.BytesIO()
    outputs = {f"out.{name}": answer for name, answer in zip(names, answers, strict=True)}
    np.savez(golden, **{"in.image": images, **outputs})
    signature = {
        "inputs": [{"name": "image", "dtype": "UINT8", "shape": [-1, 4]}],
        "outputs": [{"name": name, "dtype": "FP32", "shape": [-1, 3]} for name in names],
        "classes": CLASSES,
        "max_batch": 16,
    }
    evaluation = {"split": "test", "example_count": 10, "metrics": {"accuracy": 0.9}, "classes": CLASSES}
    return {
        "model.onnx": model,
        "golden.npz": golden.getvalue(),
        "signature.json": json.dumps(signature).encode(),
        "evaluation.json": json.dumps(evaluation).encode(),
    }


def with_manifest(parts: dict[str, bytes]) -> tuple[str, dict[str, bytes]]:
    """Return the bundle's name and all of its files, the manifest among them."""
    listed = {n: {"blake3": blake3(d).hexdigest(), "size": len(d)} for n, d in parts.items()}
    canonical = json.dumps(listed, sort_keys=True, separators=(",", ":")).encode()
    manifest = {"format": 1, "files": listed, "engines": ["onnx"], "parity": {"max_abs_diff": 1e-6}}
    name = f"bundles/{blake3(canonical).hexdigest()}"
    return name, {**parts, "manifest.json": json.dumps(manifest).encode()}


def upload(stub: Any, name: str, parts: dict[str, bytes]) -> Any:
    """Send a bundle."""

    def requests() -> Iterator[Any]:
        yield pb.UploadBundleRequest(header=pb.BundleHeader(name=name))
        for file, data in parts.items():
            yield pb.UploadBundleRequest(file=pb.BundleFile(name=file, size_bytes=len(data)))
            for start in range(0, len(data), 1 << 20):
                yield pb.UploadBundleRequest(chunk=data[start : start + (1 << 20)])

    return stub.UploadBundle(requests(), timeout=60)
