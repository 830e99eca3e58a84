"""What a test found: checks with value, bound and seconds."""

from dataclasses import dataclass, field
from typing import Any, Literal

Outcome = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Args:
        name: What, in few words.
        outcome: `failed` fails the test; `skipped` was not looked at, and `message` says why.
        value: What was measured.
        bound: What it must be.
        message: One sentence when it did not pass.
        seconds: How long it took.
    """

    name: str
    outcome: Outcome
    value: float | str = ""
    bound: float | str = ""
    message: str = ""
    seconds: float = 0.0


@dataclass
class Report:
    """One test of one model version.

    Args:
        test: `functionality`, `validation` or `training-system`.
        subject: The version's name.
        budget_s: Seconds that it may take.
        checks: In the order in which they were made.
        seconds: How long all took.
    """

    test: str
    subject: str
    budget_s: float
    checks: list[Check] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether something was checked and nothing failed."""
        return not self.failures and any(check.outcome == "passed" for check in self.checks)

    @property
    def failures(self) -> list[Check]:
        """The checks that failed."""
        return [check for check in self.checks if check.outcome == "failed"]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "test": self.test,
            "subject": self.subject,
            "passed": self.passed,
            "budget_s": self.budget_s,
            "seconds": round(self.seconds, 3),
            "checks": [{**vars(check), "seconds": round(check.seconds, 3)} for check in self.checks],
        }


def at_most(name: str, value: float, bound: float, message: str) -> Check:
    """Return a check that a value is not above its bound; NaN is above every bound."""
    good = value <= bound
    return Check(name, "passed" if good else "failed", value, bound, "" if good else message)


def expected(name: str, value: str, bound: str, message: str) -> Check:
    """Return a check that a value is what it must be."""
    good = value == bound
    return Check(name, "passed" if good else "failed", value, bound, "" if good else message)


__all__ = ["Check", "Outcome", "Report", "at_most", "expected"]
