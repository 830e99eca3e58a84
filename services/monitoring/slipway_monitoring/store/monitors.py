"""Monitors: rows of those that were set; every endpoint with events has one all the same."""

from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Row

from slipway_monitoring.domain.drift import DriftReference
from slipway_monitoring.domain.monitors import Monitor, MonitorSpec
from slipway_monitoring.store.references import IN_FORCE
from slipway_monitoring.store.rows import Rows

_SPEC: TypeAdapter[MonitorSpec] = TypeAdapter(MonitorSpec)
_REFERENCES: TypeAdapter[list[DriftReference]] = TypeAdapter(list[DriftReference])
_KNOWN = (
    "SELECT n.endpoint, m.spec::text AS spec, coalesce(m.revision, 0) AS revision, m.update_time, "
    f"coalesce((SELECT json_agg(f ORDER BY f.create_time DESC) FROM ({IN_FORCE}) f), '[]')::text AS "
    "accepted FROM "
    "(SELECT substr(name, 11) AS endpoint FROM endpoints UNION SELECT endpoint FROM monitors) n "
    "LEFT JOIN monitors m ON m.endpoint = n.endpoint "
)


class MonitorStore(Rows):
    """Monitors on one connection."""

    def get(self, endpoint: str) -> Monitor | None:
        """Return the monitor of an endpoint; None when nothing is known of it."""
        rows = self._rows(f"{_KNOWN} WHERE n.endpoint = :endpoint", endpoint=endpoint)
        return _monitor(rows[0]) if rows else None

    def list(self, after: str, limit: int) -> list[Monitor]:
        """Return monitors by name."""
        rows = self._rows(
            f'{_KNOWN} WHERE n.endpoint COLLATE "C" > :after ORDER BY n.endpoint COLLATE "C" LIMIT :limit',
            after=after,
            limit=limit,
        )
        return [_monitor(row) for row in rows]

    def lock(self, endpoint: str) -> None:
        """Let nobody else change a monitor until the commit, whether it has a row or not."""
        self._rows("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))", name=f"monitors/{endpoint}")

    def put(self, endpoint: str, spec: MonitorSpec, updater: str) -> Monitor:
        """Keep what is watched, under the next revision."""
        rows = self._rows(
            "INSERT INTO monitors (endpoint, spec, revision, updater) VALUES (:endpoint, "
            "CAST(:spec AS jsonb), 1, :updater) ON CONFLICT (endpoint) DO UPDATE SET spec = EXCLUDED.spec, "
            "revision = monitors.revision + 1, updater = :updater, update_time = clock_timestamp() "
            "RETURNING endpoint",
            endpoint=endpoint,
            spec=_SPEC.dump_json(spec).decode(),
            updater=updater,
        )
        found = self.get(rows[0].endpoint)
        assert found is not None
        return found


def _monitor(row: Row[Any]) -> Monitor:
    spec = _SPEC.validate_json(row.spec) if row.spec else MonitorSpec()
    references = _REFERENCES.validate_json(row.accepted)
    return Monitor(row.endpoint, spec, int(row.revision), row.update_time, references)
