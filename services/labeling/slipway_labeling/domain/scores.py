"""Scores that models gave, orders over the pool, suspect labels, learning curves."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from slipway_runtime.errors import InvalidArgument

from slipway_labeling.domain.projects import Schema, check_answer
from slipway_labeling.domain.quality import Estimate

MAX_PART = 1_000
MAX_EMBEDDING = 8_192
MAX_KEY_LENGTH = 1_024
MAX_OPEN = 10_000
MAX_POINTS = 200
LEAST_GAIN = 0.005
_VERSION = re.compile(r"models/[a-z0-9-]{1,63}/versions/[0-9]{1,18}")


class OrderKind(StrEnum):
    """What goes first."""

    MARGIN = "MARGIN"
    ENTROPY = "ENTROPY"
    DIVERSITY = "DIVERSITY"
    HYBRID = "HYBRID"
    RANDOM = "RANDOM"

    @property
    def spreads(self) -> bool:
        """Whether it needs embeddings."""
        return self in {OrderKind.DIVERSITY, OrderKind.HYBRID}


@dataclass(frozen=True)
class ScoresHeader:
    """Whose scores come, and of which classes."""

    parent: str
    version: str
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Score:
    """What a model says of one example."""

    key: str
    probabilities: Sequence[float]
    embedding: Sequence[float]
    in_training: bool


@dataclass(frozen=True)
class PackedScore:
    """A checked score as it is kept: float32, little-endian."""

    key: str
    probabilities: bytes
    embedding: bytes
    in_training: bool


@dataclass(frozen=True)
class ScoreVersion:
    """One model version's scores of a project."""

    version: str
    classes: tuple[str, ...]
    embedding_width: int


@dataclass(frozen=True)
class Stored:
    """What an import stored."""

    stored_count: int
    task_count: int


@dataclass(frozen=True)
class OrderSpec:
    """How the pool is to be ordered, and how much of it opened."""

    kind: OrderKind
    version: str
    open_count: int
    seed: int
    prelabel: bool


@dataclass(frozen=True)
class Ordered:
    """What an order did: `opened` are tasks' names."""

    ordered_count: int
    opened: tuple[str, ...]
    unscored_count: int


@dataclass(frozen=True)
class Suspect:
    """A label that the model's scores contradict."""

    project: str
    task: int
    key: str
    label: str
    suggested: str
    self_confidence: float

    @property
    def task_name(self) -> str:
        """Resource name of the task."""
        return f"labelingProjects/{self.project}/tasks/{self.task}"


@dataclass(frozen=True)
class LearningPoint:
    """One measurement."""

    label_count: int
    accuracy: float
    example_count: int


class CurveVerdict(StrEnum):
    """Whether more labels are worth it."""

    WORTH_IT = "WORTH_IT"
    NOT_WORTH_IT = "NOT_WORTH_IT"
    CANNOT_SAY = "CANNOT_SAY"


@dataclass(frozen=True)
class CurveReport:
    """A fitted learning curve and what it promises."""

    floor: float
    scale: float
    rate: float
    accuracy: Estimate
    gain: Estimate
    verdict: CurveVerdict


def check_version(field_name: str, value: str) -> str:
    """Return the resource name of a model version, checked."""
    if not _VERSION.fullmatch(value):
        raise InvalidArgument.field(field_name, f"is {value!r}; write models/{{model}}/versions/{{number}}")
    return value


def check_classes(schema: Schema, classes: Sequence[str]) -> tuple[str, ...]:
    """Return the classes of scores, each in the schema (LABEL_NOT_IN_SCHEMA otherwise)."""
    if len(classes) < 2:
        raise InvalidArgument.field("header.classes", f"holds {len(classes)}; give at least 2")
    for index, label in enumerate(classes):
        check_answer(Schema(schema.labels, True, "", schema.version), [label], f"header.classes[{index}]")
        if label in classes[:index]:
            raise InvalidArgument.field(
                f"header.classes[{index}]", f"is {label!r} again; name each class once"
            )
    return tuple(classes)


def check_order(spec: OrderSpec) -> OrderSpec:
    """Return how the pool is to be ordered, checked field by field."""
    if spec.version or spec.prelabel or spec.kind is not OrderKind.RANDOM:
        check_version("model_version", spec.version)
    if not 0 <= spec.open_count <= MAX_OPEN:
        raise InvalidArgument.field("open_count", f"is {spec.open_count}; give 0 to {MAX_OPEN}")
    if spec.seed < 0:
        raise InvalidArgument.field("seed", f"is {spec.seed}; give 0 or more")
    return spec


def check_points(points: Sequence[LearningPoint], label_count: int, least_gain: float) -> None:
    """Check what a learning curve is to be fitted to, and how far it is to look."""
    if len(points) > MAX_POINTS:
        raise InvalidArgument.field("points", f"holds {len(points)}; at most {MAX_POINTS}")
    for index, point in enumerate(points):
        for name, value, fine, rule in (
            ("label_count", point.label_count, point.label_count >= 1, "at least 1"),
            ("accuracy", point.accuracy, 0 <= point.accuracy <= 1, "a share between 0 and 1"),
            ("example_count", point.example_count, point.example_count >= 1, "at least 1"),
        ):
            if not fine:
                raise InvalidArgument.field(f"points[{index}].{name}", f"is {value}; give {rule}")
    sizes = {point.label_count for point in points}
    if len(sizes) < 3:
        description = f"has {len(sizes)} different label counts; train on at least 3, then ask again"
        raise InvalidArgument.field("points", description, reason="TOO_FEW_ANSWERS")
    if label_count <= max(sizes):
        raise InvalidArgument.field(
            "label_count", f"is {label_count}; give more than the {max(sizes)} of the largest point"
        )
    if not 0 <= least_gain < 1:
        raise InvalidArgument.field("least_gain", f"is {least_gain}; give a share from 0 to below 1")
