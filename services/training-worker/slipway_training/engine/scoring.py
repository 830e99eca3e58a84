"""The scoring process: `python -I -m slipway_training.engine.scoring <pipe> <spec.json>`.

It has no token and calls nobody: it takes orders on its standard input, reads checkouts, runs model.onnx in
ONNX Runtime, writes files, and tells its parent on a pipe.
"""

import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from slipway.task.images import DataError, LabelledImage, pixels

from slipway_training.engine.child import Emit, obey
from slipway_training.engine.data import labelled_images
from slipway_training.engine.events import Measure, Measured, Score, Scored, decode
from slipway_training.engine.spec import ScoringSpec

BATCH_ROWS = 64
PASSES = 12
ROUNDS = 6  # of a pass; version and champion in turns: ABBAAB…
OUTPUTS = ("probabilities", "embedding")


class Model:
    """A bundle's graph, which takes images.

    Raises:
        DataError: the graph does not load, or takes no images.
    """

    def __init__(self, folder: Path, threads: int) -> None:
        signature = json.loads((folder / "signature.json").read_text())
        tensor = signature["inputs"][0]
        if len(signature["inputs"]) != 1 or tensor["dtype"] != "UINT8" or len(tensor["shape"]) != 4:
            raise DataError(
                f"the version takes {signature['inputs']}; scoring takes UINT8 images (N, H, W, C)"
            )
        self._input = str(tensor["name"])
        self._shape = tuple(int(size) for size in tensor["shape"][1:])  # (H, W, C)
        self.batch_rows = max(1, min(BATCH_ROWS, int(signature.get("max_batch", BATCH_ROWS))))
        self._session = _session(folder / "model.onnx", threads)

    def images(self, rows: Sequence[LabelledImage]) -> NDArray[np.uint8]:
        """Return what the graph takes: (N, H, W, C)."""
        return np.stack([pixels(row, *self._shape) for row in rows])

    def run(self, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Return probabilities (N, K) and embedding (N, D)."""
        outputs: list[NDArray[np.float32]] = self._session.run(OUTPUTS, {self._input: images})
        return outputs

    def score(self, rows: Sequence[LabelledImage]) -> list[NDArray[np.float32]]:
        """Return probabilities and embedding of all rows, in batches of one size."""
        starts = range(0, len(rows), self.batch_rows)
        parts = [self.run(self.images(rows[start : start + self.batch_rows])) for start in starts]
        return [np.concatenate(part) for part in zip(*parts, strict=True)]

    def golden_difference(self, path: Path) -> tuple[float, int]:
        """Return the largest difference from the golden answers, and how many examples were compared."""
        with np.load(path, allow_pickle=False) as golden:
            inputs = golden[f"in.{self._input}"]
            wanted = [golden[f"out.{name}"] for name in OUTPUTS]
        worst = 0.0
        for start in range(0, len(inputs), self.batch_rows):
            part = slice(start, start + self.batch_rows)
            for got, want in zip(self.run(inputs[part]), wanted, strict=True):
                worst = max(worst, float(np.abs(got - want[part]).max()))
        return worst, len(inputs)


def main() -> None:
    """Take orders until there are no more; whatever ends it is told on the pipe."""
    spec = ScoringSpec.read(Path(sys.argv[2]))
    obey(spec, lambda emit: run(spec, emit), _why)


def run(spec: ScoringSpec, emit: Emit) -> None:
    """Score and measure what is ordered."""
    version = Model(Path(spec.version), spec.threads)
    champion = Model(Path(spec.champion), spec.threads) if spec.champion else None
    for line in sys.stdin.buffer:
        match decode(line):
            case Score(folder):
                score(version, champion, Path(folder))
                emit(Scored(folder))
            case Measure(folder):
                emit(measured(version, champion, Path(folder), Path(spec.version) / "golden.npz"))


def score(version: Model, champion: Model | None, folder: Path) -> None:
    """Write what the models say of a checkout's rows into `scores.npz` beside them, in the rows' order."""
    rows = list(labelled_images(folder))
    arrays = dict(zip(OUTPUTS, version.score(rows), strict=True))
    if champion is not None:
        arrays["champion_probabilities"] = champion.score(rows)[0]
    np.savez(folder / "scores.npz", allow_pickle=False, **arrays)


def measured(version: Model, champion: Model | None, folder: Path, golden: Path) -> Measured:
    """Return latencies of passes in which both models run on the same batch in alternating order."""
    rows = list(labelled_images(folder))
    models = [model for model in (version, champion) if model is not None]
    count = min(len(rows), *(model.batch_rows for model in models))
    passes: list[list[float]] = []
    for number in range(PASSES):
        batch = [rows[(number * count + offset) % len(rows)] for offset in range(count)]
        passes.append(_pass(models, [model.images(batch) for model in models]))
    by_model = [list(column) for column in zip(*passes, strict=True)]
    difference, compared = version.golden_difference(golden)
    return Measured(
        latency_ms=by_model[0],
        champion_latency_ms=by_model[1] if champion is not None else [],
        latency_batch_rows=count,
        golden_max_abs_diff=difference,
        golden_count=compared,
    )


def _pass(models: Sequence[Model], batches: Sequence[NDArray[np.uint8]]) -> list[float]:
    """Return each model's median milliseconds; the first run of each is not counted.

    A run may differ by what ran before it. So each model's counted runs come as often after its own as after
    the other's: BA, then ABBAABBAABBA.
    """
    took: list[list[float]] = [[] for _ in models]
    turn = list(range(len(models)))
    for index in turn[::-1]:
        models[index].run(batches[index])
    for round_number in range(ROUNDS):
        for index in turn if round_number % 2 == 0 else turn[::-1]:
            began = time.perf_counter()
            models[index].run(batches[index])
            took[index].append((time.perf_counter() - began) * 1e3)
    return [statistics.median(times) for times in took]


def _session(path: Path, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # else it disturbs its neighbour
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own errors share no class
        raise DataError(f"model.onnx does not load: {error}") from error


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    main()
