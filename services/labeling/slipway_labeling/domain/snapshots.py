"""Snapshots: labels on their way into a commit."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from slipway_runtime.errors import FailedPrecondition, InvalidArgument, NotFound, SlipwayError

from slipway_labeling.domain.names import check_id, check_text
from slipway_labeling.domain.projects import SEPARATOR, Labels

MAIN = "main"


class SnapshotState(StrEnum):
    """How far a snapshot is."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"

    @property
    def ended(self) -> bool:
        """Whether nothing changes any more."""
        return self in {SnapshotState.SUCCEEDED, SnapshotState.FAILED}


@dataclass(frozen=True, kw_only=True)
class SnapshotSpec:
    """What an engineer asks for."""

    branch: str
    message: str
    min_confidence: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Labels on their way into a commit of `branch`; `revision` changes whenever it does."""

    id: str
    serial: int
    project: str
    spec: SnapshotSpec
    state: SnapshotState
    error: str
    commit: str
    label_count: int
    left_out_count: int
    annotation_count: int
    creator: str
    revision: int
    create_time: datetime
    end_time: datetime | None

    @property
    def name(self) -> str:
        """Resource name."""
        return f"labelingProjects/{self.project}/snapshots/{self.id}"


@dataclass(frozen=True, kw_only=True)
class Errand:
    """One attempt to make a snapshot's commit, and how far those before it came."""

    id: str
    attempt: int
    dataset: str
    spec: SnapshotSpec
    creator: str
    traceparent: str
    base: str
    upload: str
    moves: int
    failures: int

    @property
    def request_id(self) -> str:
        """What makes the commit one, however often it is asked for."""
        return f"snapshot-{self.id}"


@dataclass(frozen=True)
class Row:
    """A row of a commit, with all that a snapshot must leave as it is."""

    key: str
    blob: str
    label: str = ""
    label_source: str = ""
    group: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ChosenLabel:
    """A label that a snapshot holds, and the annotations behind it."""

    task: int
    key: str
    blob: str
    labels: Labels
    annotations: tuple[int, ...]

    @property
    def label(self) -> str:
        """The label as a data set's row has it."""
        return SEPARATOR.join(self.labels)

    @property
    def source(self) -> str:
        """Names of the annotations, for `label_source`."""
        return ",".join(f"annotations/{id}" for id in self.annotations)


@dataclass(frozen=True)
class Contributor:
    """What one annotator gave to a commit; `first` are ids of annotations, at most three."""

    annotator: str
    annotation_count: int
    example_count: int
    first: tuple[int, ...]


class FencedError(Exception):
    """Another attempt has the snapshot, or it has ended."""


def check_spec(spec: SnapshotSpec) -> SnapshotSpec:
    """Return what is asked for, checked field by field, with its defaults."""
    branch = check_id("snapshot.branch", spec.branch or MAIN)
    check_text("snapshot.message", spec.message, needed=True)
    if not 0 <= spec.min_confidence <= 1:
        raise InvalidArgument.field("snapshot.min_confidence", f"is {spec.min_confidence}; give 0 to 1")
    return SnapshotSpec(branch=branch, message=spec.message, min_confidence=spec.min_confidence)


def snapshot_not_found(name: str) -> NotFound:
    """Return the error for an unknown snapshot."""
    message = f"there is no snapshot {name!r}; list those of the project"
    return NotFound("SNAPSHOT_NOT_FOUND", message, metadata={"name": name})


def nothing_to_take(project: str, left_out: int) -> FailedPrecondition:
    """Return the refusal of a snapshot without a label."""
    why = f"{left_out} annotated tasks are left out" if left_out else "no task has all its answers"
    message = (
        f"labelingProjects/{project} has no label to take: {why}; compute the consensus, review, "
        "or lower min_confidence"
    )
    return FailedPrecondition("TOO_FEW_ANSWERS", message, metadata={"left_out": str(left_out)})


def rows_of(chosen: list[ChosenLabel], head: Mapping[str, Row]) -> tuple[list[Row], list[int]]:
    """Return the rows to commit, and the tasks left out because the head has not these bytes under the key.

    Group and attributes are the head's. The bytes are the head's, too: a row goes without a blob, and the
    commit is refused when the head has moved.
    """
    rows, gone = [], []
    for one in chosen:
        there = head.get(one.key)
        if there is None or there.blob != one.blob:
            gone.append(one.task)
            continue
        rows.append(Row(one.key, "", one.label, one.source, there.group, there.attributes))
    return rows, gone


def error_text(error: SlipwayError) -> str:
    """Return why a snapshot failed or waits: the reason, then a sentence."""
    return f"{error.reason}: {error.message}"
