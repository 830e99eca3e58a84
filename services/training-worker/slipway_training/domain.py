"""Training jobs, scoring jobs, attempts, task code: what they are and what may become of them."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from typing import Any, ClassVar

from slipway_runtime.errors import Aborted, FailedPrecondition, InvalidArgument, NotFound

DEFAULT_MAX_ATTEMPTS = 3
MAX_MAX_ATTEMPTS = 20
MAX_DISPLAY_NAME = 200
SPLITS = ("train", "validation", "test")

_ID = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAMES = {
    "experiment": (re.compile(rf"experiments/{_ID}"), "experiments/{experiment}"),
    "model": (re.compile(rf"models/{_ID}"), "models/{model}"),
    "dataset_commit": (
        re.compile(rf"datasets/{_ID}/commits/[0-9a-f]{{8,128}}"),
        "datasets/{dataset}/commits/{digest}",
    ),
    "task_code": (re.compile(r"taskCode/[0-9a-f]{64}"), "taskCode/{digest}"),
    "entry_point": (re.compile(r"[\w./-]+\.py:[A-Za-z_]\w*"), "file.py:ClassName"),
    "model_version": (
        re.compile(rf"models/{_ID}/versions/[1-9][0-9]{{0,8}}"),
        "models/{model}/versions/{number}",
    ),
}
_TRAINING_NAMES = ("experiment", "model", "dataset_commit", "task_code", "entry_point")


class State(Enum):
    """How far a job is."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def ended(self) -> bool:
        """Whether nothing changes any more."""
        return self in {State.SUCCEEDED, State.FAILED, State.CANCELLED}


class Outcome(Enum):
    """How an attempt ended; LOST is a death (of the worker or the training process)."""

    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    LOST = "LOST"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, kw_only=True)
class TaskCode:
    """A packed task folder, named by its content."""

    digest: str
    size_bytes: int
    files: tuple[str, ...]
    create_time: datetime | None = None

    @property
    def name(self) -> str:
        """Its resource name."""
        return f"taskCode/{self.digest}"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far an attempt is."""

    stage: str = ""
    step: int = 0
    total_steps: int = 0
    epoch: int = 0
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One try at a job; its number fences its effects."""

    number: int
    host: str = ""
    pid: int = 0
    start_step: int = 0
    last_step: int = 0
    start_time: datetime | None = None
    end_time: datetime | None = None
    outcome: Outcome = Outcome.RUNNING
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """What a caller asks for."""

    display_name: str
    experiment: str
    model: str
    dataset_commit: str
    task_code: str
    entry_point: str
    hyperparameters: dict[str, Any]
    seed: int
    max_attempts: int


@dataclass(frozen=True, kw_only=True)
class LeasedJob(ABC):
    """What a worker takes with a lease: a job that must end with exactly one result.

    `failures` counts the attempts that used up one of `max_attempts`; an attempt that a stopping worker
    gave back does not.
    """

    collection: ClassVar[str]
    ended_reason: ClassVar[str]

    id: str
    creator: str
    state: State = State.PENDING
    error: str = ""
    attempt: int = 0
    failures: int = 0
    cancel_requested: bool = False
    traceparent: str = ""
    revision: int = 0
    create_time: datetime | None = None
    end_time: datetime | None = None

    @property
    def name(self) -> str:
        """Its resource name."""
        return f"{self.collection}/{self.id}"

    @property
    @abstractmethod
    def max_attempts(self) -> int:
        """Attempts before it is dead-lettered."""

    def ended_error(self) -> FailedPrecondition:
        """Return the error for cancelling it after its end."""
        message = f"{self.name} has ended ({self.state.value}); it cannot be cancelled"
        return FailedPrecondition(self.ended_reason, message, metadata={"state": self.state.value})


@dataclass(frozen=True, kw_only=True)
class Job(LeasedJob):
    """A training. `bundle` is set before the version is registered, so that registering can be repeated."""

    collection = "trainingJobs"
    ended_reason = "TRAINING_JOB_ENDED"

    spec: JobSpec
    progress: Progress = field(default_factory=Progress)
    run: str = ""
    model_version: str = ""
    bundle: str = ""
    attempts: tuple[Attempt, ...] = ()

    @property
    def max_attempts(self) -> int:
        """Attempts before it is dead-lettered."""
        return self.spec.max_attempts


@dataclass(frozen=True, kw_only=True)
class Version:
    """What never changes of a model version."""

    name: str
    bundle: str
    dataset_commit: str


@dataclass(frozen=True, kw_only=True)
class ScoringSpec:
    """What a caller asks for, and what the registry said then of the versions.

    `part_size` stands in the row, so that attempts by workers of several releases cut the same parts.
    """

    model_version: str
    dataset_commit: str
    split: str
    unlabelled_only: bool
    evaluate: bool
    champion_version: str
    max_attempts: int
    bundle: str = ""
    training_commit: str = ""
    champion_bundle: str = ""
    part_size: int = 0


@dataclass(frozen=True, kw_only=True)
class Measures:
    """Latency and golden answers of an evaluation; kept in the row, so that recording can be repeated."""

    latency_ms: tuple[float, ...]
    champion_latency_ms: tuple[float, ...]
    latency_batch_rows: int
    golden_max_abs_diff: float
    golden_count: int


@dataclass(frozen=True, kw_only=True)
class Part:
    """Scores of a fixed range of keys, kept in the object store under their digest."""

    number: int
    count: int
    digest: str


@dataclass(frozen=True, kw_only=True)
class ScoringJob(LeasedJob):
    """A version run over the examples of a commit."""

    collection = "scoringJobs"
    ended_reason = "SCORING_JOB_ENDED"

    spec: ScoringSpec
    done_count: int = 0
    total_count: int = 0
    classes: tuple[str, ...] = ()
    measures: Measures | None = None
    evaluation: str = ""

    @property
    def max_attempts(self) -> int:
        """Attempts before it is dead-lettered."""
        return self.spec.max_attempts


class FencedError(Aborted):
    """Another attempt holds the job: this one must stop without any further effect."""

    def __init__(self, name: str, attempt: int) -> None:
        super().__init__("STALE_ATTEMPT", f"attempt {attempt} of {name} no longer holds it")


def checked(spec: JobSpec) -> JobSpec:
    """Return the spec with its defaults.

    Raises:
        InvalidArgument: a field is refused; the violation names field, value and remedy.
    """
    for name in _TRAINING_NAMES:
        _require_form(f"training_job.{name}", name, getattr(spec, name))
    if len(spec.display_name) > MAX_DISPLAY_NAME or "\0" in spec.display_name:
        description = f"has {len(spec.display_name)} characters; send at most {MAX_DISPLAY_NAME}, no NUL"
        raise InvalidArgument.field("training_job.display_name", description)
    return replace(spec, max_attempts=_max_attempts("training_job", spec.max_attempts))


def checked_scoring(spec: ScoringSpec) -> ScoringSpec:
    """Return the spec with its defaults.

    Raises:
        InvalidArgument: a field is refused; the violation names field, value and remedy.
    """
    _require_form("scoring_job.model_version", "model_version", spec.model_version)
    _require_form("scoring_job.dataset_commit", "dataset_commit", spec.dataset_commit)
    if spec.split and spec.split not in SPLITS:
        description = f"is {spec.split!r}; send one of {', '.join(SPLITS)}, or nothing for all"
        raise InvalidArgument.field("scoring_job.split", description)
    if spec.evaluate and spec.unlabelled_only:
        description = "is true, and so is evaluate, which needs labels; send one of them"
        raise InvalidArgument.field("scoring_job.unlabelled_only", description)
    if spec.champion_version:
        _require_champion(spec)
    return replace(spec, max_attempts=_max_attempts("scoring_job", spec.max_attempts))


def _require_champion(spec: ScoringSpec) -> None:
    field, champion = "scoring_job.champion_version", spec.champion_version
    if not spec.evaluate:
        raise InvalidArgument.field(field, f"is {champion!r}; it is used with evaluate alone: set that, too")
    _require_form(field, "model_version", champion)
    model = spec.model_version.partition("/versions/")[0]
    if champion.partition("/versions/")[0] != model:
        raise InvalidArgument.field(field, f"is {champion!r}; send a version of {model}, which is evaluated")


def _require_form(field: str, kind: str, value: str) -> None:
    pattern, form = _NAMES[kind]
    if not pattern.fullmatch(value) or ".." in value:
        raise InvalidArgument.field(field, f"is {value!r}; send {form}")


def _max_attempts(noun: str, asked: int) -> int:
    if not 0 <= asked <= MAX_MAX_ATTEMPTS:
        description = f"is {asked}; send 1 to {MAX_MAX_ATTEMPTS}, or 0 for {DEFAULT_MAX_ATTEMPTS}"
        raise InvalidArgument.field(f"{noun}.max_attempts", description)
    return asked or DEFAULT_MAX_ATTEMPTS


def id_of(name: str, collection: str, field: str = "name") -> str:
    """Return the id in `{collection}/{id}`.

    Raises:
        InvalidArgument: the name has another form.
    """
    prefix, _, id = name.partition("/")
    if prefix != collection or not re.fullmatch(r"[0-9a-zA-Z-]{1,128}", id):
        raise InvalidArgument.field(field, f"is {name!r}; send {collection}/{{id}}")
    return id


def job_not_found(name: str, known: Iterable[str]) -> NotFound:
    """Return the error for an unknown job."""
    return NotFound.of("TRAINING_JOB_NOT_FOUND", "training job", name, known)


def scoring_job_not_found(name: str, known: Iterable[str]) -> NotFound:
    """Return the error for an unknown scoring job."""
    return NotFound.of("SCORING_JOB_NOT_FOUND", "scoring job", name, known)


def task_code_not_found(name: str) -> NotFound:
    """Return the error for unknown task code."""
    message = f"there is no task code {name!r}; upload the folder first (UploadTaskCode)"
    return NotFound("TASK_CODE_NOT_FOUND", message, metadata={"name": name})


def dataset_commit_not_found(name: str) -> NotFound:
    """Return the error for a commit that ingestion does not know."""
    message = f"there is no dataset commit {name!r}; list the commits of the data set, and choose one"
    return NotFound("DATASET_COMMIT_NOT_FOUND", message, metadata={"name": name})


def code_refused(message: str) -> InvalidArgument:
    """Return the refusal of an archive, or of an entry point in it."""
    return InvalidArgument("TASK_CODE_REFUSED", message)


def hyperparameter_refused(name: str, message: str) -> InvalidArgument:
    """Return the refusal of one hyperparameter."""
    field = f"training_job.hyperparameters.{name}"
    return InvalidArgument.field(field, message, reason="INVALID_HYPERPARAMETER")


def model_version_not_found(name: str, near: str) -> NotFound:
    """Return the error for a version that the registry does not know; `near` are names like it."""
    hint = f"; did you mean {near}?" if near else "; list the versions of the model, and choose one"
    message = f"there is no model version {name!r}{hint}"
    return NotFound("MODEL_VERSION_NOT_FOUND", message, metadata={"name": name, "near": near})


def scores_not_ready(job: ScoringJob) -> FailedPrecondition:
    """Return the error for reading the scores of a job that has not succeeded."""
    remedy = "it has none" if job.state.ended else "wait for its end (WatchScoringJob)"
    message = f"{job.name} is {job.state.value}, {job.done_count} of {job.total_count} scored; {remedy}"
    return FailedPrecondition("SCORES_NOT_READY", message, metadata={"state": job.state.value})


def dead_letter(job: LeasedJob, error: str) -> str:
    """Return the error text of a job that has used up its attempts."""
    return f"gave up after {job.failures} attempts that died; the last: {error}"


def struct_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return hyperparameters out of a Struct, where every number is a double."""
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value
        for name, value in values.items()
    }
