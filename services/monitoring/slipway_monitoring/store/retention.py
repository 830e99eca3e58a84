"""What is forgotten: events by age and count, captured inputs by their bytes; the oldest first."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from slipway_monitoring.store.rows import Rows

STEP = 20_000  # arrivals of one transaction
SPOOL_DAYS = 90


@dataclass(frozen=True)
class Bound:
    """Up to where an endpoint's rows and log entries are to be forgotten, and where that goes on."""

    endpoint: int
    forgotten: int
    arrival: int
    entry: int = 0

    def steps(self) -> Iterator[tuple[int, int]]:
        """Yield ranges of arrivals: after the first number, up to the second."""
        for after in range(self.forgotten, self.arrival, STEP):
            yield after, min(after + STEP, self.arrival)


class RetentionStore(Rows):
    """Deletes what is too old or too much, on one connection.

    The log says where batches end, so the rows of one request are never parted.
    """

    def bounds(self, hours: float, max_rows: int) -> Sequence[Bound]:
        """Return up to where events are too old or too many."""
        rows = self._rows(
            "SELECT o.endpoint, e.forgotten_arrival, max(o.last_arrival) AS arrival, max(o.entry) AS entry "
            "FROM (SELECT endpoint, entry, last_arrival, time, "
            "sum(row_count) OVER (ORDER BY time DESC, endpoint, entry DESC) AS newer FROM outcomes) o "
            "JOIN endpoints e ON e.id = o.endpoint WHERE o.newer > :most "
            "OR o.time < clock_timestamp() - make_interval(secs => :seconds) GROUP BY 1, 2",
            most=max_rows,
            seconds=hours * 3600,
        )
        return [Bound(row.endpoint, row.forgotten_arrival, row.arrival, row.entry) for row in rows]

    def capture_bounds(self, max_bytes: int) -> Sequence[Bound]:
        """Return up to where captured inputs are too many bytes."""
        rows = self._rows(
            "SELECT o.endpoint, e.forgotten_capture, max(o.last_arrival) AS arrival "
            "FROM (SELECT endpoint, last_arrival, sum(captured_bytes) "
            "OVER (ORDER BY time DESC, endpoint, entry DESC) AS newer FROM outcomes "
            "WHERE captured_bytes > 0) o "
            "JOIN endpoints e ON e.id = o.endpoint WHERE o.newer > :most GROUP BY 1, 2",
            most=max_bytes,
        )
        return [Bound(row.endpoint, row.forgotten_capture, row.arrival) for row in rows]

    def forget_rows(self, endpoint: int, after: int, last: int) -> int:
        """Delete rows with their labels and captured inputs; return how many rows."""
        scope = {"endpoint": endpoint, "after": after, "last": last}
        self._rows(f"DELETE FROM labels WHERE {_RANGE}", **scope)
        deleted = self._rows(
            f"WITH gone AS (DELETE FROM predictions WHERE {_RANGE} RETURNING 1) "
            "SELECT count(*) AS n FROM gone",
            **scope,
        )
        self.forget_captures(endpoint, after, last)
        self._rows("UPDATE endpoints SET forgotten_arrival = :last WHERE id = :endpoint", **scope)
        return int(deleted[0].n)

    def forget_captures(self, endpoint: int, after: int, last: int) -> None:
        """Delete captured inputs, but those that an import still waits for: they go when it ends."""
        scope = {"endpoint": endpoint, "after": after, "last": last}
        self._rows(
            f"DELETE FROM captures c WHERE {_RANGE} AND NOT EXISTS (SELECT FROM capture_import_rows r "
            "JOIN capture_imports i ON i.id = r.capture_import WHERE i.state IN ('PENDING', 'RUNNING') "
            "AND r.endpoint = c.endpoint AND r.arrival = c.arrival)",
            **scope,
        )
        self._rows(
            "UPDATE endpoints SET forgotten_capture = greatest(forgotten_capture, :last) "
            "WHERE id = :endpoint",
            **scope,
        )

    def forget_entries(self, endpoint: int, entry: int) -> None:
        """Delete log entries up to a number; cursors before it are refused from then on."""
        self._rows(
            "UPDATE endpoints SET forgotten_entry = :entry WHERE id = :endpoint",
            endpoint=endpoint,
            entry=entry,
        )
        self._rows(
            "DELETE FROM outcomes WHERE endpoint = :endpoint AND entry <= :entry",
            endpoint=endpoint,
            entry=entry,
        )

    def forget_waiting(self, hours: float) -> None:
        """Delete labels that waited for their event too long, and spools that ended long ago."""
        self._rows(
            "DELETE FROM labels WHERE endpoint IS NULL "
            "AND time < clock_timestamp() - make_interval(secs => :seconds)",
            seconds=hours * 3600,
        )
        self._rows(
            "DELETE FROM spools WHERE (closed OR given_up) "
            "AND report_time < clock_timestamp() - make_interval(days => :days)",
            days=SPOOL_DAYS,
        )

    def captured_bytes(self) -> int:
        """Return how many bytes of captured inputs are kept."""
        (row,) = self._rows(
            "SELECT coalesce(sum(o.captured_bytes), 0) AS bytes FROM outcomes o JOIN endpoints e "
            "ON e.id = o.endpoint WHERE o.captured_bytes > 0 AND o.last_arrival > e.forgotten_capture"
        )
        return int(row.bytes)


_RANGE = "endpoint = :endpoint AND arrival > :after AND arrival <= :last"
