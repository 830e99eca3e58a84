"""A convolutional net whose compute is negligible, as a bundle: what it measures is the server around it."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from blake3 import blake3
from onnx import TensorProto, helper, numpy_helper

MODEL = "tiny"
SIDE = 28
CLASSES = 10
MAX_BATCH = 64
OUTPUTS = (("probabilities", CLASSES), ("embedding", 16))


def graph(seed: int = 0) -> bytes:
    """Return the net as ONNX: uint8 (n, 28, 28) → probabilities (n, 10), embedding (n, 16)."""
    draw = np.random.default_rng(seed)
    weights = {
        "scale": np.array(1 / 255, np.float32),
        "channel": np.array([1], np.int64),
        "W1": draw.normal(scale=0.5, size=(8, 1, 3, 3)).astype(np.float32),
        "W2": draw.normal(scale=0.2, size=(16, 8, 3, 3)).astype(np.float32),
        "W3": draw.normal(size=(16, CLASSES)).astype(np.float32),
    }
    convolution: dict[str, Any] = {"strides": [2, 2], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "scale"], ["scaled"]),
        helper.make_node("Unsqueeze", ["scaled", "channel"], ["x"]),  # (N, 1, 28, 28)
        helper.make_node("Conv", ["x", "W1"], ["c1"], **convolution),  # (N, 8, 14, 14)
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "W2"], ["c2"], **convolution),  # (N, 16, 7, 7)
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("ReduceMean", ["r2"], ["embedding"], axes=[2, 3], keepdims=0),  # (N, 16)
        helper.make_node("MatMul", ["embedding", "W3"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),  # (N, 10)
    ]
    inputs = [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", SIDE, SIDE])]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]) for name, size in OUTPUTS]
    initial = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "tiny", inputs, outputs, initial),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    return model.SerializeToString()


def session(model: bytes | str) -> onnxruntime.InferenceSession:
    """Return a session of one thread that does not spin: what the front's engine uses, too."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def write_bundle(folder: Path) -> Path:
    """Write the bundle of the net; its golden.npz has 64 images with their answers."""
    folder.mkdir(parents=True)
    model = graph()
    images = np.random.default_rng(1).integers(0, 256, size=(MAX_BATCH, SIDE, SIDE), dtype=np.uint8)
    names = [name for name, _ in OUTPUTS]
    answers = session(model).run(names, {"image": images})
    golden = io.BytesIO()
    np.savez(golden, **{"in.image": images, **{f"out.{n}": a for n, a in zip(names, answers, strict=True)}})
    signature = {
        "inputs": [{"name": "image", "dtype": "UINT8", "shape": [-1, SIDE, SIDE]}],
        "outputs": [{"name": name, "dtype": "FP32", "shape": [-1, size]} for name, size in OUTPUTS],
        "classes": [str(number) for number in range(CLASSES)],
        "max_batch": MAX_BATCH,
    }
    parts = {
        "model.onnx": model,
        "golden.npz": golden.getvalue(),
        "signature.json": json.dumps(signature).encode(),
    }
    listed = {name: {"blake3": blake3(data).hexdigest(), "size": len(data)} for name, data in parts.items()}
    manifest = {"format": 1, "files": listed, "engines": ["onnx"]}
    for name, data in {**parts, "manifest.json": json.dumps(manifest).encode()}.items():
        (folder / name).write_bytes(data)
    return folder
