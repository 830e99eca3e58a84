"""Spools: how far each is, and what they lost."""

from slipway_monitoring.domain.events import Spool, SpoolCoverage
from slipway_monitoring.store.rows import Rows

# What is missing of an open spool may still come; of a closed or silent one it will not.
_LOST = "CASE WHEN closed OR given_up THEN produced ELSE acknowledged END - received"
_WAITING = "CASE WHEN closed OR given_up THEN 0 ELSE produced - acknowledged END"
MAX_SPOOLS = 1000


class SpoolStore(Rows):
    """Spools on one connection."""

    def begin(self, id: str, endpoint: int, version: int) -> Spool:
        """Return a spool, made when it is new, and hold its lock until the commit."""
        self._rows(
            "INSERT INTO spools (id, endpoint, version) VALUES (:id, :endpoint, :version) "
            "ON CONFLICT DO NOTHING",
            id=id,
            endpoint=endpoint,
            version=version,
        )
        (row,) = self._rows(
            "SELECT acknowledged, received, produced FROM spools WHERE id = :id FOR UPDATE", id=id
        )
        return Spool(id, int(row.acknowledged), int(row.received), int(row.produced))

    def note(self, spool: Spool, *, closed: bool) -> int:
        """Write down how far a spool is; return how many more events are lost for good than before.

        A spool that was given up and reports again is open again: then the number may be negative.
        """
        (row,) = self._rows(
            f"WITH was AS (SELECT {_LOST} AS lost FROM spools WHERE id = :id), "
            "now AS (UPDATE spools SET acknowledged = :acknowledged, received = :received, "
            "produced = :produced, closed = :closed, given_up = false, report_time = clock_timestamp() "
            f"WHERE id = :id RETURNING {_LOST} AS lost) SELECT now.lost - was.lost AS lost FROM was, now",
            closed=closed,
            **vars(spool),
        )
        return int(row.lost)

    def give_up(self, silent_s: float) -> int:
        """Give up spools that were silent for so many seconds; return how many events that loses."""
        (row,) = self._rows(
            "WITH gone AS (UPDATE spools SET given_up = true WHERE NOT closed AND NOT given_up "
            "AND report_time < clock_timestamp() - make_interval(secs => :silent) "
            "RETURNING produced - acknowledged AS lost) SELECT coalesce(sum(lost), 0) AS lost FROM gone",
            silent=silent_s,
        )
        return int(row.lost)

    def coverage(self, endpoint: int) -> list[SpoolCoverage]:
        """Return what the spools of an endpoint delivered, newest first, at most 1000."""
        rows = self._rows(
            "SELECT s.id AS spool, v.name AS model_version, received AS received_count, "
            f"{_LOST} AS lost_count, {_WAITING} AS waiting_count, "
            "(extract(epoch FROM report_time) * 1e6)::bigint AS report_time_us, "
            "closed OR given_up AS closed FROM spools s JOIN versions v ON v.id = s.version "
            "WHERE s.endpoint = :endpoint ORDER BY create_time DESC, s.id LIMIT :limit",
            endpoint=endpoint,
            limit=MAX_SPOOLS,
        )
        return [SpoolCoverage(**row._mapping) for row in rows]

    def totals(self, endpoint: int) -> tuple[int, int, int]:
        """Return the events received, lost and waiting of all spools of an endpoint."""
        (row,) = self._rows(
            f"SELECT coalesce(sum(received), 0) AS received, coalesce(sum({_LOST}), 0) AS lost, "
            f"coalesce(sum({_WAITING}), 0) AS waiting FROM spools WHERE endpoint = :endpoint",
            endpoint=endpoint,
        )
        return int(row.received), int(row.lost), int(row.waiting)
