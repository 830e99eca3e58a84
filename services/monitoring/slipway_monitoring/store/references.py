"""References that were accepted: a version's newest at an endpoint is in force, older ones are history."""

import json
from collections.abc import Mapping
from typing import Any

from slipway_monitoring.domain.drift import DriftReference, DriftReport
from slipway_monitoring.store.rows import Rows

_FIELDS = "endpoint, number, model_version, row_count, reason, creator, create_time"
# Of the endpoint that the statement around it calls n: of each version the one in force.
IN_FORCE = (
    f"SELECT * FROM (SELECT DISTINCT ON (model_version) {_FIELDS} FROM drift_references "
    "WHERE endpoint = n.endpoint ORDER BY model_version, serial DESC) newest "
    "ORDER BY create_time DESC LIMIT 20"
)


class ReferenceStore(Rows):
    """Accepted references on one connection."""

    def add(
        self, report: DriftReport, profile: Mapping[str, Any], reason: str, creator: str
    ) -> DriftReference:
        """Keep what a report's window looked like; from the commit on it is in force."""
        (row,) = self._rows(
            "INSERT INTO drift_references (endpoint, number, model_version, row_count, reason, creator, "
            "profile) VALUES (:endpoint, :number, :version, :rows, :reason, :creator, "
            f"CAST(:profile AS jsonb)) RETURNING {_FIELDS}",
            endpoint=report.endpoint,
            number=report.number,
            version=report.model_version,
            rows=report.row_count,
            reason=reason,
            creator=creator,
            profile=json.dumps(profile),
        )
        return DriftReference(**row._mapping)

    def in_force(self, endpoint: str, version: str) -> tuple[int, int] | None:
        """Return serial and report number of the reference in force; None: the bundle's is."""
        rows = self._rows(
            "SELECT serial, number FROM drift_references WHERE endpoint = :endpoint "
            "AND model_version = :version ORDER BY serial DESC LIMIT 1",
            endpoint=endpoint,
            version=version,
        )
        return (int(rows[0].serial), int(rows[0].number)) if rows else None

    def profile(self, serial: int) -> Mapping[str, Any]:
        """Return what the window of a reference looked like, as it was given."""
        (row,) = self._rows(
            "SELECT profile::text AS text FROM drift_references WHERE serial = :serial", serial=serial
        )
        found: Mapping[str, Any] = json.loads(row.text)
        return found
