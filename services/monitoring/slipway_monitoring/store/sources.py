"""Endpoints and versions that events name: small numbers for long names, and the order of arrival."""

from collections.abc import Sequence
from dataclasses import dataclass

from slipway_monitoring.store.rows import Rows


@dataclass(frozen=True)
class Version:
    """A model version as its rows refer to it."""

    id: int
    name: str
    classes: Sequence[str]
    scored: str


@dataclass(frozen=True)
class Place:
    """Where an endpoint's next rows and log entries go, after these; its lock is held until the commit."""

    endpoint: int
    arrival: int
    entry: int
    shadowed: bool


class SourceStore(Rows):
    """Endpoints and versions on one connection."""

    def endpoint(self, name: str) -> int | None:
        """Return an endpoint's number, or None when no event of it came."""
        rows = self._rows("SELECT id FROM endpoints WHERE name = :name", name=name)
        return int(rows[0].id) if rows else None

    def endpoint_made(self, name: str) -> int:
        """Return an endpoint's number, made when it is new."""
        self._rows("INSERT INTO endpoints (name) VALUES (:name) ON CONFLICT DO NOTHING", name=name)
        found = self.endpoint(name)
        assert found is not None
        return found

    def endpoints(self) -> list[str]:
        """Return the names of endpoints with events, by name, at most 1000."""
        return [row.name for row in self._rows("SELECT name FROM endpoints ORDER BY name LIMIT 1000")]

    def version(self, name: str) -> Version | None:
        """Return a version, or None when no event of it came."""
        rows = self._rows("SELECT id, name, classes, scored FROM versions WHERE name = :name", name=name)
        return Version(**rows[0]._mapping) if rows else None

    def version_made(self, name: str, classes: Sequence[str], scored: str) -> Version:
        """Return a version, made when it is new.

        Args:
            name: `models/{model}/versions/{number}`.
            classes: Names of its classes; without any a class is called by its index.
            scored: Its output with a score per class.
        """
        self._rows(
            "INSERT INTO versions (name, classes, scored) VALUES (:name, :classes, :scored) "
            "ON CONFLICT DO NOTHING",
            name=name,
            classes=list(classes),
            scored=scored,
        )
        found = self.version(name)
        assert found is not None
        return found

    def lock(self, endpoint: int) -> Place:
        """Return where an endpoint's next rows and log entries go, and hold its lock until the commit.

        Whoever takes the locks of several endpoints takes the smallest number first.
        """
        (row,) = self._rows(
            "SELECT arrival, entry, coalesce(shadow_time > clock_timestamp() - interval '1 hour', false) "
            "AS shadowed FROM endpoints WHERE id = :endpoint FOR UPDATE",
            endpoint=endpoint,
        )
        return Place(endpoint, int(row.arrival), int(row.entry), bool(row.shadowed))

    def advance(self, place: Place, rows: int, entries: int, *, shadows: bool = False) -> None:
        """Let the next rows and log entries go after so many more; `shadows`: some are mirrored."""
        self._rows(
            "UPDATE endpoints SET arrival = :arrival, entry = :entry, shadow_time = "
            "CASE WHEN :shadows THEN clock_timestamp() ELSE shadow_time END WHERE id = :endpoint",
            endpoint=place.endpoint,
            arrival=place.arrival + rows,
            entry=place.entry + entries,
            shadows=shadows,
        )
