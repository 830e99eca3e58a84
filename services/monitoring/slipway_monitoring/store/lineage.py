"""What predicted rows were made of, and what was made of them."""

from slipway_monitoring.store.rows import Rows


class LineageStore(Rows):
    """Reads the edges of predicted rows; those that an import took are known after their event is gone."""

    def parents(self, prediction_id: str, row: int) -> list[str]:
        """Return the version that answered a row and the endpoint it came through, if it is known."""
        rows = self._rows(
            "SELECT v.name AS version, e.name AS endpoint FROM (SELECT version, endpoint FROM predictions "
            "WHERE prediction_id = :id AND row = :row UNION ALL SELECT version, endpoint "
            "FROM capture_import_rows WHERE prediction_id = :id AND row = :row LIMIT 1) p "
            "JOIN versions v ON v.id = p.version JOIN endpoints e ON e.id = p.endpoint",
            id=prediction_id,
            row=row,
        )
        return [rows[0].version, rows[0].endpoint] if rows else []

    def commits(self, prediction_id: str, row: int, after: int, limit: int) -> list[tuple[int, str]]:
        """Return the commits of imports that took a row, each with a number to go on after."""
        rows = self._rows(
            "SELECT i.serial, i.commit FROM capture_import_rows r JOIN capture_imports i "
            "ON i.id = r.capture_import WHERE r.prediction_id = :id AND r.row = :row "
            "AND i.state = 'SUCCEEDED' AND i.serial > :after ORDER BY i.serial LIMIT :limit",
            id=prediction_id,
            row=row,
            after=after,
            limit=limit,
        )
        return [(int(found.serial), str(found.commit)) for found in rows]
