"""Erasures, what they hide, and the predictions that commits took in."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0003"
down_revision = "0002"

NOW = sa.func.clock_timestamp()


def upgrade() -> None:
    """Make the tables."""
    salt = sa.text("uuid_send(gen_random_uuid())")
    op.add_column("datasets", sa.Column("salt", sa.LargeBinary, nullable=False, server_default=salt))
    op.add_column(
        "datasets", sa.Column("erasure_revision", sa.BigInteger, nullable=False, server_default="0")
    )
    op.create_index("commits_by_content", "commits", ["content"])
    op.create_index("dataset_blobs_by_blob", "dataset_blobs", ["blob"])
    op.create_index("blobs_by_pack", "blobs", ["pack"])
    op.create_index("uploads_by_rows", "uploads", ["rows"])
    _erasures()
    _hidden()
    op.create_table(
        "prediction_examples",
        sa.Column("prediction", sa.Text, primary_key=True),
        sa.Column("dataset", sa.Text, primary_key=True),
        sa.Column("commit", sa.Text, primary_key=True),
        sa.ForeignKeyConstraint(["dataset", "commit"], ["commits.dataset", "commits.digest"]),
    )
    op.create_index(
        "prediction_examples_by_commit", "prediction_examples", ["dataset", "commit", "prediction"]
    )


def _erasures() -> None:
    op.create_table(
        "erasures",
        sa.Column("dataset", sa.Text, sa.ForeignKey("datasets.id"), primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("sequence", sa.BigInteger, sa.Identity(always=True), nullable=False, unique=True),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("creator", sa.Text, nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, server_default=NOW),
        sa.Column("finish_time", sa.DateTime(timezone=True)),
        sa.Column("number", sa.BigInteger, unique=True),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("blobs", ARRAY(sa.Text), nullable=False),
        sa.Column("commit_count", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("deleted_blob_count", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("kept_blob_count", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("error", sa.Text, nullable=False, server_default=""),
        sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
        sa.Column("due_time", sa.DateTime(timezone=True), nullable=False, server_default=NOW),
    )
    op.create_index("erasures_due", "erasures", ["due_time"], postgresql_where=sa.text("number IS NULL"))
    op.create_table(
        "erased_contents",
        sa.Column("dataset", sa.Text, primary_key=True),
        sa.Column("erasure", sa.Text, primary_key=True),
        sa.Column("content", sa.Text, primary_key=True),
        sa.ForeignKeyConstraint(["dataset", "erasure"], ["erasures.dataset", "erasures.id"]),
    )
    op.create_table(
        "doomed",
        sa.Column("object", sa.Text, primary_key=True),
        sa.Column("dataset", sa.Text, primary_key=True),
        sa.Column("erasure", sa.Text, primary_key=True),
        sa.ForeignKeyConstraint(["dataset", "erasure"], ["erasures.dataset", "erasures.id"]),
    )


def _hidden() -> None:
    op.create_table(
        "tombstones",
        sa.Column("dataset", sa.Text, sa.ForeignKey("datasets.id"), primary_key=True),
        sa.Column("mark", sa.LargeBinary, primary_key=True),
        sa.Column("erasure", sa.Text, nullable=False),
    )
    op.create_table(
        "redactions",
        sa.Column("dataset", sa.Text, sa.ForeignKey("datasets.id"), primary_key=True),
        sa.Column("content", sa.Text, primary_key=True),
        sa.Column("object", sa.Text, nullable=False),
        sa.Column("erased_count", sa.BigInteger, nullable=False),
        sa.Column("erased_bytes", sa.BigInteger, nullable=False),
    )
