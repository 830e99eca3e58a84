"""Drift: what was compared, what it says, and when it becomes an alert. Pure functions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from slipway_runtime.errors import InvalidArgument

INPUTS = "inputs/"
PREDICTIONS, CONFIDENCE, EMBEDDING = "predictions", "confidence", "embedding"


class Verdict(StrEnum):
    """What came out of a window; the values are the proto's."""

    STABLE = "STABLE"
    DRIFTED = "DRIFTED"
    TOO_FEW = "TOO_FEW"
    NO_REFERENCE = "NO_REFERENCE"


class Kind(StrEnum):
    """What the drift points at; the values are the proto's."""

    NONE = "NONE"
    INPUT = "INPUT"
    MODEL = "MODEL"


@dataclass(frozen=True)
class DriftSettings:
    """How windows are compared with the reference."""

    window_rows: int = 500
    min_rows: int = 100
    max_window_s: int = 3600
    alpha: float = 0.01
    min_effect: float = 0.1
    raise_after: int = 2
    clear_after: int = 2

    def __post_init__(self) -> None:
        """Check every bound.

        Raises:
            InvalidArgument: A value is out of its range, or a window can never have its rows.
        """
        _within("window_rows", self.window_rows, 20, 100_000)
        _within("min_rows", self.min_rows, 20, self.window_rows)
        _within("max_window_s", self.max_window_s, 1, 30 * 86_400)
        _within("alpha", self.alpha, 1e-6, 0.5)
        _within("min_effect", self.min_effect, 0.0, 1.0)
        _within("raise_after", self.raise_after, 1, 100)
        _within("clear_after", self.clear_after, 1, 100)


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InvalidArgument.field(f"monitor.drift.{name}", f"is {value:g}; give {low:g} to {high:g}")


@dataclass(frozen=True)
class DriftTest:
    """One thing compared; `effect` is a Kolmogorov distance, a total variation, or a lower bound of one."""

    subject: str
    method: str
    statistic: float
    p_value: float
    effect: float
    psi: float
    row_count: int
    reference_count: int
    adjusted_p_value: float = 1.0
    drifted: bool = False
    observed: Mapping[str, float] = field(default_factory=dict)
    expected: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """What came out of one window."""

    verdict: Verdict
    kind: Kind
    tests: Sequence[DriftTest]
    summary: str


@dataclass(frozen=True)
class DriftReport:
    """A comparison that is kept, under its number at the endpoint.

    Its rows arrived after `after_arrival`, up to `last_arrival`. `accepted` is the number of the report whose
    window they were compared with; 0 is the reference of the version's bundle.
    """

    endpoint: str
    number: int
    model_version: str
    start_time: datetime
    end_time: datetime
    row_count: int
    comparison: Comparison
    after_arrival: int
    last_arrival: int
    accepted: int = 0

    @property
    def name(self) -> str:
        """Resource name."""
        return f"monitors/{self.endpoint}/driftReports/{self.number}"

    @property
    def reference(self) -> str:
        """Resource name of the report whose window they were compared with; empty: the bundle's reference."""
        return f"monitors/{self.endpoint}/driftReports/{self.accepted}" if self.accepted else ""


@dataclass(frozen=True)
class DriftReference:
    """A report's window that was accepted as the reference of its version at the endpoint."""

    endpoint: str
    number: int
    model_version: str
    row_count: int
    reason: str
    creator: str
    create_time: datetime

    @property
    def report(self) -> str:
        """Resource name of the report."""
        return f"monitors/{self.endpoint}/driftReports/{self.number}"


def holm(values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number (S. Holm, 1979), however they depend on each other."""
    order = sorted(range(len(values)), key=values.__getitem__)
    adjusted, highest = [1.0] * len(values), 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, (len(values) - place) * values[index]))
        adjusted[index] = highest
    return adjusted


def judge(tests: Sequence[DriftTest], settings: DriftSettings) -> Comparison:
    """Say what the tests of one window show together.

    The probability that a window without drift is called drifted is `alpha` at most (Holm over all tests); a
    difference that is sure but smaller than `min_effect` is none.
    """
    adjusted = holm([test.p_value for test in tests])
    judged = [
        replace(test, adjusted_p_value=p, drifted=p <= settings.alpha and test.effect >= settings.min_effect)
        for test, p in zip(tests, adjusted, strict=True)
    ]
    kind = kind_of(judged)
    verdict = Verdict.STABLE if kind is Kind.NONE else Verdict.DRIFTED
    return Comparison(verdict, kind, judged, _summary(kind, judged, settings))


def too_few(row_count: int, settings: DriftSettings, why: str = "") -> Comparison:
    """Return the comparison of a window that says nothing."""
    text = why or f"{row_count} rows in {settings.max_window_s} s, {settings.min_rows} are needed"
    return Comparison(Verdict.TOO_FEW, Kind.NONE, (), f"No verdict: {text}.")


def without_reference(version: str, why: str) -> Comparison:
    """Return the comparison of a window that there is nothing to compare with."""
    return Comparison(Verdict.NO_REFERENCE, Kind.NONE, (), f"No verdict: {version} has no reference ({why}).")


def kind_of(tests: Sequence[DriftTest]) -> Kind:
    """Say what the drift points at.

    A model that does not change answers otherwise only when its inputs do. Where inputs were compared and are
    as before, other answers point at the model (or at what the compared features do not show); where none
    were captured, the embedding stands in for them.
    """
    drifted = {test.subject for test in tests if test.drifted}
    if not drifted:
        return Kind.NONE
    captured = any(test.subject.startswith(INPUTS) for test in tests)
    if any(subject.startswith(INPUTS) for subject in drifted):
        return Kind.INPUT
    return Kind.INPUT if EMBEDDING in drifted and not captured else Kind.MODEL


def _summary(kind: Kind, tests: Sequence[DriftTest], settings: DriftSettings) -> str:
    if kind is Kind.NONE:
        return (
            f"{len(tests)} comparisons, none beyond an effect of {settings.min_effect:g} at a false-alarm "
            f"probability of {settings.alpha:g}."
        )
    found = sorted((test for test in tests if test.drifted), key=lambda test: -test.effect)
    parts = ", ".join(f"{t.subject} (effect {t.effect:.2f}, p {t.adjusted_p_value:.1g})" for t in found)
    if kind is Kind.INPUT:
        return f"Inputs differ from the reference: {parts}."
    captured = any(test.subject.startswith(INPUTS) for test in tests)
    inputs = "the compared inputs do not" if captured else "no inputs were captured to compare"
    return f"Answers differ from the reference: {parts}; {inputs}: look at the model."


@dataclass(frozen=True)
class Streak:
    """Windows in a row that were found, and that were clean; `start_time` is the first found one's."""

    found: int = 0
    clean: int = 0
    start_time: datetime | None = None

    def after(self, found: bool, start_time: datetime | None = None) -> "Streak":
        """Return the streak after one more window."""
        if not found:
            return Streak(0, self.clean + 1)
        return Streak(self.found + 1, 0, self.start_time if self.found else start_time)
