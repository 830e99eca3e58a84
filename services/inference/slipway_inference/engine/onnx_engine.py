"""The engine `onnx`: ONNX Runtime on the CPU."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from slipway_inference.domain import BundleRefused, Signature

FILES = ("model.onnx",)


class OnnxEngine:
    """Runs model.onnx.

    Raises:
        BundleRefused: The graph does not load, or lacks a tensor of the signature.
    """

    def __init__(self, folder: Path, signature: Signature, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # a spinning pool burns the cores that the front needs
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own errors share no class
            raise BundleRefused(f"model.onnx does not load: {error}") from error
        self._outputs = [spec.name for spec in signature.outputs]
        has = {node.name for node in (*self._session.get_inputs(), *self._session.get_outputs())}
        wanted = {spec.name for spec in signature.inputs} | set(self._outputs)
        if missing := wanted - has:
            raise BundleRefused(f"model.onnx lacks {', '.join(sorted(missing))} of signature.json")

    def run(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        """Return the outputs in the signature's order for inputs of (n, …)."""
        results: list[np.ndarray[Any, Any]] = self._session.run(self._outputs, dict(inputs))
        return results
