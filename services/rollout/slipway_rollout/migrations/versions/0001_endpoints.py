"""Endpoints, served versions, request ids."""

import sqlalchemy as sa
from alembic import op
from slipway_runtime.db import idempotency_table

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the first tables."""
    op.create_table(
        "endpoints",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("config", sa.JSON, nullable=False),
        sa.Column("shadow", sa.Text, nullable=False),
        sa.Column("shadow_percent", sa.Integer, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("route_serial", sa.BigInteger, nullable=False),
        sa.Column("foreign_route", sa.Text, nullable=False),
        sa.Column("route_warning", sa.Text, nullable=False),
        sa.Column("deleting", sa.Boolean, nullable=False),
        sa.Column("unrouted_time", sa.DateTime(timezone=True)),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("update_time", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("creator", sa.Text, nullable=False),
    )
    op.create_table(
        "served_versions",
        sa.Column("endpoint", sa.Text, sa.ForeignKey("endpoints.id", ondelete="CASCADE"), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("model_version", sa.Text, nullable=False, index=True),
        sa.Column("weight", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("ready_replicas", sa.Integer, nullable=False),
        sa.Column("replicas", sa.Integer, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("routed", sa.Boolean, nullable=False),
        sa.Column("unrouted_time", sa.DateTime(timezone=True)),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("endpoint", "number"),
    )
    metadata = sa.MetaData()
    idempotency_table(metadata)
    metadata.create_all(op.get_bind())
