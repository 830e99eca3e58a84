"""Bundles of small graphs over images, made without a training: what each answers is known by its seed."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper
from slipway.task.bundle import write_manifest

NAMES = ["probabilities", "embedding"]


def graph(seed: int, shape: tuple[int, int, int], classes: int, repeats: int = 0) -> bytes:
    """Return a linear classifier of uint8 images (H, W, C); `repeats` layers of 512 units make it slow."""
    random = np.random.default_rng(seed)
    size = int(np.prod(shape))
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["float"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "In"], ["h0"]),
        *(
            node
            for number in range(repeats)
            for node in (
                helper.make_node("MatMul", [f"h{number}", "Mid"], [f"m{number}"]),
                helper.make_node("Tanh", [f"m{number}"], [f"h{number + 1}"]),
            )
        ),
        helper.make_node("Identity", [f"h{repeats}"], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "Out"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    width = 512 if repeats else 8
    weights = {"In": (size, width), "Out": (width, classes)} | ({"Mid": (width, width)} if repeats else {})
    initial = [
        onnx.numpy_helper.from_array((random.normal(size=of) / of[0]).astype(np.float32), name)
        for name, of in weights.items()
    ]
    inputs = [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", *shape])]
    outputs = [
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", classes]),
        helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", width]),
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "linear", inputs, outputs, initial),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    return bytes(model.SerializeToString())


def answers(model: bytes, images: NDArray[np.uint8], rows: int = 64) -> list[NDArray[np.float32]]:
    """Return probabilities and embedding as ONNX Runtime gives them, in batches of `rows`."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options)
    parts = [session.run(NAMES, {"image": images[i : i + rows]}) for i in range(0, len(images), rows)]
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def image_bundle(
    folder: Path,
    classes: Sequence[str],
    *,
    seed: int = 0,
    shape: tuple[int, int, int] = (6, 6, 1),
    repeats: int = 0,
) -> tuple[str, dict[str, bytes]]:
    """Write a bundle into an empty folder; return its name and its files."""
    folder.mkdir(parents=True)
    model = graph(seed, shape, len(classes), repeats)
    golden = np.random.default_rng(1).integers(0, 255, size=(4, *shape), dtype=np.uint8)
    probabilities, embedding = answers(model, golden)
    data = io.BytesIO()
    outputs = {"out.probabilities": probabilities, "out.embedding": embedding}
    np.savez(data, allow_pickle=False, **{"in.image": golden, **outputs})
    signature = {
        "inputs": [{"name": "image", "dtype": "UINT8", "shape": [-1, *shape], "media_type": "image/png"}],
        "outputs": [
            {"name": "probabilities", "dtype": "FP32", "shape": [-1, len(classes)]},
            {"name": "embedding", "dtype": "FP32", "shape": [-1, embedding.shape[1]]},
        ],
        "classes": list(classes),
        "max_batch": 64,
    }
    evaluation = {"split": "test", "example_count": 0, "metrics": {}, "classes": list(classes)}
    (folder / "model.onnx").write_bytes(model)
    (folder / "golden.npz").write_bytes(data.getvalue())
    (folder / "signature.json").write_text(json.dumps(signature))
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    digest = write_manifest(folder, {"engines": ["onnx"], "parity": {"max_abs_diff": 0.0}})
    return f"bundles/{digest}", {path.name: path.read_bytes() for path in folder.iterdir()}
