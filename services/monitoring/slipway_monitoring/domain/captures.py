"""Imports of captured inputs: what is asked for, how far each is, and what goes into it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from slipway_runtime.errors import FailedPrecondition, InvalidArgument, SlipwayError

from slipway_monitoring.domain.events import Tensor
from slipway_monitoring.domain.names import check_dataset, check_endpoint, check_text, prediction_name

DEFAULT_COUNT, MAX_COUNT = 1_000, 10_000
MAX_ATTRIBUTES = 50
MAIN = "main"
OWN = ("endpoint", "model_version", "predicted_label", "confidence")  # attributes that every example has


@dataclass(frozen=True)
class ImportSpec:
    """What an import takes, and where it goes. Of `max_count` the least confident rows."""

    endpoint: str
    dataset: str
    branch: str = MAIN
    start_time: datetime | None = None
    end_time: datetime | None = None
    max_confidence: float = 0.0
    max_count: int = DEFAULT_COUNT
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CaptureImport:
    """An import and how far it is."""

    id: str
    spec: ImportSpec
    state: str
    commit: str
    example_count: int
    error: str
    create_time: datetime
    creator: str

    @property
    def name(self) -> str:
        """Resource name."""
        return f"captureImports/{self.id}"


@dataclass(frozen=True)
class Errand:
    """One attempt at an import; its effects are fenced by its number."""

    id: str
    attempt: int
    failures: int
    spec: ImportSpec
    creator: str
    traceparent: str

    @property
    def message(self) -> str:
        """Message of the commit."""
        return f"Captured inputs of {self.spec.endpoint} (captureImports/{self.id})"


@dataclass(frozen=True)
class Chosen:
    """A row of an import with its captured image (H, W, C) of bytes."""

    prediction_id: str
    row: int
    model_version: str
    predicted_label: str
    confidence: float
    image: Tensor

    @property
    def key(self) -> str:
        """Key of the example that it becomes."""
        return prediction_name(self.prediction_id, self.row)

    def attributes(self, spec: ImportSpec) -> dict[str, str]:
        """Return the attributes of the example that it becomes."""
        own = (spec.endpoint, self.model_version, self.predicted_label, f"{self.confidence:.6g}")
        return {**spec.attributes, **dict(zip(OWN, own, strict=True))}


class FencedError(Exception):
    """Another attempt has the import, or it has ended."""


def check_import(spec: ImportSpec) -> ImportSpec:
    """Return what is asked for, checked field by field, with its defaults.

    Raises:
        InvalidArgument: A field is not allowed; the violation names it.
    """
    check_endpoint("capture_import.endpoint", spec.endpoint)
    check_dataset("capture_import.dataset", spec.dataset)
    check_text("capture_import.branch", spec.branch, longest=100)
    if spec.start_time and spec.end_time and spec.end_time <= spec.start_time:
        raise InvalidArgument.field(
            "capture_import.end_time", "is not after start_time; swap them, or leave one out"
        )
    if not 0 <= spec.max_confidence <= 1:
        description = f"is {spec.max_confidence}; give 0 to 1, 0 for all"
        raise InvalidArgument.field("capture_import.max_confidence", description)
    if not 0 <= spec.max_count <= MAX_COUNT:
        description = f"is {spec.max_count}; give 1 to {MAX_COUNT}, or 0 for {DEFAULT_COUNT}"
        raise InvalidArgument.field("capture_import.max_count", description)
    _check_attributes(spec.attributes)
    return replace(spec, branch=spec.branch or MAIN, max_count=spec.max_count or DEFAULT_COUNT)


def _check_attributes(attributes: Mapping[str, str]) -> None:
    at = "capture_import.attributes"
    if len(attributes) > MAX_ATTRIBUTES:
        raise InvalidArgument.field(at, f"has {len(attributes)} entries; at most {MAX_ATTRIBUTES}")
    for key, value in attributes.items():
        if key in OWN:
            raise InvalidArgument.field(f"{at}[{key!r}]", "is given by the import itself; take another name")
        check_text(f"{at}[{key[:50]!r}]", key, longest=100, needed=True)
        check_text(f"{at}[{key!r}]", value, longest=500)


def nothing_captured(endpoint: str) -> FailedPrecondition:
    """Return the refusal of an import that would be empty."""
    message = (
        f"no image that was sent to {endpoint} is kept for that time and confidence; set the endpoint's "
        "capture_policy, or widen what is asked for"
    )
    return FailedPrecondition("NOTHING_CAPTURED", message, metadata={"endpoint": endpoint})


def error_text(error: SlipwayError) -> str:
    """Return why an import failed or waits: the reason, then a sentence."""
    return f"{error.reason}: {error.message}"
