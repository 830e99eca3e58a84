"""A trained network as files that other programs run, with the proof that they answer the same.

`model.onnx` comes from torch.export through torch.onnx (the transform is inside, the batch dynamic);
`model.pt2` is the same exported program.
"""

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from slipway.task.network import Network
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule

MAX_EXPORTED_BATCH = 65_536
# Sums in another order differ in the last bits; more than this is another model. Relative to the
# largest value of an output, at least 1.
PARITY_TOLERANCE = 1e-3


class ParityError(RuntimeError):
    """The exported graph answers other than the trained network; the text says by how much."""


@dataclass(frozen=True)
class Parity:
    """Largest difference between torch and the exported graph, over these batch sizes."""

    max_abs_diff: float
    batches: tuple[int, ...]


def export_network(network: Network, sample: NDArray[np.uint8], folder: Path) -> tuple[str, ...]:
    """Write `model.onnx` and, where torch can, `model.pt2`; return the engines that can run it."""
    program = _exported_program(network, sample)
    with _quiet():
        graph = torch.onnx.export(
            program,
            (),
            dynamo=True,
            input_names=["image"],
            output_names=["probabilities", "embedding"],
            verbose=False,
        )
    assert graph is not None
    (folder / "model.onnx").write_bytes(_without_traces(graph.model_proto))
    return ("onnx", "torch") if _save_program(program, folder / "model.pt2") else ("onnx",)


def prove_parity(network: Network, images: NDArray[np.uint8], folder: Path, max_batch: int) -> Parity:
    """Compare torch and ONNX Runtime on batches of 1, 2, … `max_batch` images.

    Raises:
        ParityError: an output differs by more than the tolerance.
    """
    session = _session(folder / "model.onnx")
    batches = tuple(range(1, min(max_batch, len(images)) + 1))
    worst = 0.0
    for size in batches:
        part = images[:size]
        with torch.inference_mode():
            wanted = [output.numpy() for output in network(torch.from_numpy(part))]
        for want, got in zip(wanted, session.run(None, {"image": part}), strict=True):
            worst = max(worst, _difference(want, np.asarray(got), size))
    return Parity(worst, batches)


def _difference(want: NDArray[np.float32], got: NDArray[np.float32], size: int) -> float:
    if want.shape != got.shape:
        raise ParityError(f"batch of {size}: model.onnx answers {got.shape}, the network {want.shape}")
    difference = float(np.abs(want - got).max())
    allowed = PARITY_TOLERANCE * max(1.0, float(np.abs(want).max()))
    if not difference <= allowed:  # also when it is NaN
        raise ParityError(f"batch of {size}: model.onnx differs by {difference:.3g}, allowed {allowed:.3g}")
    return difference


def _exported_program(network: Network, sample: NDArray[np.uint8]) -> ExportedProgram:
    # A sample of one row would make torch.export take the batch for a constant.
    rows = torch.from_numpy(np.concatenate([sample, sample])[:2])
    batch = {"image": {0: Dim("batch", min=1, max=MAX_EXPORTED_BATCH)}}
    with _quiet():
        return torch.export.export(network, (rows,), dynamic_shapes=batch)


def _save_program(program: ExportedProgram, path: Path) -> bool:
    """Save without example inputs: these are what would be pickled; the rest is JSON and raw bytes.

    Stack traces go, too: they name the attempt's folder, and make equal programs differ in bytes.
    """
    program._example_inputs = None
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, GraphModule) else ():
            node.meta.pop("stack_trace", None)
    try:
        with _quiet():
            torch.export.save(program, path)
    except (RuntimeError, NotImplementedError, ValueError):
        path.unlink(missing_ok=True)
        return False
    return True


def _without_traces(model: onnx.ModelProto) -> bytes:
    """Drop stack traces: they name the host's folders, and make equal models differ in bytes."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.functions[:]
    return model.SerializeToString(deterministic=True)


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporters print and warn of their own insides; what matters is raised."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with open(os.devnull, "w") as sink, contextlib.redirect_stdout(sink), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(level)
