"""Data sets, branches, commits, uploads, blobs."""

import sqlalchemy as sa
from alembic import op
from slipway_runtime.db import idempotency_table
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None

NOW = sa.func.clock_timestamp()


def upgrade() -> None:
    """Make all tables."""
    idempotency_table(sa.MetaData()).create(op.get_bind())
    op.create_table(
        "datasets",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("policy", JSONB, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False, server_default="1"),
        sa.Column("creator", sa.Text, nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, server_default=NOW),
        sa.Column("update_time", sa.DateTime(timezone=True), nullable=False, server_default=NOW),
    )
    _history()
    _blobs()


def _history() -> None:
    op.create_table(
        "commits",
        sa.Column("dataset", sa.Text, sa.ForeignKey("datasets.id"), primary_key=True),
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("parent", sa.Text, nullable=False),
        sa.Column("author", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("example_count", sa.BigInteger, nullable=False),
        sa.Column("total_bytes", sa.BigInteger, nullable=False),
        sa.Column("new_objects", sa.BigInteger, nullable=False),
        sa.Column("new_bytes", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "branches",
        sa.Column("dataset", sa.Text, sa.ForeignKey("datasets.id"), primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("commit", sa.Text, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False, server_default="1"),
        sa.Column("update_time", sa.DateTime(timezone=True), nullable=False, server_default=NOW),
        sa.ForeignKeyConstraint(["dataset", "commit"], ["commits.dataset", "commits.digest"]),
    )
    op.create_table(
        "statistics",
        sa.Column("dataset", sa.Text, primary_key=True),
        sa.Column("content", sa.Text, primary_key=True),
        sa.Column("value", JSONB, nullable=False),
    )


def _blobs() -> None:
    op.create_table(
        "packs",
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("size", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "blobs",
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("pack", sa.Text, sa.ForeignKey("packs.digest"), nullable=False),
        sa.Column("start", sa.BigInteger, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "dataset_blobs",
        sa.Column("dataset", sa.Text, primary_key=True),
        sa.Column("blob", sa.Text, sa.ForeignKey("blobs.digest"), primary_key=True),
        sa.Column("media_type", sa.Text, nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
    )
    op.create_table(
        "uploads",
        sa.Column("dataset", sa.Text, sa.ForeignKey("datasets.id"), primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("rows", sa.Text, nullable=False),
        sa.Column("accepted_count", sa.BigInteger, nullable=False),
        sa.Column("accepted_bytes", sa.BigInteger, nullable=False),
        sa.Column("new_bytes", sa.BigInteger, nullable=False),
        sa.Column("new_objects", sa.BigInteger, nullable=False),
        sa.Column("refused", JSONB, nullable=False),
        sa.Column("refused_count", sa.BigInteger, nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, server_default=NOW),
    )
