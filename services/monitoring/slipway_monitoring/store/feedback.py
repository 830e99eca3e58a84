"""Labels in, each joined to its row when that is there."""

from collections.abc import Sequence
from dataclasses import dataclass

from slipway_monitoring.domain.feedback import Label
from slipway_monitoring.store.predictions import CLASS_NAME
from slipway_monitoring.store.rows import Rows

_GIVEN = (
    "unnest(CAST(:ids AS text[]), CAST(:rows AS int[]), CAST(:labels AS text[]), CAST(:sources AS text[])) "
    "WITH ORDINALITY AS g(prediction_id, row, label, source, number)"
)
_JOINED = (
    f"{_GIVEN} LEFT JOIN predictions p ON p.prediction_id = g.prediction_id AND p.row = g.row "
    "LEFT JOIN versions v ON v.id = p.version "
)


@dataclass(frozen=True)
class Standing:
    """What is known of a label's row; `second` and what follows only where the row is there.

    `sibling`: another row of the same request is there; `unknown`: the version has no such class.
    """

    old_label: str | None
    sibling: bool
    endpoint: int | None
    version: int
    role: int
    second: int
    correct: bool
    unknown: bool


class FeedbackStore(Rows):
    """Labels on one connection; whoever writes holds the labels' lock (`EventStore.own_labels`)."""

    def standings(self, labels: Sequence[Label]) -> list[Standing]:
        """Return what is known of the rows of labels, in their order."""
        rows = self._rows(
            "SELECT l.label AS old_label, p.endpoint, coalesce(p.version, 0) AS version, "
            "coalesce(p.role, 0) AS role, coalesce(floor(extract(epoch FROM p.time)), 0)::bigint AS second, "
            f"coalesce(g.label = {CLASS_NAME}, false) AS correct, "
            "coalesce(cardinality(v.classes) > 0 AND g.label <> ALL(v.classes), false) AS unknown, "
            "p.endpoint IS NULL AND EXISTS (SELECT FROM predictions q "
            "WHERE q.prediction_id = g.prediction_id) AS sibling "
            f"FROM {_JOINED} LEFT JOIN labels l ON l.prediction_id = g.prediction_id AND l.row = g.row "
            "ORDER BY g.number",
            **_columns(labels),
        )
        return [Standing(**row._mapping) for row in rows]

    def put(self, labels: Sequence[Label], creator: str) -> None:
        """Keep labels; one that is there with another value is replaced."""
        self._rows(
            "INSERT INTO labels (prediction_id, row, label, source, creator, endpoint, arrival, version, "
            "role, prediction_time, correct) SELECT g.prediction_id, g.row, g.label, g.source, :creator, "
            "p.endpoint, p.arrival, p.version, p.role, p.time, "
            f"g.label = {CLASS_NAME} AND p.endpoint IS NOT NULL FROM {_JOINED} "
            "ON CONFLICT (prediction_id, row) DO UPDATE SET label = excluded.label, "
            "source = excluded.source, creator = excluded.creator, time = clock_timestamp(), "
            "correct = excluded.correct WHERE labels.label <> excluded.label",
            creator=creator,
            **_columns(labels),
        )


def _columns(labels: Sequence[Label]) -> dict[str, list[str] | list[int]]:
    return {
        "ids": [label.prediction_id for label in labels],
        "rows": [label.row for label in labels],
        "labels": [label.label for label in labels],
        "sources": [label.source for label in labels],
    }
