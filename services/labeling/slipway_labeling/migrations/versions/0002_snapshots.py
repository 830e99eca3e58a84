"""Snapshots: what goes into a commit is chosen when the snapshot is made, not when it is sent."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0002"
down_revision = "0001"

NOW = sa.func.clock_timestamp()
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables of snapshots."""
    op.create_table(
        "snapshots",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("serial", sa.BigInteger, sa.Identity(), nullable=False, unique=True),
        sa.Column("project", sa.Text, sa.ForeignKey("projects.id"), nullable=False),
        sa.Column("dataset", sa.Text, nullable=False),
        sa.Column("branch", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("min_confidence", sa.Double, nullable=False),
        sa.Column("state", sa.Text, nullable=False, server_default="PENDING"),
        sa.Column("error", sa.Text, nullable=False, server_default=""),
        sa.Column("commit", sa.Text, nullable=False, server_default=""),
        sa.Column("label_count", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("left_out_count", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("annotation_count", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("creator", sa.Text, nullable=False),
        sa.Column("traceparent", sa.Text, nullable=False, server_default=""),
        sa.Column("revision", sa.BigInteger, nullable=False, server_default="1"),
        sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),  # the fence
        sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
        sa.Column("lease_until", TIME),
        sa.Column("next_time", TIME, nullable=False, server_default=NOW),
        # How far it is: the head it builds on, the upload that lies on it, and how often the head moved.
        sa.Column("base", sa.Text, nullable=False, server_default=""),
        sa.Column("upload", sa.Text, nullable=False, server_default=""),
        sa.Column("moves", sa.Integer, nullable=False, server_default="0"),
        sa.Column("create_time", TIME, nullable=False, server_default=NOW),
        sa.Column("end_time", TIME),
    )
    op.create_index("snapshots_by_project", "snapshots", ["project", "serial"])
    op.create_index("snapshots_by_commit", "snapshots", ["commit"], postgresql_where=sa.text("commit <> ''"))
    waiting = sa.text("state IN ('PENDING', 'RUNNING')")
    op.create_index("snapshots_waiting", "snapshots", ["next_time"], postgresql_where=waiting)
    op.create_table(
        "snapshot_labels",
        sa.Column("snapshot", sa.Text, sa.ForeignKey("snapshots.id"), primary_key=True),
        sa.Column("task", sa.BigInteger, sa.ForeignKey("tasks.serial"), primary_key=True),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("blob", sa.Text, nullable=False),
        sa.Column("labels", ARRAY(sa.Text), nullable=False),
    )
    # An annotation in here is used: it cannot be undone. A snapshot that fails gives its annotations back.
    op.create_table(
        "snapshot_annotations",
        sa.Column("snapshot", sa.Text, sa.ForeignKey("snapshots.id"), primary_key=True),
        sa.Column("annotation", sa.BigInteger, sa.ForeignKey("annotations.id"), primary_key=True),
        sa.Column("task", sa.BigInteger, sa.ForeignKey("tasks.serial"), nullable=False),
    )
    op.create_index("snapshot_annotations_by_annotation", "snapshot_annotations", ["annotation"])
    op.create_index("snapshot_annotations_by_task", "snapshot_annotations", ["snapshot", "task"])
