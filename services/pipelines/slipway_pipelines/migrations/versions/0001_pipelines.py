"""Pipelines, versions, runs, steps, attempts, names in outputs, request ids."""

import sqlalchemy as sa
from alembic import op
from slipway_runtime.db import idempotency_table

revision = "0001"
down_revision = None


def _time(name: str, **kwargs: object) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), **kwargs)  # type: ignore[arg-type]


def _text(name: str, default: str | None = "") -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, server_default=default)


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False, server_default="0")


def upgrade() -> None:
    """Make the first tables."""
    _definitions()
    _runs()
    _steps()
    metadata = sa.MetaData()
    idempotency_table(metadata)
    metadata.create_all(op.get_bind())


def _definitions() -> None:
    op.create_table(
        "pipelines",
        sa.Column("id", sa.Text, primary_key=True),
        _text("newest", None),
        sa.Column("schedule", sa.JSON),
        sa.Column("paused", sa.Boolean, nullable=False, server_default=sa.false()),
        _time("next_time", index=True),
        _time("last_time"),
        _time("create_time", nullable=False, server_default=sa.func.now()),
        _time("update_time", nullable=False, server_default=sa.func.now()),
    )
    op.create_table(
        "versions",
        sa.Column("pipeline", sa.Text, sa.ForeignKey("pipelines.id"), primary_key=True),
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("serial", sa.BigInteger, sa.Identity(), nullable=False, unique=True),
        _text("code_digest", None),
        _text("entry_point", None),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("files", sa.JSON, nullable=False),
        sa.Column("definition", sa.JSON, nullable=False),
        _text("creator", None),
        _time("create_time", nullable=False, server_default=sa.func.now()),
    )


def _runs() -> None:
    op.create_table(
        "runs",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("serial", sa.BigInteger, sa.Identity(), nullable=False, unique=True),
        sa.Column("pipeline", sa.Text, nullable=False),
        _text("version", None),
        sa.Column("parameters", sa.JSON, nullable=False),
        _text("trigger", None),
        _text("trigger_source"),
        _time("schedule_time"),
        sa.Column("state", sa.Text, nullable=False, index=True),
        _text("error"),
        sa.Column("cancel_requested", sa.Boolean, nullable=False, server_default=sa.false()),
        _count("retry_count"),
        _text("creator", None),
        _text("traceparent"),
        sa.Column("revision", sa.BigInteger, nullable=False, server_default="1"),
        _time("create_time", nullable=False, server_default=sa.func.now()),
        _time("start_time"),
        _time("end_time"),
        sa.ForeignKeyConstraint(["pipeline", "version"], ["versions.pipeline", "versions.digest"]),
    )
    op.create_index("runs_of_pipeline", "runs", ["pipeline", "serial"])
    op.create_index("runs_of_version", "runs", ["version", "serial"])
    op.create_index("runs_of_source", "runs", ["trigger_source", "serial"])
    # the schedule's own run of a time is there once, whoever sweeps
    op.create_index(
        "runs_of_schedule",
        "runs",
        ["pipeline", "schedule_time"],
        unique=True,
        postgresql_where=sa.text("trigger = 'SCHEDULE'"),
    )
    op.create_index("runs_of_time", "runs", ["pipeline", "schedule_time"])


def _steps() -> None:
    op.create_table(
        "steps",
        sa.Column("run", sa.Text, sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("step", sa.Text, primary_key=True),
        sa.Column("index", sa.Integer, primary_key=True),
        sa.Column("position", sa.Integer, nullable=False),
        _text("state", None),
        *map(_count, ("attempt", "failures", "deaths", "generation")),
        *map(_text, ("cache_key", "cached_from")),
        sa.Column("output", sa.Text),
        sa.Column("names", sa.JSON, nullable=False, server_default="[]"),
        *map(_text, ("error", "log_tail", "host")),
        _time("lease_until"),
        _time("sent_time"),
        *map(_time, ("due_time", "ready_time", "start_time", "end_time")),
    )
    op.create_index(
        "steps_of_key",
        "steps",
        ["cache_key"],
        postgresql_where=sa.text("state = 'SUCCEEDED' AND cache_key <> ''"),
    )
    op.create_index(
        "steps_alive",
        "steps",
        ["state", "due_time"],
        postgresql_where=sa.text("state IN ('PENDING', 'RUNNING')"),
    )
    op.create_table(
        "attempts",
        sa.Column("serial", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("run", sa.Text, sa.ForeignKey("runs.id"), nullable=False),
        sa.Column("step", sa.Text, nullable=False),
        sa.Column("index", sa.Integer, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        _text("outcome", None),
        *map(_text, ("error", "host")),
        _time("end_time", nullable=False, server_default=sa.func.clock_timestamp()),
    )
    op.create_index("attempts_of_step", "attempts", ["run", "step", "index"])
    op.create_table(
        "outputs",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("run", sa.Text, sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("serial", sa.BigInteger, sa.Identity(), nullable=False, unique=True),
    )
    op.create_index("outputs_of_run", "outputs", ["run", "serial"])
