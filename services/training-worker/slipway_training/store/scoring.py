"""Scoring jobs and the parts of their scores."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from slipway_runtime.errors import NotFound
from sqlalchemy.dialects.postgresql import insert

from slipway_training import domain
from slipway_training.domain import Measures, Part, ScoringJob, ScoringSpec
from slipway_training.store.leases import LeasedRows, leased_columns, leased_values

_metadata = sa.MetaData()
_jobs = sa.Table(
    "scoring_jobs",
    _metadata,
    *leased_columns(),
    sa.Column("model_version", sa.Text),
    sa.Column("done_count", sa.BigInteger),
    sa.Column("total_count", sa.BigInteger),
    sa.Column("classes", sa.JSON),
    sa.Column("measures", sa.JSON(none_as_null=True)),
    sa.Column("evaluation", sa.Text),
    sa.Column("closed", sa.Boolean),
)
_parts = sa.Table(
    "score_parts",
    _metadata,
    sa.Column("job", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("count", sa.Integer),
    sa.Column("digest", sa.Text),
    sa.Column("attempt", sa.Integer),
)


class ScoringStore(LeasedRows[ScoringJob]):
    """Scoring jobs inside one transaction."""

    table = _jobs
    collection = ScoringJob.collection
    unclosed_where = (~_jobs.c.closed,)

    def add(self, job: ScoringJob) -> ScoringJob:
        """Add a new job, PENDING."""
        values = {
            "id": job.id,
            "spec": asdict(job.spec),
            "model_version": job.spec.model_version,
            "creator": job.creator,
            "state": job.state.value,
            "traceparent": job.traceparent,
        }
        self._connection.execute(insert(_jobs).values(**values))
        return self.get(job.id)

    def add_part(self, id: str, attempt: int, part: Part) -> None:
        """Keep a part and count its examples as done; one that is there already stays as it is.

        Raises:
            FencedError: another attempt holds the job, or it has ended.
        """
        self._require_held(id, attempt)
        row = insert(_parts).values(job=id, attempt=attempt, **asdict(part)).on_conflict_do_nothing()
        if self._connection.execute(row.returning(_parts.c.number)).first():
            self.note(id, attempt, done_count=_jobs.c.done_count + part.count)

    def parts(self, id: str) -> list[Part]:
        """Return a job's parts in the order of their keys."""
        query = sa.select(_parts.c.number, _parts.c.count, _parts.c.digest).where(_parts.c.job == id)
        rows = self._connection.execute(query.order_by(_parts.c.number)).mappings()
        return [Part(**row) for row in rows]

    def drop_parts(self, id: str) -> None:
        """Forget the parts of a job whose scores nobody can read."""
        self._connection.execute(sa.delete(_parts).where(_parts.c.job == id))

    def close(self, id: str) -> None:
        """Note that nothing is left of the job but its result."""
        self._connection.execute(sa.update(_jobs).where(_jobs.c.id == id).values(closed=True))

    def _jobs(self, rows: Sequence[Mapping[Any, Any]]) -> list[ScoringJob]:
        return [_job(row) for row in rows]

    def _not_found(self, name: str, known: Iterable[str]) -> NotFound:
        return domain.scoring_job_not_found(name, known)


def _job(row: Mapping[Any, Any]) -> ScoringJob:
    measures = row["measures"]
    return ScoringJob(
        **leased_values(row),
        **{name: row[name] for name in ("done_count", "total_count", "evaluation")},
        spec=ScoringSpec(**row["spec"]),
        classes=tuple(row["classes"]),
        measures=None if measures is None else Measures(**measures),
    )
