"""Rollouts, their decision log, and what served when."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the tables; what serves now has served since its endpoint was last changed."""
    op.create_table(
        "rollouts",
        sa.Column("endpoint", sa.Text, sa.ForeignKey("endpoints.id", ondelete="CASCADE"), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("looks", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("content", sa.JSON, nullable=False),
        sa.Column("evidence", sa.JSON, nullable=False),
        sa.Column("cursor", sa.Text, nullable=False, server_default=""),
        sa.Column("counters", sa.JSON),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("endpoint", "number"),
    )
    op.create_index(
        "one_active_rollout", "rollouts", ["endpoint"], unique=True, postgresql_where=sa.text("active")
    )
    op.create_table(
        "verdicts",
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("rollout", sa.Integer, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("content", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("endpoint", "rollout", "number"),
        sa.ForeignKeyConstraint(
            ["endpoint", "rollout"], ["rollouts.endpoint", "rollouts.number"], ondelete="CASCADE"
        ),
    )
    op.create_table(
        "servings",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("model_version", sa.Text, nullable=False, index=True),
        sa.Column("weight", sa.Integer, nullable=False),
        sa.Column("start_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("end_time", sa.DateTime(timezone=True)),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_index("servings_of_endpoint", "servings", ["endpoint", "id"])
    op.execute(
        "INSERT INTO servings (endpoint, model_version, weight, start_time, actor, reason) "
        "SELECT v.endpoint, v.model_version, v.weight, e.update_time, e.creator, 'older than this log' "
        "FROM served_versions v JOIN endpoints e ON e.id = v.endpoint WHERE v.weight > 0"
    )
