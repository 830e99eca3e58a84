"""Task code, jobs, attempts, checkpoints, request ids."""

import sqlalchemy as sa
from alembic import op
from slipway_runtime.db import idempotency_table

revision = "0001"
down_revision = None


def _time(name: str, **kwargs: object) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), **kwargs)  # type: ignore[arg-type]


def upgrade() -> None:
    """Make the first tables."""
    op.create_table(
        "task_code",
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("files", sa.JSON, nullable=False),
        _time("create_time", nullable=False, server_default=sa.func.now()),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("serial", sa.BigInteger, sa.Identity(), nullable=False, unique=True),
        sa.Column("spec", sa.JSON, nullable=False),
        sa.Column("model", sa.Text, nullable=False, index=True),
        sa.Column("creator", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False, index=True),
        sa.Column("progress", sa.JSON, nullable=False),
        sa.Column("error", sa.Text, nullable=False, server_default=""),
        sa.Column("run", sa.Text, nullable=False, server_default=""),
        sa.Column("run_closed", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("model_version", sa.Text, nullable=False, server_default=""),
        sa.Column("bundle", sa.Text, nullable=False, server_default=""),
        sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),
        sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
        sa.Column("cancel_requested", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("traceparent", sa.Text, nullable=False, server_default=""),
        sa.Column("revision", sa.BigInteger, nullable=False, server_default="1"),
        _time("lease_until"),
        _time("sent_time", nullable=False, server_default=sa.func.now()),
        _time("create_time", nullable=False, server_default=sa.func.now()),
        _time("end_time"),
    )
    op.create_table(
        "attempts",
        sa.Column("job", sa.Text, sa.ForeignKey("jobs.id"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("pid", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("start_step", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("last_step", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("error", sa.Text, nullable=False, server_default=""),
        _time("start_time", nullable=False, server_default=sa.func.now()),
        _time("end_time"),
    )
    op.create_table(
        "checkpoints",
        sa.Column("job", sa.Text, sa.ForeignKey("jobs.id"), primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("step", sa.BigInteger, nullable=False),
        _time("create_time", nullable=False, server_default=sa.func.now()),
    )
    metadata = sa.MetaData()
    idempotency_table(metadata)
    metadata.create_all(op.get_bind())
