"""Signatures, tensor checks, the batching rules, prediction ids and what is refused. No I/O."""

import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import prod
from typing import Any

import numpy as np
from slipway_runtime.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    SlipwayError,
    Unavailable,
    Violation,
    near,
)

# KServe v2 datatype → (numpy dtype, field of InferTensorContents). BYTES has no fixed size: no slot takes it.
DATATYPES: dict[str, tuple[np.dtype[Any], str]] = {
    "BOOL": (np.dtype(np.bool_), "bool_contents"),
    "UINT8": (np.dtype(np.uint8), "uint_contents"),
    "UINT16": (np.dtype("<u2"), "uint_contents"),
    "UINT32": (np.dtype("<u4"), "uint_contents"),
    "UINT64": (np.dtype("<u8"), "uint64_contents"),
    "INT8": (np.dtype(np.int8), "int_contents"),
    "INT16": (np.dtype("<i2"), "int_contents"),
    "INT32": (np.dtype("<i4"), "int_contents"),
    "INT64": (np.dtype("<i8"), "int64_contents"),
    "FP16": (np.dtype("<f2"), ""),
    "FP32": (np.dtype("<f4"), "fp32_contents"),
    "FP64": (np.dtype("<f8"), "fp64_contents"),
}


class SlotState(StrEnum):
    """How ready a slot is."""

    LOADING = "LOADING"
    READY = "READY"
    RESTARTING = "RESTARTING"
    REFUSED = "REFUSED"
    UNLOADED = "UNLOADED"


class BatchReason(StrEnum):
    """Why a batch has the size that it has."""

    QUEUE_EMPTY = "queue_empty"
    BATCH_FULL = "batch_full"
    LATENCY_OBJECTIVE = "latency_objective"
    NEXT_TOO_LARGE = "next_too_large"


class BundleRefused(FailedPrecondition):
    """The bundle cannot be served, and trying again does not help."""

    def __init__(self, message: str) -> None:
        super().__init__("BUNDLE_REFUSED", message)


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model; the first dimension is the batch, the others are fixed."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any] = field(init=False, compare=False)
    row_bytes: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        if self.datatype not in DATATYPES:
            known = ", ".join(DATATYPES)
            raise BundleRefused(
                f"tensor {self.name!r}: datatype {self.datatype!r} is not served; use {known}"
            )
        if not self.shape or self.shape[0] != -1 or any(size < 1 for size in self.shape[1:]):
            message = (
                f"tensor {self.name!r}: shape {list(self.shape)} must be [-1, fixed sizes…]; export it so"
            )
            raise BundleRefused(message)
        object.__setattr__(self, "dtype", DATATYPES[self.datatype][0])
        object.__setattr__(self, "row_bytes", self.dtype.itemsize * prod(self.shape[1:]))


@dataclass(frozen=True)
class Signature:
    """What a model takes and gives; `max_rows` is the largest batch whose parity was proven."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_rows: int

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Signature":
        """Return the signature that signature.json says.

        Raises:
            BundleRefused: A part is missing, or a tensor is not one that can be served.
        """
        try:
            sides = [
                tuple(TensorSpec(str(t["name"]), str(t["dtype"]), tuple(map(int, t["shape"]))) for t in side)
                for side in (document["inputs"], document["outputs"])
            ]
            max_rows = int(document["max_batch"])
        except (KeyError, TypeError, ValueError) as error:
            raise BundleRefused(f"signature.json is not one: {type(error).__name__} {error}") from error
        if not all(sides) or max_rows < 1:
            raise BundleRefused("signature.json needs inputs, outputs and max_batch of 1 or more")
        return cls(sides[0], sides[1], max_rows)

    def limited(self, max_rows: int) -> "Signature":
        """Return the same with at most `max_rows` rows per batch."""
        return Signature(self.inputs, self.outputs, min(self.max_rows, max_rows))


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor as it came: raw little-endian bytes, or typed values that are not packed yet."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: bytes | None = None
    typed: Mapping[str, Sequence[Any]] | None = None


def checked_rows(signature: Signature, tensors: Sequence[Tensor]) -> tuple[int, list[bytes]]:
    """Return the rows and the bytes of each input in the signature's order; nothing large is made first.

    Raises:
        InvalidArgument: A tensor is missing, unknown, doubled, or has a wrong datatype, shape or size;
            the violation names tensor, value and remedy.
    """
    by_name = _by_name(signature, tensors)
    rows = -1
    parts: list[bytes] = []
    for spec in signature.inputs:
        tensor = by_name[spec.name]
        if tensor.datatype != spec.datatype:
            raise _refused(spec, "datatype", f"is {tensor.datatype or 'not set'}; send {spec.datatype}")
        rows = _rows_of(spec, tensor, signature.max_rows, rows)
        parts.append(_raw(spec, tensor, rows) if tensor.raw is not None else _packed(spec, tensor, rows))
    return rows, parts


def _by_name(signature: Signature, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    by_name = {tensor.name: tensor for tensor in tensors}
    names = [spec.name for spec in signature.inputs]
    for tensor in tensors:
        if tensor.name not in names:
            hint = f"did you mean {close[0]!r}? " if (close := near(tensor.name, names)) else ""
            remedy = f"is not an input; {hint}the inputs are {', '.join(names)}"
            raise InvalidArgument.field(f"inputs[{tensor.name!r}]", remedy, reason="TENSOR_INVALID")
    missing = [name for name in names if name not in by_name]
    if missing or len(tensors) != len(names):
        what = f"{missing[0]!r} is missing" if missing else "one of them came twice"
        remedy = f"{what}; send each of {', '.join(names)} once"
        raise InvalidArgument.field("inputs", remedy, reason="TENSOR_INVALID")
    return by_name


def _rows_of(spec: TensorSpec, tensor: Tensor, max_rows: int, rows: int) -> int:
    shape = tensor.shape
    if len(shape) != len(spec.shape) or shape[1:] != spec.shape[1:] or shape[0] < 1:
        raise _refused(
            spec, "shape", f"is {list(shape)}; send {['rows', *spec.shape[1:]]} with 1 row or more"
        )
    if shape[0] > max_rows:
        raise _refused(spec, "shape", f"has {shape[0]} rows; send {max_rows} at most and split what is more")
    if rows not in (-1, shape[0]):
        raise _refused(spec, "shape", f"has {shape[0]} rows where the inputs before it have {rows}")
    return shape[0]


def _raw(spec: TensorSpec, tensor: Tensor, rows: int) -> bytes:
    assert tensor.raw is not None
    if len(tensor.raw) != rows * spec.row_bytes:
        remedy = (
            f"has {len(tensor.raw)} bytes; {list(tensor.shape)} of {spec.datatype} is {rows * spec.row_bytes}"
        )
        raise _refused(spec, "raw_input_contents", remedy)
    return tensor.raw


def _packed(spec: TensorSpec, tensor: Tensor, rows: int) -> bytes:
    wanted = DATATYPES[spec.datatype][1]
    filled = {name: values for name, values in (tensor.typed or {}).items() if len(values)}
    if not wanted or set(filled) - {wanted}:
        where = wanted or "raw_input_contents"
        raise _refused(
            spec, "contents", f"are in {', '.join(filled) or 'no field'}; {spec.datatype} goes to {where}"
        )
    values = filled.get(wanted, ())
    count = rows * prod(spec.shape[1:])
    if len(values) != count:
        raise _refused(spec, "contents", f"have {len(values)} values; {list(tensor.shape)} needs {count}")
    try:
        return np.array(values, dtype=spec.dtype).tobytes()
    except (OverflowError, ValueError) as error:
        raise _refused(spec, "contents", f"do not fit {spec.datatype} ({error})") from error


def _refused(spec: TensorSpec, what: str, remedy: str) -> InvalidArgument:
    name = f"inputs[{spec.name!r}].{what}"
    violation = Violation(name, remedy)
    metadata = {"tensor": spec.name}
    return InvalidArgument("TENSOR_INVALID", f"{name}: {remedy}", metadata=metadata, violations=[violation])


def chosen_outputs(signature: Signature, asked: Sequence[str]) -> list[int]:
    """Return the indexes of the outputs asked for; all when none is named.

    Raises:
        InvalidArgument: The model has no output of that name.
    """
    names = [spec.name for spec in signature.outputs]
    for name in asked:
        if name not in names:
            remedy = f"is not an output; the outputs are {', '.join(names)}"
            raise InvalidArgument.field(f"outputs[{name!r}]", remedy, reason="TENSOR_INVALID")
    return [names.index(name) for name in asked] if asked else list(range(len(names)))


class CostModel:
    """How long a batch takes: ms = fixed + per_row · rows, least squares with fading memory.

    The line is BentoML's and Clockwork's; `fade` forgets so that a slower machine is noticed.
    """

    def __init__(self, fade: float = 0.98) -> None:
        self._fade = fade
        self._sums = (0.0, 0.0, 0.0, 0.0, 0.0)  # weight, n, n², ms, n·ms

    def observe(self, rows: int, compute_ms: float) -> None:
        """Learn from one batch."""
        seen = (1.0, float(rows), float(rows * rows), compute_ms, rows * compute_ms)
        self._sums = tuple(self._fade * old + new for old, new in zip(self._sums, seen, strict=True))  # type: ignore[assignment]

    def line(self) -> tuple[float, float]:
        """Return (fixed ms, ms per row), neither negative."""
        weight, n, nn, ms, nms = self._sums
        if weight == 0.0:
            return 0.0, 0.0
        spread = weight * nn - n * n
        per_row = (weight * nms - n * ms) / spread if spread > 1e-9 * weight * nn else 0.0
        per_row = min(max(per_row, 0.0), ms / n)
        return (ms - per_row * n) / weight, per_row

    def predicted_ms(self, rows: int) -> float:
        """Return what a batch of that size will take."""
        fixed_ms, per_row_ms = self.line()
        return fixed_ms + per_row_ms * rows


class BatchLimit:
    """How many rows a batch may have now: AIMD (as in Clipper) under a ceiling from the cost model.

    A row that just missed a batch waits for that one and then for its own, so a batch may take half of the
    objective. Over it: 10 % less. A full batch within it: one row more, unless the model foretells a miss.
    """

    def __init__(self, *, max_rows: int, objective_ms: float, cost: CostModel) -> None:
        self._max_rows = max_rows
        self._budget_ms = objective_ms / 2
        self._cost = cost
        self.rows = self._ceiling()

    def _ceiling(self) -> int:
        fixed_ms, per_row_ms = self._cost.line()
        if per_row_ms <= 0.0:
            return self._max_rows
        return int(min(max((self._budget_ms - fixed_ms) / per_row_ms, 1), self._max_rows))

    def observe(self, rows: int, compute_ms: float) -> None:
        """Learn from one batch and move the limit."""
        self._cost.observe(rows, compute_ms)
        if compute_ms > self._budget_ms and rows <= self.rows:
            self.rows = max(int(self.rows * 0.9), 1)  # of the limit: one slow row says little of 64
        elif rows >= self.rows and self.rows < self._ceiling():
            self.rows += 1

    def predicted_ms(self) -> float:
        """Return what a batch as large as may be will take."""
        return self._cost.predicted_ms(self.rows)

    def take(self, waiting: Iterable[int]) -> tuple[int, int, BatchReason]:
        """Return how many of the waiting requests go now, their rows, and why not more.

        Args:
            waiting: Rows of each request, oldest first. The first always goes: a request is never split.
        """
        limited = BatchReason.BATCH_FULL if self.rows >= self._max_rows else BatchReason.LATENCY_OBJECTIVE
        count = total = 0
        for rows in waiting:
            if count and total + rows > self.rows:
                return count, total, limited if total >= self.rows else BatchReason.NEXT_TOO_LARGE
            count, total = count + 1, total + rows
        return count, total, BatchReason.QUEUE_EMPTY


class PredictionIds:
    """Ids that keep time and version even when the event is lost: UUIDv7 (RFC 9562) + short digest."""

    def __init__(self, digest: str) -> None:
        self._suffix = "-" + digest[:8]
        self._random = random.Random()

    def __call__(self) -> str:
        """Return a new id; the rows of the reply are `<id>.0`, `<id>.1`, …"""
        bits = (time.time_ns() // 1_000_000) << 80 | self._random.getrandbits(80)
        bits = bits & ~(0xF << 76) | 7 << 76
        bits = bits & ~(0x3 << 62) | 2 << 62
        text = f"{bits:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}{self._suffix}"


@dataclass(frozen=True)
class CapturePolicy:
    """Which inputs are kept with the event: `none`, `all`, `sample:p`, `low_confidence:p`."""

    kind: str
    value: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "CapturePolicy":
        """Return the policy that a setting says; ValueError when it says none."""
        kind, _, value = text.partition(":")
        if kind in ("none", "all") and not value:
            return cls(kind)
        if kind in ("sample", "low_confidence") and 0.0 <= float(value or "nan") <= 1.0:
            return cls(kind, float(value))
        raise ValueError(f"{text!r} is not none, all, sample:<0-1> or low_confidence:<0-1>")

    def rows(self, scores: np.ndarray[Any, np.dtype[Any]], draw: float) -> list[int]:
        """Return the rows to keep, for the first output `scores` (N, C) and one draw from [0, 1)."""
        everything = list(range(len(scores)))
        if self.kind == "low_confidence":
            best = scores.reshape(len(scores), -1).max(axis=1)
            return [row for row in everything if best[row] < self.value]
        return everything if self.kind == "all" or (self.kind == "sample" and draw < self.value) else []


def model_not_found(name: str, known: Iterable[str]) -> NotFound:
    """Return the error for a model that no slot serves."""
    known = sorted(known)
    error = NotFound.of("MODEL_NOT_FOUND", "model", name, known)
    return NotFound(
        error.reason, f"{error.message}; served here: {', '.join(known) or 'none'}", metadata=error.metadata
    )


def version_not_served(name: str, asked: str, served: str) -> NotFound:
    """Return the error for another version than the slot's."""
    message = (
        f"model {name!r} has version {served!r} here, not {asked!r}; leave model_version empty or ask for it"
    )
    return NotFound("MODEL_VERSION_NOT_FOUND", message, metadata={"name": name, "near": served})


def not_ready(name: str, state: SlotState, why: str) -> SlipwayError:
    """Return the error for a slot that cannot answer now."""
    if state is SlotState.REFUSED:
        return FailedPrecondition("MODEL_REFUSED", f"model {name!r} was not taken into service: {why}")
    message = f"model {name!r} is {state}{': ' + why if why else ''}; try again"
    return Unavailable("MODEL_NOT_READY", message, retry_after_s=1.0, metadata={"state": str(state)})


def queue_full(name: str, rows: int, waiting: int, limit: int, retry_after_s: float) -> ResourceExhausted:
    """Return the error for a request that found the queue full."""
    message = f"model {name!r}: {waiting} of {limit} rows wait, {rows} more do not fit; try again later"
    return ResourceExhausted("QUEUE_FULL", message, retry_after_s=retry_after_s)


def expired(name: str, waited_ms: float) -> DeadlineExceeded:
    """Return the error for a request whose time ran out in the queue; it was not executed."""
    message = (
        f"model {name!r}: the deadline passed after {waited_ms:.1f} ms in the queue; nothing was executed"
    )
    return DeadlineExceeded("EXPIRED_IN_QUEUE", message)
