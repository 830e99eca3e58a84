"""What served when: one row per version and stretch of time with the same weight."""

from datetime import datetime

import sqlalchemy as sa

from slipway_rollout.domain import Endpoint, Serving

_metadata = sa.MetaData()
_servings = sa.Table(
    "servings",
    _metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("endpoint", sa.Text),
    sa.Column("model_version", sa.Text),
    sa.Column("weight", sa.Integer),
    sa.Column("start_time", sa.DateTime(timezone=True)),
    sa.Column("end_time", sa.DateTime(timezone=True)),
    sa.Column("actor", sa.Text),
    sa.Column("reason", sa.Text),
)


class ServingRows:
    """Servings inside one transaction.

    Args:
        connection: The transaction.
    """

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def now(self) -> datetime:
        """Return the time by the database's clock."""
        moment: datetime = self._connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        return moment

    def note_servings(self, endpoint: Endpoint, *, actor: str, reason: str) -> None:
        """End what no longer has its weight, and begin what has another; equal weights leave no trace."""
        weights = {v.model_version: v.weight for v in endpoint.versions if v.weight and not endpoint.deleting}
        open_rows = sa.select(_servings.c.id, _servings.c.model_version, _servings.c.weight).where(
            _servings.c.endpoint == endpoint.id, _servings.c.end_time.is_(None)
        )
        known = {row.model_version: row for row in self._connection.execute(open_rows)}
        ended = [row.id for row in known.values() if weights.get(row.model_version) != row.weight]
        now = self.now()
        if ended:
            change = sa.update(_servings).where(_servings.c.id.in_(ended))
            self._connection.execute(change.values(end_time=now))
        for version, weight in weights.items():
            if version not in known or known[version].weight != weight:
                row = {"endpoint": endpoint.id, "model_version": version, "weight": weight}
                notes = {"start_time": now, "actor": actor, "reason": reason}
                self._connection.execute(sa.insert(_servings).values(**row, **notes))

    def servings(self, endpoint: str, before: int | None, limit: int) -> list[tuple[int, Serving]]:
        """Return at most `limit` servings of an endpoint, newest first, with the key of each."""
        query = sa.select(_servings).where(_servings.c.endpoint == endpoint)
        if before is not None:
            query = query.where(_servings.c.id < before)
        rows = self._connection.execute(query.order_by(_servings.c.id.desc()).limit(limit)).all()
        return [
            (r.id, Serving(r.model_version, r.weight, r.start_time, r.end_time, r.actor, r.reason))
            for r in rows
        ]
