"""Scoring jobs and the parts of their scores."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def _time(name: str, **kwargs: object) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), **kwargs)  # type: ignore[arg-type]


def upgrade() -> None:
    """Make their tables."""
    op.create_table(
        "scoring_jobs",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("serial", sa.BigInteger, sa.Identity(), nullable=False, unique=True),
        sa.Column("spec", sa.JSON, nullable=False),
        sa.Column("model_version", sa.Text, nullable=False, index=True),
        sa.Column("creator", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False, index=True),
        sa.Column("done_count", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("total_count", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("classes", sa.JSON, nullable=False, server_default="[]"),
        sa.Column("measures", sa.JSON),
        sa.Column("evaluation", sa.Text, nullable=False, server_default=""),
        sa.Column("closed", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("error", sa.Text, nullable=False, server_default=""),
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
        "score_parts",
        sa.Column("job", sa.Text, sa.ForeignKey("scoring_jobs.id"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        _time("create_time", nullable=False, server_default=sa.func.clock_timestamp()),
    )
