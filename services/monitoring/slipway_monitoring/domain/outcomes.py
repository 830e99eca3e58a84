"""What arrived, counted by second of the answer, version and role: the log that cursors read."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass
class Outcome:
    """Counts of what arrived together; `second` counts from 1970, `class_counts` are by class index."""

    second: int
    version: int
    role: int
    row_count: int = 0
    class_counts: Counter[int] = field(default_factory=Counter)
    confidence_sum: float = 0.0
    labelled_count: int = 0
    correct_count: int = 0
    captured_bytes: int = 0


class Tally:
    """Counts rows and labels into outcomes."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, int, int], Outcome] = {}

    def of(self, second: int, version: int, role: int) -> Outcome:
        """Return the outcome that counts these."""
        key = (second, version, role)
        outcome = self._found.get(key)
        if outcome is None:
            outcome = self._found[key] = Outcome(*key)
        return outcome

    def outcomes(self) -> list[Outcome]:
        """Return what was counted, by second."""
        return [self._found[key] for key in sorted(self._found)]


@dataclass(frozen=True)
class OutcomeCount:
    """Counts of one second, version and role, with names."""

    second: int
    model_version: str
    role: int
    row_count: int
    class_counts: dict[str, int]
    labelled_count: int
    correct_count: int


@dataclass(frozen=True)
class Arrived:
    """What arrived after a cursor."""

    outcomes: Sequence[OutcomeCount]
    cursor: str
    more: bool
    pair_count: int
    disagreement_count: int


def merged(entries: Iterable[OutcomeCount]) -> list[OutcomeCount]:
    """Return the counts with those of one second, version and role added up, by second."""
    found: dict[tuple[int, str, int], list[OutcomeCount]] = {}
    for entry in entries:
        found.setdefault((entry.second, entry.model_version, entry.role), []).append(entry)
    return [_sum(found[key]) for key in sorted(found)]


def _sum(entries: Sequence[OutcomeCount]) -> OutcomeCount:
    classes: Counter[str] = Counter()
    for entry in entries:
        classes.update(entry.class_counts)
    first = entries[0]
    return OutcomeCount(
        second=first.second,
        model_version=first.model_version,
        role=first.role,
        row_count=sum(entry.row_count for entry in entries),
        class_counts=dict(classes),
        labelled_count=sum(entry.labelled_count for entry in entries),
        correct_count=sum(entry.correct_count for entry in entries),
    )
