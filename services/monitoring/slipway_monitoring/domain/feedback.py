"""True labels that come after the prediction, or before its event."""

from collections.abc import Sequence
from dataclasses import dataclass

from slipway_runtime.errors import InvalidArgument

from slipway_monitoring.domain.names import check_text, prediction_row

MAX_FEEDBACK = 10_000
MAX_LABEL = 500


@dataclass(frozen=True, slots=True)
class Label:
    """A true label of one predicted row, and who says so."""

    prediction_id: str
    row: int
    label: str
    source: str


@dataclass(frozen=True)
class Taken:
    """What came of labels; `unknown_labels` are no class of the model that predicted: they count as wrong."""

    recorded_count: int = 0
    repeated_count: int = 0
    changed_count: int = 0
    waiting_count: int = 0
    unknown_labels: tuple[str, ...] = ()


def labels_of(feedback: Sequence[tuple[str, str, str]]) -> tuple[list[Label], int]:
    """Return the labels, each row once, and how many were there twice.

    Args:
        feedback: Prediction's name, label, source.

    Raises:
        InvalidArgument: One is not allowed; the violation names it.
    """
    if not feedback or len(feedback) > MAX_FEEDBACK:
        raise InvalidArgument.field("feedback", f"has {len(feedback)} labels; send 1 to {MAX_FEEDBACK}")
    found: dict[tuple[str, int], Label] = {}
    for number, (name, label, source) in enumerate(feedback):
        at = f"feedback[{number}]"
        key = prediction_row(name, f"{at}.prediction")
        check_text(f"{at}.label", label, longest=MAX_LABEL, needed=True)
        check_text(f"{at}.source", source, longest=MAX_LABEL)
        first = found.setdefault(key, Label(*key, label, source))
        if first.label != label:
            description = f"is {label!r}, but {name} is {first.label!r} further up; send one label of a row"
            raise InvalidArgument.field(f"{at}.label", description)
    return list(found.values()), len(feedback) - len(found)
