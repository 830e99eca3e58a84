"""Gates: what a policy is, what a verdict says, and which version a name points at."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

CHAMPION = "champion"
MIN_REASON = 10


class Outcome(StrEnum):
    """How a check ended; in the order in which findings are told."""

    FAILED = "FAILED"
    UNDECIDED = "UNDECIDED"
    PASSED = "PASSED"


class Judgement(StrEnum):
    """What a gate says of a version."""

    APPROVED = "APPROVED"
    REFUSED = "REFUSED"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True)
class GatePolicy:
    """A model's policy as it was set; each change is a version of its own."""

    model: str
    version: int
    yaml: str
    create_time: datetime
    creator: str

    @property
    def name(self) -> str:
        """Resource name."""
        return f"models/{self.model}/gatePolicy"


@dataclass(frozen=True)
class Finding:
    """One check of a gate; `slice` and `metric` are empty where there is none."""

    gate: str
    outcome: Outcome
    message: str
    metric: str = ""
    slice: str = ""
    value: float = 0.0
    bound: float = 0.0
    example_count: int = 0
    p_value: float = 1.0


@dataclass(frozen=True)
class NewVerdict:
    """What was found, before it has a number."""

    judgement: Judgement
    findings: tuple[Finding, ...] = ()
    policy_version: int = 0
    evaluation: str = ""
    champion_version: str = ""
    override_reason: str = ""


@dataclass(frozen=True)
class Verdict:
    """What a gate, or a person against it, said of a version; kept for good."""

    model: str
    version: int
    number: int
    judgement: Judgement
    findings: tuple[Finding, ...]
    policy_version: int
    evaluation: str
    champion_version: str
    override: bool
    override_reason: str
    create_time: datetime
    creator: str

    @property
    def name(self) -> str:
        """Resource name."""
        return f"models/{self.model}/versions/{self.version}/gateVerdicts/{self.number}"


@dataclass(frozen=True)
class Alias:
    """A name that points at a version."""

    model: str
    alias: str
    version: int
    update_time: datetime
    updater: str

    @property
    def name(self) -> str:
        """Resource name."""
        return f"models/{self.model}/aliases/{self.alias}"

    @property
    def model_version(self) -> str:
        """Resource name of the version."""
        return f"models/{self.model}/versions/{self.version}"


def judgement_of(findings: Iterable[Finding]) -> Judgement:
    """Return REFUSED when a check failed, INCONCLUSIVE when one could not tell, else APPROVED."""
    outcomes = {finding.outcome for finding in findings}
    if Outcome.FAILED in outcomes or not outcomes:
        return Judgement.REFUSED
    return Judgement.INCONCLUSIVE if Outcome.UNDECIDED in outcomes else Judgement.APPROVED


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the findings, failed ones first, then undecided ones; otherwise as they came."""
    places = list(Outcome)
    return tuple(sorted(findings, key=lambda finding: places.index(finding.outcome)))
