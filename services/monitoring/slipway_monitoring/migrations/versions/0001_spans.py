"""Spans."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "spans",
        sa.Column("trace_id", sa.Text, primary_key=True),
        sa.Column("span_id", sa.Text, primary_key=True),
        sa.Column("parent_span_id", sa.Text, nullable=False),
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("operation", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("start_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("duration_us", sa.BigInteger, nullable=False),
        sa.Column("error", sa.Boolean, nullable=False),
        sa.Column("status_message", sa.Text, nullable=False),
        sa.Column("attributes", JSONB, nullable=False),
        sa.Column("links", JSONB, nullable=False),
        sa.Column("prediction_id", sa.Text, nullable=False),
    )
    op.create_index("spans_by_time", "spans", ["start_time"])
    op.create_index(
        "spans_by_prediction", "spans", ["prediction_id"], postgresql_where=sa.text("prediction_id <> ''")
    )
