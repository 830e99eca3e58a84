"""The memory that a front and its engine share: one block for a batch's inputs and outputs.

An anonymous file (memfd) that the child inherits: a row is copied once on its way in and once on its
way out, and nothing is left behind however either side ends.
"""

import mmap
import os
from typing import Any

import numpy as np

from slipway_inference.domain import BundleRefused, Signature, TensorSpec

_ALIGN = 64
_MAX_BYTES = 2 << 30


class Region:
    """Arrays for `signature.max_rows` rows of every input and output, at fixed offsets."""

    def __init__(self, signature: Signature, fd: int = -1) -> None:
        self._offsets: list[int] = []
        size = 0
        for spec in (*signature.inputs, *signature.outputs):
            self._offsets.append(size)
            size += -(-spec.row_bytes * signature.max_rows // _ALIGN) * _ALIGN
        if size > _MAX_BYTES:
            raise BundleRefused(
                f"a batch of {signature.max_rows} rows needs {size} bytes; lower max_batch_rows"
            )
        self._signature = signature
        self.fd = fd if fd >= 0 else os.memfd_create("slipway-slot", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, size)
        self._memory = mmap.mmap(self.fd, size)

    def write(self, index: int, row: int, part: bytes) -> None:
        """Put the bytes of some rows into an input, from that row on."""
        start = self._offsets[index] + row * self._signature.inputs[index].row_bytes
        self._memory[start : start + len(part)] = part

    def read(self, index: int, row: int, rows: int) -> bytes:
        """Return the bytes of some rows of an output."""
        row_bytes = self._signature.outputs[index].row_bytes
        start = self._offsets[len(self._signature.inputs) + index] + row * row_bytes
        return self._memory[start : start + rows * row_bytes]

    def arrays(self) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, np.ndarray[Any, Any]]]:
        """Return views of all inputs and all outputs by name, each (max_rows, …)."""
        views = [
            self._view(spec, offset)
            for spec, offset in zip(
                (*self._signature.inputs, *self._signature.outputs), self._offsets, strict=True
            )
        ]
        count = len(self._signature.inputs)
        names = [spec.name for spec in (*self._signature.inputs, *self._signature.outputs)]
        return dict(zip(names[:count], views[:count], strict=True)), dict(
            zip(names[count:], views[count:], strict=True)
        )

    def _view(self, spec: TensorSpec, offset: int) -> np.ndarray[Any, Any]:
        shape = (self._signature.max_rows, *spec.shape[1:])
        return np.ndarray(shape, dtype=spec.dtype, buffer=self._memory, offset=offset)

    def close(self) -> None:
        """Give the memory back; the child must have ended or have its own mapping."""
        self._memory.close()
        os.close(self.fd)
