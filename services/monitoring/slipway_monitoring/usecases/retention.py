"""What is too old or too much is forgotten, the oldest first."""

from prometheus_client import Counter, Gauge
from slipway_runtime.db import Database

from slipway_monitoring.store.retention import Bound, RetentionStore

FORGOTTEN = Counter("slipway_monitoring_rows_forgotten_total", "Predicted rows deleted by age or count.")
CAPTURED = Gauge("slipway_monitoring_captured_bytes", "Bytes of captured inputs that are kept.")


class Retention:
    """Forgets events by age and count, captured inputs by their bytes.

    Args:
        database: The service's own.
        hours: That events are kept.
        max_rows: Predicted rows that are kept.
        max_captured_bytes: Of captured inputs that are kept.
    """

    def __init__(self, *, database: Database, hours: float, max_rows: int, max_captured_bytes: int) -> None:
        self._database = database
        self._hours = hours
        self._max_rows = max_rows
        self._max_captured_bytes = max_captured_bytes

    def sweep(self) -> None:
        """Forget what is too much, in short transactions."""
        with self._database.transaction() as connection:
            store = RetentionStore(connection)
            store.forget_waiting(self._hours)
            rows, captures = (
                store.bounds(self._hours, self._max_rows),
                store.capture_bounds(self._max_captured_bytes),
            )
        for bound in captures:
            for after, last in bound.steps():
                with self._database.transaction() as connection:
                    RetentionStore(connection).forget_captures(bound.endpoint, after, last)
        for bound in rows:
            self._forget_rows(bound)
        with self._database.transaction() as connection:
            CAPTURED.set(RetentionStore(connection).captured_bytes())

    def _forget_rows(self, bound: Bound) -> None:
        for after, last in bound.steps():
            with self._database.transaction() as connection:
                FORGOTTEN.inc(RetentionStore(connection).forget_rows(bound.endpoint, after, last))
        with self._database.transaction() as connection:
            RetentionStore(connection).forget_entries(bound.endpoint, bound.entry)
