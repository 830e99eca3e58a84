"""Evaluations: what a version and the champion beside it said of labelled examples, and what comes of it."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from slipway_runtime.errors import InvalidArgument

MAX_EXAMPLES = 200_000
MAX_CLASSES = 1_000
MAX_VALUES = 4_000_000  # probabilities of one model: computing them takes about 250 MB
MAX_ATTRIBUTES = 32
MAX_SLICES_PER_ATTRIBUTE = 100
MAX_NAME = 500
MAX_PASSES = 10_000
PICTURES = ("confusion", "roc", "precision_recall", "calibration")
METRICS = ("accuracy", "macro_f1", "loss", "brier", "ece", "auroc", "average_precision")
BY_LABEL, BY_ATTRIBUTE = "label", "attribute:"
_COMMIT = re.compile(r"datasets/[a-z0-9-]{1,63}/commits/[0-9a-f]{64}")


@dataclass(frozen=True)
class EvaluationHeader:
    """What was evaluated: names, classes in the order of the probabilities, passes, golden answers."""

    parent: str
    evaluation_id: str
    champion_version: str
    dataset_commit: str
    split: str
    classes: tuple[str, ...]
    champion_classes: tuple[str, ...]
    latency_ms: tuple[float, ...]
    champion_latency_ms: tuple[float, ...]
    latency_batch_rows: int
    golden_max_abs_diff: float
    golden_count: int


@dataclass(frozen=True)
class Example:
    """What was said of one example."""

    key: str
    label: str
    probabilities: Sequence[float]
    champion_probabilities: Sequence[float]
    attributes: dict[str, str]
    group: str


@dataclass(frozen=True)
class Pairs:
    """How the version and the champion differ on the same examples, summed up by group.

    A group's difference d is what it lost less what it won; m is its number of examples.
    """

    lost: int
    won: int
    groups: int
    differences: tuple[tuple[int, int], ...]  # (d, groups with it), d not 0
    sum_dd: int
    sum_dm: int
    sum_mm: int


@dataclass(frozen=True)
class Slice:
    """Figures of the examples that share a label or an attribute's value; `name` is empty for all."""

    name: str
    example_count: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    champion_accuracy: float
    pairs: Pairs | None


@dataclass(frozen=True)
class Curve:
    """A curve as data; `label` is empty for all classes together."""

    kind: str
    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    counts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Report:
    """What was computed from an evaluation's examples."""

    example_count: int
    metrics: dict[str, float]
    champion_metrics: dict[str, float]
    confusion_matrix: tuple[int, ...]
    overall: Slice
    slices: tuple[Slice, ...]
    curves: tuple[Curve, ...]

    @property
    def attributes(self) -> tuple[str, ...]:
        """Attributes that it has slices by, in order."""
        names = (part.name.partition("=")[0] for part in self.slices)
        found = {name.removeprefix(BY_ATTRIBUTE) for name in names if name.startswith(BY_ATTRIBUTE)}
        return tuple(sorted(found))


@dataclass(frozen=True)
class LatencyRatio:
    """Version over champion, pass by pass; all 0 without a champion."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Evaluation:
    """A version measured on labelled examples, kept for good."""

    header: EvaluationHeader
    digest: str
    report: Report
    pictures: tuple[str, ...]
    create_time: datetime
    creator: str

    @property
    def name(self) -> str:
        """Resource name."""
        return f"{self.header.parent}/evaluations/{self.header.evaluation_id}"

    @property
    def latency_ms(self) -> float:
        """Median over the passes; 0 when none was made."""
        return _median(self.header.latency_ms)

    @property
    def latency_ratios(self) -> list[float]:
        """Version over champion, by pass; empty without a champion."""
        both = zip(self.header.latency_ms, self.header.champion_latency_ms, strict=False)
        return [mine / theirs for mine, theirs in both]

    @property
    def latency_ratio(self) -> LatencyRatio:
        """Version over champion in the same passes."""
        ratios = self.latency_ratios
        if not ratios:
            return LatencyRatio(0.0, 0.0, 0.0)
        return LatencyRatio(_median(ratios), min(ratios), max(ratios))


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    if not ordered:
        return 0.0
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def refused(field: str, description: str) -> InvalidArgument:
    """Return the refusal of a part of an evaluation."""
    return InvalidArgument.field(field, description, reason="EVALUATION_REFUSED")


def check_header(header: EvaluationHeader) -> EvaluationHeader:
    """Return the header, checked by itself.

    Raises:
        InvalidArgument: A field is missing, too long, doubled or not finite (EVALUATION_REFUSED).
    """
    if not _COMMIT.fullmatch(header.dataset_commit):
        text = f"is {header.dataset_commit!r}; write datasets/{{dataset}}/commits/{{digest}}"
        raise refused("header.dataset_commit", text)
    check_name("header.split", header.split)
    _check_classes("header.classes", header.classes)
    if header.champion_version:
        _check_classes("header.champion_classes", header.champion_classes)
    elif header.champion_classes or header.champion_latency_ms:
        raise refused("header.champion_version", "is empty, yet the champion has classes or passes; name it")
    _check_passes(header)
    if not math.isfinite(header.golden_max_abs_diff) or header.golden_max_abs_diff < 0:
        text = f"is {header.golden_max_abs_diff}; send a finite difference, 0 or more"
        raise refused("header.golden_max_abs_diff", text)
    if header.golden_count < 0 or header.latency_batch_rows < 0:
        raise refused("header.golden_count", "or header.latency_batch_rows is negative; send 0 or more")
    return header


def check_name(field: str, value: str) -> str:
    """Return a key, class, attribute or split, checked for length and NUL."""
    if len(value) > MAX_NAME or "\0" in value:
        raise refused(field, f"has {len(value)} characters; at most {MAX_NAME}, no NUL")
    return value


def _check_classes(field: str, classes: tuple[str, ...]) -> None:
    if not 2 <= len(classes) <= MAX_CLASSES:
        raise refused(field, f"names {len(classes)} classes; send 2 to {MAX_CLASSES}")
    for index, name in enumerate(classes):
        if not check_name(f"{field}[{index}]", name):
            raise refused(f"{field}[{index}]", "is empty; name the class")
    doubled = sorted({name for name in classes if classes.count(name) > 1})
    if doubled:
        raise refused(field, f"names {doubled[0]!r} twice; each class once")


def _check_passes(header: EvaluationHeader) -> None:
    for field in ("latency_ms", "champion_latency_ms"):
        values = getattr(header, field)
        if len(values) > MAX_PASSES:
            raise refused(f"header.{field}", f"has {len(values)} passes; at most {MAX_PASSES}")
        for index, value in enumerate(values):
            if not math.isfinite(value) or value <= 0:
                raise refused(f"header.{field}[{index}]", f"is {value}; send finite milliseconds above 0")
    mine, theirs = len(header.latency_ms), len(header.champion_latency_ms)
    if theirs and theirs != mine:
        text = f"has {theirs} passes, the version {mine}; they run in turns: send one value per pass for both"
        raise refused("header.champion_latency_ms", text)
