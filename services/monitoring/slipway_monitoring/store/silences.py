"""Silences."""

import uuid

from slipway_monitoring.domain.alerts import Silence
from slipway_monitoring.store.rows import Rows


class SilenceStore(Rows):
    """Silences on one connection."""

    def add(self, silence: Silence, creator: str) -> Silence:
        """Keep a silence."""
        (row,) = self._rows(
            "INSERT INTO silences (id, endpoint, rule, end_time, comment, creator) "
            "VALUES (:id, :endpoint, :rule, :end, :comment, :creator) RETURNING *",
            id=uuid.uuid4().hex,
            endpoint=silence.endpoint,
            rule=silence.rule,
            end=silence.end_time,
            comment=silence.comment,
            creator=creator,
        )
        return Silence(**row._mapping)

    def list(self, before: int, limit: int) -> list[Silence]:
        """Return silences, newest first."""
        rows = self._rows(
            "SELECT * FROM silences WHERE serial < :before ORDER BY serial DESC LIMIT :limit",
            before=before,
            limit=limit,
        )
        return [Silence(**row._mapping) for row in rows]
