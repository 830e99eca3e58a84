"""Tasks, assignments, annotations."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from slipway_labeling.domain.projects import Labels


class TaskState(StrEnum):
    """How far a task is."""

    HELD = "HELD"
    OPEN = "OPEN"
    ANSWERED = "ANSWERED"
    REVIEWED = "REVIEWED"
    ERASED = "ERASED"


class AssignmentState(StrEnum):
    """How far an assignment is."""

    LEASED = "LEASED"
    SUBMITTED = "SUBMITTED"
    SKIPPED = "SKIPPED"
    FLAGGED = "FLAGGED"
    EXPIRED = "EXPIRED"


class Verdict(StrEnum):
    """What a reviewer does with a task."""

    ACCEPT = "ACCEPT"
    CORRECT = "CORRECT"
    REOPEN = "REOPEN"


@dataclass(frozen=True)
class Example:
    """A row of a commit, as far as labeling needs it."""

    key: str
    blob: str
    media_type: str
    label: str = ""
    split: str = ""


@dataclass(frozen=True)
class Task:
    """One example to label; answers are None where there is none."""

    project: str
    serial: int
    key: str
    dataset_commit: str
    blob: str
    media_type: str
    state: TaskState
    priority: float
    overlap: int
    answer_count: int
    flag_count: int
    gold: Labels | None
    consensus: Labels | None
    consensus_confidence: float
    reviewed: Labels | None
    reviewer: str
    review_comment: str
    prelabel: Labels | None
    prelabel_version: str
    create_time: datetime

    @property
    def name(self) -> str:
        """Resource name."""
        return f"labelingProjects/{self.project}/tasks/{self.serial}"


@dataclass(frozen=True)
class Assignment:
    """One person's lease on one task."""

    project: str
    task: int
    number: int
    annotator: str
    state: AssignmentState
    lease_time: datetime
    claim_time: datetime
    prelabel: Labels | None
    schema_version: int
    key: str
    media_type: str
    comment: str

    @property
    def name(self) -> str:
        """Resource name."""
        return f"labelingProjects/{self.project}/tasks/{self.task}/assignments/{self.number}"


@dataclass(frozen=True)
class Annotation:
    """One answer of one person; immutable. A reviewer's correction has no assignment: number 0."""

    id: int
    project: str
    task: int
    number: int
    annotator: str
    labels: Labels | None
    revision: int
    withdrawn: bool
    current: bool
    lease_ms: int
    lead_ms: int
    prelabel_shown: bool
    schema_version: int
    create_time: datetime
    key: str

    @property
    def name(self) -> str:
        """Resource name."""
        return f"annotations/{self.id}"

    @property
    def task_name(self) -> str:
        """Resource name of the task."""
        return f"labelingProjects/{self.project}/tasks/{self.task}"

    @property
    def assignment_name(self) -> str:
        """Resource name of the assignment; empty for a reviewer's correction."""
        return f"{self.task_name}/assignments/{self.number}" if self.number else ""


@dataclass(frozen=True)
class Annotator:
    """One person in one project; `error_rate` is -1 before there is a consensus."""

    project: str
    id: str
    answer_count: int
    skip_count: int
    flag_count: int
    gold_count: int
    gold_correct_count: int
    error_rate: float
    error_rate_low: float
    error_rate_high: float
    careless: bool
    paused: bool
    pause_reason: str
    median_lead_ms: int
    labels: Labels
    confusion: tuple[float, ...]

    @property
    def name(self) -> str:
        """Resource name."""
        return f"labelingProjects/{self.project}/annotators/{self.id}"
