"""Training jobs, their attempts and checkpoints, and task code."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from slipway_runtime.errors import NotFound
from sqlalchemy.dialects.postgresql import insert

from slipway_training import domain
from slipway_training.domain import Attempt, Job, JobSpec, Outcome, Progress, TaskCode
from slipway_training.store.leases import LeasedRows, leased_columns, leased_values, now

_metadata = sa.MetaData()
_code = sa.Table(
    "task_code",
    _metadata,
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("size_bytes", sa.BigInteger),
    sa.Column("files", sa.JSON),
    sa.Column("create_time", sa.DateTime(timezone=True)),
)
_jobs = sa.Table(
    "jobs",
    _metadata,
    *leased_columns(),
    sa.Column("model", sa.Text),
    sa.Column("progress", sa.JSON),
    sa.Column("run", sa.Text),
    sa.Column("run_closed", sa.Boolean),
    sa.Column("model_version", sa.Text),
    sa.Column("bundle", sa.Text),
)
_attempts = sa.Table(
    "attempts",
    _metadata,
    sa.Column("job", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("host", sa.Text),
    sa.Column("pid", sa.BigInteger),
    sa.Column("start_step", sa.BigInteger),
    sa.Column("last_step", sa.BigInteger),
    sa.Column("outcome", sa.Text),
    sa.Column("error", sa.Text),
    sa.Column("start_time", sa.DateTime(timezone=True)),
    sa.Column("end_time", sa.DateTime(timezone=True)),
)
_checkpoints = sa.Table(
    "checkpoints",
    _metadata,
    sa.Column("job", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("step", sa.BigInteger),
)


class Store(LeasedRows[Job]):
    """Training jobs and task code inside one transaction."""

    table = _jobs
    collection = Job.collection
    unclosed_where = (_jobs.c.run != "", ~_jobs.c.run_closed)

    def add_code(self, code: TaskCode) -> TaskCode:
        """Keep task code; the same digest again changes nothing."""
        row = insert(_code).values(digest=code.digest, size_bytes=code.size_bytes, files=list(code.files))
        self._connection.execute(row.on_conflict_do_nothing())
        return self.code(code.name)

    def code(self, name: str) -> TaskCode:
        """Return task code by name.

        Raises:
            NotFound: there is none of that digest.
        """
        digest = domain.id_of(name, "taskCode")
        row = self._connection.execute(sa.select(_code).where(_code.c.digest == digest)).mappings().first()
        if row is None:
            raise domain.task_code_not_found(name)
        return TaskCode(**{**row, "files": tuple(row["files"])})

    def add(self, job: Job) -> Job:
        """Add a new job, PENDING."""
        values = {
            "id": job.id,
            "spec": asdict(job.spec),
            "model": job.spec.model,
            "creator": job.creator,
            "state": job.state.value,
            "progress": asdict(job.progress),
            "traceparent": job.traceparent,
        }
        self._connection.execute(insert(_jobs).values(**values))
        return self.get(job.id)

    def begin(self, job: Job, host: str, lease_s: float) -> Job:
        """Give the job to its next attempt, with a row of its own; the caller holds the row's lock."""
        row = insert(_attempts).values(job=job.id, number=job.attempt + 1, host=host, outcome="RUNNING")
        self._connection.execute(row)
        return super().begin(job, host, lease_s)

    def note(self, id: str, attempt: int, **values: Any) -> None:
        """Change a job's row for the attempt that holds it.

        Raises:
            FencedError: another attempt holds the job, or it has ended.
        """
        if isinstance(values.get("progress"), Progress):
            values["progress"] = asdict(values["progress"])
        super().note(id, attempt, **values)

    def note_attempt(self, id: str, number: int, **values: Any) -> None:
        """Change what is written about an attempt (pid, start_step, last_step)."""
        where = (_attempts.c.job == id, _attempts.c.number == number)
        self._connection.execute(sa.update(_attempts).where(*where).values(**values))

    def finish_attempt(self, id: str, number: int, outcome: Outcome, error: str) -> None:
        """Write down how an attempt ended, unless that is written already."""
        where = (_attempts.c.job == id, _attempts.c.number == number, _attempts.c.outcome == "RUNNING")
        values = {"outcome": outcome.value, "error": error, "end_time": now()}
        self._connection.execute(sa.update(_attempts).where(*where).values(**values))

    def add_checkpoint(self, id: str, attempt: int, name: str, step: int) -> list[str]:
        """Keep a checkpoint's name, drop all but the newest two, and return the dropped names.

        Raises:
            FencedError: another attempt holds the job.
        """
        self._require_held(id, attempt)
        self._connection.execute(
            insert(_checkpoints).values(job=id, name=name, step=step).on_conflict_do_nothing()
        )
        old = self.checkpoints(id)[2:]
        mine = (_checkpoints.c.job == id, _checkpoints.c.name.in_(old))
        self._connection.execute(sa.delete(_checkpoints).where(*mine))
        return old

    def checkpoints(self, id: str) -> list[str]:
        """Return the names of a job's stored checkpoints, highest step first."""
        query = sa.select(_checkpoints.c.name).where(_checkpoints.c.job == id)
        return list(self._connection.execute(query.order_by(_checkpoints.c.step.desc())).scalars())

    def close(self, id: str) -> None:
        """Note that the registry knows the end of the job's run."""
        self._connection.execute(sa.update(_jobs).where(_jobs.c.id == id).values(run_closed=True))

    def _jobs(self, rows: Sequence[Mapping[Any, Any]]) -> list[Job]:
        attempts = self._attempts([row["id"] for row in rows])
        return [_job(row, attempts.get(row["id"], ())) for row in rows]

    def _not_found(self, name: str, known: Iterable[str]) -> NotFound:
        return domain.job_not_found(name, known)

    def _attempts(self, ids: Sequence[str]) -> dict[str, tuple[Attempt, ...]]:
        query = sa.select(_attempts).where(_attempts.c.job.in_(ids)).order_by(_attempts.c.number)
        found: dict[str, tuple[Attempt, ...]] = {}
        for row in self._connection.execute(query).mappings():
            found[row["job"]] = (*found.get(row["job"], ()), _attempt(row))
        return found


def _attempt(row: Mapping[Any, Any]) -> Attempt:
    fields = {name: value for name, value in row.items() if name not in {"job", "outcome"}}
    return Attempt(outcome=Outcome(row["outcome"]), **fields)


def _job(row: Mapping[Any, Any], attempts: tuple[Attempt, ...]) -> Job:
    return Job(
        **leased_values(row),
        **{name: row[name] for name in ("run", "model_version", "bundle")},
        spec=JobSpec(**row["spec"]),
        progress=Progress(**row["progress"]),
        attempts=attempts,
    )
