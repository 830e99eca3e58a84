"""References that were accepted, and which one a report was compared with."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the table, and the reports' column."""
    op.create_table(
        "drift_references",
        sa.Column("serial", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),  # of the report whose window it is
        sa.Column("model_version", sa.Text, nullable=False),
        sa.Column("row_count", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("creator", sa.Text, nullable=False),
        sa.Column("create_time", TIME, nullable=False, server_default=sa.func.clock_timestamp()),
        sa.Column("profile", JSONB, nullable=False),  # as `profile.json`: the rows may be forgotten
    )
    op.create_index(
        "drift_references_in_force", "drift_references", ["endpoint", "model_version", sa.text("serial DESC")]
    )
    # Number of the report whose window was the reference; 0: the bundle's was. With a default, so that a
    # worker of the version before still writes.
    op.add_column("drift_reports", sa.Column("accepted", sa.BigInteger, nullable=False, server_default="0"))
