"""The log of what arrived, in the order of commits per endpoint."""

import json
from collections.abc import Sequence
from datetime import datetime

from slipway_monitoring.domain.events import Role
from slipway_monitoring.domain.outcomes import Outcome, OutcomeCount
from slipway_monitoring.domain.quality import VersionQuality
from slipway_monitoring.store.rows import Rows
from slipway_monitoring.store.sources import Place

ENTRIES = 2_000  # read at a time


class OutcomeStore(Rows):
    """The log on one connection."""

    def add(
        self, place: Place, outcomes: Sequence[Outcome], last_arrival: int, pairs: tuple[int, int] = (0, 0)
    ) -> None:
        """Append entries, numbered from after `place`.

        Args:
            place: Of the endpoint, with its lock held.
            outcomes: One entry each; at least one.
            last_arrival: Of the rows that these entries count.
            pairs: Mirrored rows that found their twin, and how many differ; the first entry says so.
        """
        entries = [
            {
                **vars(outcome),
                "class_counts": {str(index): count for index, count in outcome.class_counts.items()},
                "entry": place.entry + number,
                "pair_count": pairs[0] if number == 1 else 0,
                "disagreement_count": pairs[1] if number == 1 else 0,
            }
            for number, outcome in enumerate(outcomes, 1)
        ]
        self._rows(
            "INSERT INTO outcomes (endpoint, entry, second, version, role, row_count, class_counts, "
            "confidence_sum, labelled_count, correct_count, pair_count, disagreement_count, captured_bytes, "
            "after_arrival, last_arrival) SELECT :endpoint, r.entry, r.second, r.version, r.role, "
            "r.row_count, r.class_counts, r.confidence_sum, r.labelled_count, r.correct_count, r.pair_count, "
            "r.disagreement_count, r.captured_bytes, :after, :last "
            "FROM jsonb_to_recordset(CAST(:entries AS jsonb)) AS r(entry bigint, second bigint, version int, "
            "role smallint, row_count bigint, class_counts jsonb, confidence_sum float8, "
            "labelled_count bigint, correct_count bigint, pair_count bigint, disagreement_count bigint, "
            "captured_bytes bigint)",
            endpoint=place.endpoint,
            after=place.arrival,
            last=last_arrival,
            entries=json.dumps(entries),
        )

    def forgotten(self, endpoint: int) -> int:
        """Return the number of the last entry that was forgotten."""
        (row,) = self._rows("SELECT forgotten_entry FROM endpoints WHERE id = :endpoint", endpoint=endpoint)
        return int(row.forgotten_entry)

    def entry_before(self, endpoint: int, time: datetime | None) -> int:
        """Return the number of the last entry that arrived before a time; no time: before the oldest."""
        (row,) = self._rows(
            "SELECT coalesce((SELECT min(entry) - 1 FROM outcomes WHERE endpoint = :endpoint AND time >= "
            "coalesce(CAST(:time AS timestamptz), '-infinity')), "
            "(SELECT entry FROM endpoints WHERE id = :endpoint)) AS entry",
            endpoint=endpoint,
            time=time,
        )
        return int(row.entry)

    def after(
        self, endpoint: int, entry: int, limit: int
    ) -> tuple[list[OutcomeCount], int, tuple[int, int], bool]:
        """Return the next entries, the last one's number, the pairs in them, and whether there are more."""
        rows = self._rows(
            "SELECT o.entry, o.second, v.name AS model_version, o.role, o.row_count, o.labelled_count, "
            "o.correct_count, o.class_counts, v.classes, o.pair_count, o.disagreement_count "
            "FROM outcomes o JOIN versions v ON v.id = o.version "
            "WHERE o.endpoint = :endpoint AND o.entry > :entry ORDER BY o.entry LIMIT :limit",
            endpoint=endpoint,
            entry=entry,
            limit=limit + 1,
        )
        read = rows[:limit]
        counts = [
            OutcomeCount(
                second=row.second,
                model_version=row.model_version,
                role=row.role,
                row_count=row.row_count,
                class_counts=_named(row.class_counts, row.classes),
                labelled_count=row.labelled_count,
                correct_count=row.correct_count,
            )
            for row in read
        ]
        pairs = (sum(row.pair_count for row in read), sum(row.disagreement_count for row in read))
        return counts, int(read[-1].entry) if read else entry, pairs, len(rows) > limit

    def quality(self, endpoint: int, window_s: float) -> list[VersionQuality]:
        """Return how the live rows of the last seconds do, by version."""
        scope = {"endpoint": endpoint, "live": int(Role.LIVE), "window": window_s}
        rows = self._rows(
            "SELECT o.version, v.name, v.classes, sum(row_count)::bigint AS rows, "
            "sum(confidence_sum) AS confidence FROM outcomes o JOIN versions v ON v.id = o.version "
            f"WHERE {_RECENT} GROUP BY 1, 2, 3 HAVING sum(row_count) > 0 ORDER BY 2",
            **scope,
        )
        classes = self._rows(
            "SELECT o.version, c.key, sum(c.value::bigint)::bigint AS rows FROM outcomes o, "
            f"jsonb_each_text(o.class_counts) c WHERE {_RECENT} GROUP BY 1, 2",
            **scope,
        )
        labels = {
            row.version: row
            for row in self._rows(
                "SELECT version, count(*) AS labelled, count(*) FILTER (WHERE correct) AS correct, "
                "percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY "
                "greatest(extract(epoch FROM first_time - prediction_time), 0)) AS delays "
                "FROM labels WHERE endpoint = :endpoint AND role = :live "
                "AND prediction_time >= clock_timestamp() - make_interval(secs => :window) GROUP BY 1",
                **scope,
            )
        }
        total = sum(row.rows for row in rows)
        found = []
        for row in rows:
            labelled = labels.get(row.version)
            counts = {one.key: int(one.rows) for one in classes if one.version == row.version}
            found.append(
                VersionQuality(
                    model_version=row.name,
                    row_count=row.rows,
                    traffic_share=row.rows / total,
                    labelled_count=labelled.labelled if labelled else 0,
                    correct_count=labelled.correct if labelled else 0,
                    class_counts=_named(counts, row.classes),
                    mean_confidence=row.confidence / row.rows,
                    label_delay_p50_s=labelled.delays[0] if labelled else None,
                    label_delay_p95_s=labelled.delays[1] if labelled else None,
                )
            )
        return found


# The log counts whole seconds: the window ends with the current one.
_RECENT = (
    "o.endpoint = :endpoint AND o.role = :live "
    "AND o.second >= floor(extract(epoch FROM clock_timestamp()) - :window)"
)


def _named(counts: dict[str, int], classes: Sequence[str]) -> dict[str, int]:
    """Return counts by class name, given counts by class index; rows without a class are not counted."""
    return {
        classes[int(index)] if int(index) < len(classes) else index: count
        for index, count in counts.items()
        if int(index) >= 0
    }
