"""Experiments, runs, models, versions, bundles: what they are and what may happen to them."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from slipway_runtime.errors import FailedPrecondition, InvalidArgument

MAX_POINTS = 10_000
MAX_TEXT = 4_000
MAX_JSON_BYTES = 1 << 20  # the whole run is in every answer about it
_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_RUN = re.compile(r"experiments/[a-z0-9-]{1,63}/runs/[a-z0-9-]{1,63}")
_COMMIT = re.compile(r"datasets/[a-z0-9-]{1,63}/commits/[0-9a-f]{64}")


class RunState(StrEnum):
    """How far a run is."""

    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def ended(self) -> bool:
        """Say whether nothing may come any more."""
        return self is not RunState.RUNNING


@dataclass(frozen=True)
class Experiment:
    """A set of runs that belong together."""

    id: str
    description: str
    create_time: datetime
    creator: str

    @property
    def name(self) -> str:
        """Resource name."""
        return f"experiments/{self.id}"


@dataclass(frozen=True)
class Run:
    """One training, from its inputs to its figures."""

    experiment: str
    id: str
    display_name: str
    job: str
    dataset_commit: str
    code_digest: str
    params: dict[str, Any]
    environment: dict[str, str]
    seed: int
    host: str
    state: RunState
    error: str
    attempt: int
    create_time: datetime
    end_time: datetime | None
    creator: str
    last_metrics: dict[str, float] = field(default_factory=dict)
    contains_erased: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Resource name."""
        return f"experiments/{self.experiment}/runs/{self.id}"


@dataclass(frozen=True)
class NewRun:
    """What a caller says of a run that it opens."""

    id: str
    display_name: str
    job: str
    dataset_commit: str
    code_digest: str
    params: dict[str, Any]
    environment: dict[str, str]
    seed: int
    host: str


@dataclass(frozen=True)
class Point:
    """One value of one series; `time` is None for "now"."""

    key: str
    step: int
    value: float
    time: datetime | None


@dataclass(frozen=True)
class Model:
    """A named line of versions."""

    id: str
    description: str
    latest_version: int
    create_time: datetime
    update_time: datetime
    etag: str
    creator: str

    @property
    def name(self) -> str:
        """Resource name."""
        return f"models/{self.id}"


@dataclass(frozen=True)
class BundleFile:
    """One file of a bundle."""

    name: str
    size_bytes: int
    blake3: str


@dataclass(frozen=True)
class Bundle:
    """The files of a model as they cross trust boundaries."""

    digest: str
    files: tuple[BundleFile, ...]
    manifest: dict[str, Any]
    evaluation: dict[str, Any]
    create_time: datetime

    @property
    def name(self) -> str:
        """Resource name."""
        return f"bundles/{self.digest}"

    @property
    def size_bytes(self) -> int:
        """Sum of the sizes."""
        return sum(file.size_bytes for file in self.files)


class VersionState(StrEnum):
    """How far a version is; its newest verdict says."""

    CANDIDATE = "CANDIDATE"
    APPROVED = "APPROVED"
    REFUSED = "REFUSED"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True)
class Version:
    """An immutable version of a model; what its gate says of it may change."""

    model: str
    number: int
    run: str
    dataset_commit: str
    code_digest: str
    bundle: str
    evaluation: dict[str, Any]
    parity_max_abs_diff: float
    size_bytes: int
    create_time: datetime
    creator: str
    state: VersionState = VersionState.CANDIDATE
    verdict: int = 0  # number of the verdict that gave it its state; 0 for none
    gated: bool = False
    aliases: tuple[str, ...] = ()
    contains_erased: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Resource name."""
        return f"models/{self.model}/versions/{self.number}"

    @property
    def gate_verdict(self) -> str:
        """Resource name of the verdict that gave it its state, or nothing."""
        return f"{self.name}/gateVerdicts/{self.verdict}" if self.verdict else ""


def check_id(field_name: str, value: str) -> str:
    """Return the id, checked.

    Raises:
        InvalidArgument: It is no lower-case name of at most 63 characters.
    """
    if not _ID.fullmatch(value):
        rule = "use a-z, 0-9 and hyphens, 1 to 63 of them, no hyphen at the ends"
        raise InvalidArgument.field(field_name, f"is {value!r}; {rule}")
    return value


def check_text(field_name: str, value: str) -> str:
    """Return the text, checked for length."""
    if len(value) > MAX_TEXT or "\0" in value:
        raise InvalidArgument.field(field_name, f"has {len(value)} characters; at most {MAX_TEXT}, no NUL")
    return value


def check_json(field_name: str, value: Mapping[str, Any]) -> None:
    """Refuse what is too large, or what PostgreSQL's jsonb cannot hold: a NUL, numbers that JSON has not."""
    try:
        plain = json.dumps(value, allow_nan=False)
    except ValueError as error:
        raise InvalidArgument.field(field_name, f"is no JSON ({error}); send it as text") from error
    if len(plain) > MAX_JSON_BYTES:
        raise InvalidArgument.field(field_name, f"has {len(plain)} bytes as JSON; at most {MAX_JSON_BYTES}")
    if "\\u0000" in plain:
        raise InvalidArgument.field(field_name, "has a text with a NUL; leave it out")


def name_part(name: str, *collections: str, field_name: str = "name") -> tuple[str, ...]:
    """Return the ids of a resource name such as `models/{id}/versions/{id}`.

    Raises:
        InvalidArgument: The name has another form.
    """
    parts = name.split("/")
    wanted = "/".join(f"{collection}/{{{collection.rstrip('s')}}}" for collection in collections)
    shaped = len(parts) == 2 * len(collections) and tuple(parts[::2]) == collections
    if not shaped or not all(parts[1::2]) or "\0" in name:
        raise InvalidArgument.field(field_name, f"is {name!r}; write {wanted}")
    return tuple(parts[1::2])


def check_run(run: NewRun) -> NewRun:
    """Return the run, checked field by field."""
    if run.id:
        check_id("run_id", run.id)
    for name in ("display_name", "job", "code_digest", "host"):
        check_text(f"run.{name}", getattr(run, name))
    check_json("run.params", run.params)
    check_json("run.environment", run.environment)
    if run.dataset_commit:
        check_commit("run.dataset_commit", run.dataset_commit)
    return run


def check_commit(field_name: str, name: str) -> str:
    """Return the resource name of a commit, checked."""
    if not _COMMIT.fullmatch(name):
        raise InvalidArgument.field(field_name, f"is {name!r}; write datasets/{{dataset}}/commits/{{digest}}")
    return name


def check_run_name(field_name: str, name: str) -> str:
    """Return the resource name of a run, checked."""
    if not _RUN.fullmatch(name):
        raise InvalidArgument.field(field_name, f"is {name!r}; write experiments/{{experiment}}/runs/{{run}}")
    return name


def check_digest(name: str, field_name: str = "name") -> str:
    """Return the digest of a bundle's name, checked."""
    (digest,) = name_part(name, "bundles", field_name=field_name)
    if not _DIGEST.fullmatch(digest):
        raise InvalidArgument.field(field_name, f"is {name!r}; write bundles/ and 64 hexadecimal characters")
    return digest


def check_points(points: Sequence[Point]) -> None:
    """Refuse a batch that is too large or has a point without a series or with a negative step."""
    if len(points) > MAX_POINTS:
        raise InvalidArgument.field("points", f"holds {len(points)}; at most {MAX_POINTS}: send it in parts")
    for index, point in enumerate(points):
        if not point.key or len(point.key) > 200 or "\0" in point.key:
            raise InvalidArgument.field(f"points[{index}].key", f"is {point.key!r}; give 1 to 200 characters")
        if point.step < 0:
            raise InvalidArgument.field(f"points[{index}].step", f"is {point.step}; steps begin at 0")


def fence(run: Run, attempt: int) -> None:
    """Let only the newest attempt of a run that goes on write to it.

    Raises:
        FailedPrecondition: A later attempt writes it (STALE_ATTEMPT), or it has ended (RUN_FINISHED).
    """
    if attempt < run.attempt:
        message = f"attempt {run.attempt} writes {run.name} now; attempt {attempt} must stop"
        raise FailedPrecondition("STALE_ATTEMPT", message, metadata={"attempt": str(run.attempt)})
    if run.state.ended:
        message = f"{run.name} has ended as {run.state}; open a new run"
        raise FailedPrecondition("RUN_FINISHED", message, metadata={"state": run.state})


def check_begun(run: Run, attempt: int) -> None:
    """Let nobody write under an attempt that was never begun: its fence is not up.

    Raises:
        InvalidArgument: The attempt is later than the newest one that BeginRunAttempt knows.
    """
    if attempt > run.attempt:
        description = (
            f"is {attempt}, which was not begun (the newest is {run.attempt}); BeginRunAttempt first"
        )
        raise InvalidArgument.field("attempt", description)


def parity_of(manifest: Mapping[str, Any]) -> float:
    """Return the largest difference that the bundle's parity proof found; 0 when it has none."""
    parity = manifest.get("parity")
    value = parity.get("max_abs_diff", 0.0) if isinstance(parity, dict) else 0.0
    return float(value) if isinstance(value, int | float) else 0.0
