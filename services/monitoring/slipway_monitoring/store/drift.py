"""Open windows, how far rows are counted, and reports.

Rows are taken in the order of their arrival, which is numbered under the endpoint's lock: what has a lower
number was committed before, so a cursor never skips a row.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Row

from slipway_monitoring.domain.drift import Comparison, DriftReport, Streak
from slipway_monitoring.domain.events import Role
from slipway_monitoring.store.rows import Rows

SCANNED_AT_ONCE = 50_000
_COMPARISON: TypeAdapter[Comparison] = TypeAdapter(Comparison)
_STREAKS: TypeAdapter[dict[str, Streak]] = TypeAdapter(dict[str, Streak])


@dataclass(frozen=True)
class OpenWindow:
    """Rows of a version that wait for their report.

    Attributes:
        endpoint: Its id.
        version: `models/{model}/versions/{number}`.
        after_arrival: Its rows arrived after this one.
        pending: How many of them have come.
        open_s: Seconds since the first came; without any, since the last report.
        streaks: By rule.
    """

    endpoint: str
    version: str
    after_arrival: int
    pending: int
    open_s: float
    streaks: Mapping[str, Streak]


class DriftStore(Rows):
    """Windows and reports on one connection."""

    def scan(self, endpoint: str) -> tuple[int, int]:
        """Count what arrived since the last time into open windows; return the range of arrivals.

        The range is empty when nothing arrived: after the first number, up to the second.
        """
        self._rows(
            "INSERT INTO drift_cursors (endpoint, arrival) VALUES (:endpoint, 0) ON CONFLICT DO NOTHING",
            endpoint=endpoint,
        )
        rows = self._rows(
            "SELECT c.arrival AS after, least(e.arrival, c.arrival + :most) AS last FROM drift_cursors c "
            "JOIN endpoints e ON e.name = 'endpoints/' || c.endpoint WHERE c.endpoint = :endpoint "
            "FOR UPDATE OF c",
            endpoint=endpoint,
            most=SCANNED_AT_ONCE,
        )
        if not rows:  # a monitor that was set before the first event
            return 0, 0
        after, last = int(rows[0].after), int(rows[0].last)
        if last > after:
            self._count(endpoint, after, last)
        return after, last

    def _count(self, endpoint: str, after: int, last: int) -> None:
        self._rows(
            "INSERT INTO drift_windows (endpoint, version, after_arrival, pending) "
            "SELECT :endpoint, v.name, min(p.arrival) - 1, count(*) FROM predictions p "
            "JOIN endpoints e ON e.id = p.endpoint JOIN versions v ON v.id = p.version "
            "WHERE e.name = 'endpoints/' || :endpoint AND p.arrival > :after AND p.arrival <= :last "
            "AND p.role = :live GROUP BY v.name ORDER BY v.name "
            "ON CONFLICT (endpoint, version) DO UPDATE SET pending = drift_windows.pending + "
            "EXCLUDED.pending, "
            "open_time = CASE WHEN drift_windows.pending = 0 THEN clock_timestamp() "
            "ELSE drift_windows.open_time END",
            endpoint=endpoint,
            after=after,
            last=last,
            live=int(Role.LIVE),
        )
        self._rows(
            "UPDATE drift_cursors SET arrival = :last WHERE endpoint = :endpoint",
            endpoint=endpoint,
            last=last,
        )

    def windows(self, endpoint: str) -> list[OpenWindow]:
        """Return the open windows of an endpoint."""
        rows = self._rows(f"{_WINDOW} WHERE endpoint = :endpoint ORDER BY version", endpoint=endpoint)
        return [_window(row) for row in rows]

    def locked(self, window: OpenWindow) -> OpenWindow | None:
        """Return a window as it is now, and hold its lock; None when it was reported meanwhile."""
        rows = self._rows(
            f"{_WINDOW} WHERE endpoint = :endpoint AND version = :version AND after_arrival = :after FOR "
            f"UPDATE",
            endpoint=window.endpoint,
            version=window.version,
            after=window.after_arrival,
        )
        return _window(rows[0]) if rows else None

    def begin_next(
        self, window: OpenWindow, after_arrival: int, taken: int, streaks: Mapping[str, Streak]
    ) -> None:
        """Begin a version's next window after the rows that were taken."""
        self._rows(
            "UPDATE drift_windows SET after_arrival = :after, pending = greatest(pending - :taken, 0), "
            "open_time = clock_timestamp(), streaks = CAST(:streaks AS jsonb) "
            "WHERE endpoint = :endpoint AND version = :version",
            endpoint=window.endpoint,
            version=window.version,
            after=after_arrival,
            taken=taken,
            streaks=_STREAKS.dump_json(dict(streaks)).decode(),
        )

    def forget_streaks(self, endpoint: str, version: str) -> None:
        """Let the streaks of a version's windows begin anew, and hold its open window's lock."""
        self._rows(
            "UPDATE drift_windows SET streaks = '{}' WHERE endpoint = :endpoint AND version = :version",
            endpoint=endpoint,
            version=version,
        )

    def add(
        self,
        window: OpenWindow,
        last_arrival: int,
        times: tuple[datetime, datetime],
        row_count: int,
        comparison: Comparison,
        accepted: int = 0,
    ) -> DriftReport:
        """Keep a report under the endpoint's next number; a window has one.

        A number is not given again while an accepted reference is called by it.
        """
        (row,) = self._rows(
            "INSERT INTO drift_reports (endpoint, number, model_version, after_arrival, last_arrival, "
            "start_time, "
            "end_time, row_count, comparison, accepted) SELECT :endpoint, greatest(coalesce(max(number), 0), "
            "(SELECT coalesce(max(number), 0) FROM drift_references WHERE endpoint = :endpoint)) + 1, "
            ":version, "
            ":after, "
            ":last, :start, :end, :rows, CAST(:comparison AS jsonb), :accepted FROM drift_reports "
            "WHERE endpoint = :endpoint RETURNING *, comparison::text AS text",
            endpoint=window.endpoint,
            version=window.version,
            after=window.after_arrival,
            last=last_arrival,
            start=times[0],
            end=times[1],
            rows=row_count,
            comparison=_COMPARISON.dump_json(comparison).decode(),
            accepted=accepted,
        )
        return _report(row)

    def report(self, endpoint: str, number: int) -> DriftReport | None:
        """Return one report, or None."""
        rows = self._rows(
            "SELECT *, comparison::text AS text FROM drift_reports "
            "WHERE endpoint = :endpoint AND number = :number",
            endpoint=endpoint,
            number=number,
        )
        return _report(rows[0]) if rows else None

    def reports(self, endpoint: str, version: str, before: int, limit: int) -> list[DriftReport]:
        """Return reports, newest first."""
        rows = self._rows(
            "SELECT *, comparison::text AS text FROM drift_reports WHERE endpoint = :endpoint "
            "AND (:version = '' OR model_version = :version) AND number < :before "
            "ORDER BY number DESC LIMIT :limit",
            endpoint=endpoint,
            version=version,
            before=before,
            limit=limit,
        )
        return [_report(row) for row in rows]

    def forget(self, days: float) -> None:
        """Delete reports that are too old."""
        self._rows(
            "DELETE FROM drift_reports WHERE create_time < clock_timestamp() - make_interval(secs => "
            ":seconds)",
            seconds=days * 86_400,
        )


_WINDOW = (
    "SELECT endpoint, version, after_arrival, pending, "
    "extract(epoch FROM clock_timestamp() - open_time)::float8 AS open_s, streaks::text AS streaks "
    "FROM drift_windows"
)


def _window(row: Row[Any]) -> OpenWindow:
    return OpenWindow(**{**row._mapping, "streaks": _STREAKS.validate_json(row.streaks)})


def _report(row: Row[Any]) -> DriftReport:
    return DriftReport(
        endpoint=row.endpoint,
        number=int(row.number),
        model_version=row.model_version,
        start_time=row.start_time,
        end_time=row.end_time,
        row_count=int(row.row_count),
        comparison=_COMPARISON.validate_json(row.text),
        after_arrival=int(row.after_arrival),
        last_arrival=int(row.last_arrival),
        accepted=int(row.accepted),
    )
