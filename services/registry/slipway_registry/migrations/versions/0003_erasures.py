"""Commits that were made with examples that are erased."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the tables; nothing is read yet."""
    op.create_table(
        "erased_commits",
        sa.Column("dataset_commit", sa.Text, primary_key=True),
        sa.Column("erasure", sa.Text, primary_key=True),
        sa.Column(
            "mark_time",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.func.clock_timestamp(),
        ),
    )
    op.create_table("erasures_read", sa.Column("number", sa.BigInteger, nullable=False))
    op.execute("INSERT INTO erasures_read VALUES (0)")
