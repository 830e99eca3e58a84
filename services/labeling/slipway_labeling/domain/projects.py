"""Projects, their schemas, and answers in the words of a schema."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from slipway_runtime.errors import InvalidArgument, near

from slipway_labeling.domain.names import check_dataset, check_text, joined

MAX_LABELS = 1_000
MAX_LABEL_LENGTH = 100
MAX_OVERLAP = 20
MAX_LEASE_S = 86_400
SEPARATOR = "|"  # between the labels of one multi-label answer in a data set's row

Labels = tuple[str, ...]  # an answer: labels in schema order, each once


class ConsensusMethod(StrEnum):
    """How several answers become one label."""

    MAJORITY = "MAJORITY"
    WEIGHTED = "WEIGHTED"
    DAWID_SKENE = "DAWID_SKENE"


@dataclass(frozen=True)
class Schema:
    """What annotators may answer: labels for a whole image or text."""

    labels: Labels
    multiple: bool = False
    instructions: str = ""
    version: int = 1


@dataclass(frozen=True)
class PauseRule:
    """When an annotator is careless."""

    max_error_rate: float = 0.1
    confidence: float = 0.95
    min_answers: int = 20
    report_only: bool = False


@dataclass(frozen=True)
class ProjectSpec:
    """What an engineer decides of a project."""

    display_name: str
    dataset: str
    schema: Schema
    overlap: int = 1
    lease_s: int = 600
    gold_percent: int = 0
    prelabel_percent: int = 0
    pause_rule: PauseRule = field(default_factory=PauseRule)
    consensus_method: ConsensusMethod = ConsensusMethod.DAWID_SKENE


@dataclass(frozen=True)
class Project:
    """A labelling project."""

    id: str
    spec: ProjectSpec
    revision: int
    creator: str
    create_time: datetime
    update_time: datetime
    task_counts: dict[str, int] = field(default_factory=dict)
    annotation_count: int = 0

    @property
    def name(self) -> str:
        """Resource name."""
        return f"labelingProjects/{self.id}"

    @property
    def etag(self) -> str:
        """Changes with every update."""
        return str(self.revision)


def check_spec(spec: ProjectSpec) -> ProjectSpec:
    """Return what an engineer wants of a project, checked field by field."""
    check_text("project.display_name", spec.display_name)
    check_dataset("project.dataset", spec.dataset)
    check_schema(spec.schema)
    _check_range("project.overlap", spec.overlap, 1, MAX_OVERLAP)
    _check_range("project.lease_s", spec.lease_s, 1, MAX_LEASE_S)
    _check_range("project.gold_percent", spec.gold_percent, 0, 100)
    _check_range("project.prelabel_percent", spec.prelabel_percent, 0, 100)
    rule = spec.pause_rule
    for name, value in (("max_error_rate", rule.max_error_rate), ("confidence", rule.confidence)):
        if not 0 < value < 1:
            raise InvalidArgument.field(
                f"project.pause_rule.{name}", f"is {value}; give more than 0, less than 1"
            )
    _check_range("project.pause_rule.min_answers", rule.min_answers, 1, 1_000_000)
    return spec


def check_schema(schema: Schema) -> Schema:
    """Return the schema, checked label by label."""
    check_text("project.schema.instructions", schema.instructions)
    field_name = "project.schema.classification.labels"
    if not 2 <= len(schema.labels) <= MAX_LABELS:
        raise InvalidArgument.field(field_name, f"holds {len(schema.labels)}; give 2 to {MAX_LABELS}")
    for index, label in enumerate(schema.labels):
        if (
            not label.strip()
            or len(label) > MAX_LABEL_LENGTH
            or SEPARATOR in label
            or not label.isprintable()
        ):
            rule = f"give 1 to {MAX_LABEL_LENGTH} printable characters without {SEPARATOR!r}"
            raise InvalidArgument.field(f"{field_name}[{index}]", f"is {label!r}; {rule}")
    twice = sorted({label for label in schema.labels if schema.labels.count(label) > 1})
    if twice:
        raise InvalidArgument.field(field_name, f"holds {joined(twice)} twice; name each label once")
    return schema


def next_schema(current: Schema, wanted: Schema) -> Schema:
    """Return the schema's next version, or the current one when nothing changed.

    Labels keep their place, for each is a key under an annotator's finger: new ones come after them.

    Raises:
        InvalidArgument: A label would be lost (LABEL_REMOVED), moved, or the kind of answer would change.
    """
    check_schema(wanted)
    field_name = "project.schema.classification"
    lost = [label for label in current.labels if label not in wanted.labels]
    if lost:
        description = f"lacks {joined(lost)}, which annotations may hold; labels may only be added"
        raise InvalidArgument.field(f"{field_name}.labels", description, reason="LABEL_REMOVED")
    if wanted.labels[: len(current.labels)] != current.labels:
        raise InvalidArgument.field(
            f"{field_name}.labels", "has labels in another order; add new ones at the end"
        )
    if wanted.multiple != current.multiple:
        description = (
            f"is {wanted.multiple}, was {current.multiple}; make a project for the other kind of answer"
        )
        raise InvalidArgument.field(f"{field_name}.multiple", description)
    if (wanted.labels, wanted.instructions) == (current.labels, current.instructions):
        return current
    return Schema(wanted.labels, wanted.multiple, wanted.instructions, current.version + 1)


def check_answer(schema: Schema, labels: Sequence[str], field_name: str = "answer") -> Labels:
    """Return an answer's labels in schema order.

    Raises:
        InvalidArgument: A label is not in the schema (LABEL_NOT_IN_SCHEMA, near matches named), comes twice,
            or there is not exactly one where the schema wants one.
    """
    path = f"{field_name}.choice.labels"
    for label in labels:
        if label not in schema.labels:
            raise _unknown_label(schema, label, path)
    if len(set(labels)) != len(labels):
        raise InvalidArgument.field(path, f"names a label twice ({joined(list(labels))}); name each once")
    if not schema.multiple and len(labels) != 1:
        raise InvalidArgument.field(path, f"holds {len(labels)} labels; the schema asks for exactly one")
    return tuple(label for label in schema.labels if label in labels)


def _unknown_label(schema: Schema, label: str, path: str) -> InvalidArgument:
    matches = near(label, schema.labels)
    hint = f"did you mean {joined(matches)}?" if matches else f"labels: {joined(schema.labels)}"
    refused = InvalidArgument.field(
        path,
        f"{label!r} is not in version {schema.version} of the schema; {hint}",
        reason="LABEL_NOT_IN_SCHEMA",
    )
    refused.metadata |= {"label": label, "near": ", ".join(matches)}
    return refused


def _check_range(field_name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise InvalidArgument.field(field_name, f"is {value}; give {low} to {high}")
