"""What an engine must show before its slot takes calls: the golden answers, and what a batch costs."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from slipway_inference.domain import BundleRefused, Signature

_RELATIVE = 1e-3
_ABSOLUTE = 1e-4
_MEASURE_S = 1.0


class Engine(Protocol):
    """What runs a batch."""

    def run(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        """Return the outputs in the signature's order for inputs of (n, …)."""


def check_golden(engine: Engine, folder: Path, signature: Signature) -> float:
    """Return the largest difference from the golden outputs, batch by batch.

    Raises:
        BundleRefused: golden.npz is not whole, or an output differs by more than the tolerance.
    """
    arrays = _arrays(folder / "golden.npz")
    wanted = [f"in.{spec.name}" for spec in signature.inputs] + [
        f"out.{spec.name}" for spec in signature.outputs
    ]
    if missing := [name for name in wanted if name not in arrays]:
        raise BundleRefused(f"golden.npz lacks {', '.join(missing)}")
    rows_of = {name: len(arrays[name]) if arrays[name].ndim else 0 for name in wanted}
    count = rows_of[wanted[0]]
    if count == 0 or set(rows_of.values()) != {count}:
        raise BundleRefused(f"golden.npz needs the same rows, 1 or more, in each array; it has {rows_of}")
    worst = 0.0
    for start in range(0, count, signature.max_rows):
        rows = slice(start, start + signature.max_rows)
        results = _answers(engine, signature, {name: array[rows] for name, array in arrays.items()})
        for spec, got in zip(signature.outputs, results, strict=True):
            worst = max(worst, _difference(spec.name, got, arrays[f"out.{spec.name}"][rows]))
    return worst


def _arrays(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    try:
        with np.load(path, allow_pickle=False) as golden:
            return {name: golden[name] for name in golden.files}
    except Exception as error:  # numpy, zipfile and zlib each have their own; all mean the same
        raise BundleRefused(f"golden.npz cannot be read: {error}") from error


def _answers(
    engine: Engine, signature: Signature, arrays: Mapping[str, np.ndarray[Any, Any]]
) -> list[np.ndarray[Any, Any]]:
    try:
        inputs = {s.name: np.ascontiguousarray(arrays[f"in.{s.name}"], s.dtype) for s in signature.inputs}
        return engine.run(inputs)
    except Exception as error:  # the engines' own errors share no class
        raise BundleRefused(f"the golden inputs do not run: {error}") from error


def _difference(name: str, got: np.ndarray[Any, Any], want: np.ndarray[Any, Any]) -> float:
    if got.shape != want.shape:
        raise BundleRefused(f"golden output {name!r} has shape {want.shape}, the engine gives {got.shape}")
    difference = float(np.max(np.abs(got.astype(np.float64) - want.astype(np.float64)), initial=0.0))
    if not np.allclose(got, want, rtol=_RELATIVE, atol=_ABSOLUTE):
        limits = f"relative {_RELATIVE:g} or absolute {_ABSOLUTE:g}"
        raise BundleRefused(f"golden output {name!r} differs by up to {difference:.3g}, more than {limits}")
    return difference


def measure_costs(
    engine: Engine, inputs: Mapping[str, np.ndarray[Any, Any]], max_rows: int
) -> dict[int, float]:
    """Return ms by batch size: 1, 2, 4 … `max_rows`, the second run of each, for about a second at most.

    Raises:
        BundleRefused: A batch does not run, although `max_rows` is a size that the signature allows.
    """
    costs: dict[int, float] = {}
    started = time.perf_counter()
    rows = 1
    while rows <= max_rows and time.perf_counter() - started < _MEASURE_S:
        batch = {name: array[:rows] for name, array in inputs.items()}
        try:
            engine.run(batch)
            begin = time.perf_counter()
            engine.run(batch)
        except Exception as error:  # the engines' own errors share no class
            raise BundleRefused(f"a batch of {rows} rows does not run: {error}") from error
        costs[rows] = (time.perf_counter() - begin) * 1000
        rows = max_rows if rows < max_rows < rows * 2 else rows * 2
    return costs
