"""The tables."""

from typing import Any

import sqlalchemy as sa

metadata = sa.MetaData()
now = sa.func.clock_timestamp


def _time(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True))


def _texts(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.Text) for name in names]


def _numbers(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.Integer) for name in names]


pipelines = sa.Table(
    "pipelines",
    metadata,
    *_texts("id", "newest"),
    sa.Column("schedule", sa.JSON(none_as_null=True)),
    sa.Column("paused", sa.Boolean),
    *map(_time, ("next_time", "last_time", "create_time", "update_time")),
)
versions = sa.Table(
    "versions",
    metadata,
    *_texts("pipeline", "digest", "code_digest", "entry_point", "creator"),
    sa.Column("serial", sa.BigInteger),
    sa.Column("size_bytes", sa.BigInteger),
    sa.Column("files", sa.JSON),
    sa.Column("definition", sa.JSON),
    _time("create_time"),
)
runs = sa.Table(
    "runs",
    metadata,
    *_texts("id", "pipeline", "version", "trigger", "trigger_source", "state", "error", "creator"),
    *_texts("traceparent"),
    sa.Column("serial", sa.BigInteger),
    sa.Column("revision", sa.BigInteger),
    sa.Column("parameters", sa.JSON),
    sa.Column("cancel_requested", sa.Boolean),
    *_numbers("retry_count"),
    *map(_time, ("schedule_time", "create_time", "start_time", "end_time")),
)
steps = sa.Table(
    "steps",
    metadata,
    *_texts("run", "step"),
    *_numbers("index", "position", "attempt", "failures", "deaths", "generation"),
    *_texts("state", "cache_key", "cached_from", "output", "error", "log_tail", "host"),
    sa.Column("names", sa.JSON),
    *map(_time, ("lease_until", "sent_time", "due_time", "ready_time", "start_time", "end_time")),
)
attempts = sa.Table(
    "attempts",
    metadata,
    *_texts("run", "step", "outcome", "error", "host"),
    *_numbers("index", "number"),
    _time("end_time"),
)
outputs = sa.Table("outputs", metadata, *_texts("name", "run"), sa.Column("serial", sa.BigInteger))


def in_seconds(seconds: float) -> Any:
    """Return the moment so many seconds from now, on the database's clock."""
    return now() + sa.func.make_interval(0, 0, 0, 0, 0, 0, seconds)
