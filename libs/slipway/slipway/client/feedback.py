"""Late labels: what a prediction should have said."""

import uuid
from collections.abc import Iterable
from typing import Any

from slipway.monitoring.v1 import monitoring_pb2 as mon

MOST = 10_000


def record_feedback(
    monitoring: Any, labels: Iterable[tuple[str, str]], source: str = "", request_id: str = ""
) -> mon.RecordFeedbackResponse:
    """Give monitoring true labels, 10,000 at a time; return what came of all of them together.

    Args:
        monitoring: The service.
        labels: Pairs of a predicted row (`<prediction id>.<row>`) and its label.
        source: Who says so: `annotations/…`, `imports/…`, or a free text.
        request_id: Makes a repeat with the same labels return the first answer; made when empty.

    Raises:
        SlipwayError: A row's name or a label is not one; what came before its part is kept.
    """
    identity = request_id or str(uuid.uuid4())
    total = mon.RecordFeedbackResponse()
    given = [
        mon.Feedback(prediction=f"predictions/{row.removeprefix('predictions/')}", label=label, source=source)
        for row, label in labels
    ]
    for start in range(0, len(given), MOST):
        part = mon.RecordFeedbackRequest(
            feedback=given[start : start + MOST],
            request_id=f"{identity}.{start // MOST}" if start else identity,
        )
        _add(total, monitoring.RecordFeedback(part))
    return total


def _add(total: mon.RecordFeedbackResponse, part: mon.RecordFeedbackResponse) -> None:
    for field, value in part.ListFields():
        if field.is_repeated:
            known = getattr(total, field.name)
            known.extend(one for one in value if one not in known)
        else:
            setattr(total, field.name, getattr(total, field.name) + value)
