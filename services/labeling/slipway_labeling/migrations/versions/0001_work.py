"""Projects, schemas, tasks, assignments, annotations, annotators.

An answer is an array of labels: NULL where there is none, empty where a multi-label answer names none.
"""

import sqlalchemy as sa
from alembic import op
from slipway_runtime.db import idempotency_table
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0001"
down_revision = None

NOW = sa.func.clock_timestamp()
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make all tables."""
    idempotency_table(sa.MetaData()).create(op.get_bind())
    _projects()
    _tasks()
    _assignments()
    _annotations()
    _annotators()


def _projects() -> None:
    op.create_table(
        "projects",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("dataset", sa.Text, nullable=False),
        sa.Column("schema_version", sa.Integer, nullable=False),
        sa.Column("overlap", sa.Integer, nullable=False),
        sa.Column("lease_s", sa.Integer, nullable=False),
        sa.Column("gold_percent", sa.Integer, nullable=False),
        sa.Column("prelabel_percent", sa.Integer, nullable=False),
        sa.Column("pause_rule", JSONB, nullable=False),
        sa.Column("consensus_method", sa.Text, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False, server_default="1"),
        sa.Column("creator", sa.Text, nullable=False),
        sa.Column("create_time", TIME, nullable=False, server_default=NOW),
        sa.Column("update_time", TIME, nullable=False, server_default=NOW),
    )
    op.create_table(
        "schemas",
        sa.Column("project", sa.Text, sa.ForeignKey("projects.id"), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("labels", ARRAY(sa.Text), nullable=False),
        sa.Column("multiple", sa.Boolean, nullable=False),
        sa.Column("instructions", sa.Text, nullable=False),
        sa.Column("create_time", TIME, nullable=False, server_default=NOW),
    )


def _tasks() -> None:
    op.create_table(
        "tasks",
        sa.Column("serial", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("project", sa.Text, sa.ForeignKey("projects.id"), nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("dataset_commit", sa.Text, nullable=False),
        sa.Column("blob", sa.Text, nullable=False),
        sa.Column("media_type", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("priority", sa.Double, nullable=False, server_default="0"),
        sa.Column("overlap", sa.Integer, nullable=False),
        # Live leases and standing answers; kept with every lease and its end, in one transaction.
        sa.Column("taken", sa.Integer, nullable=False, server_default="0"),
        sa.Column("given", sa.Integer, nullable=False, server_default="0"),  # assignments ever made
        sa.Column("answer_count", sa.Integer, nullable=False, server_default="0"),
        sa.Column("flag_count", sa.Integer, nullable=False, server_default="0"),
        sa.Column("gold", ARRAY(sa.Text)),
        sa.Column("prelabel", ARRAY(sa.Text)),
        sa.Column("prelabel_version", sa.Text, nullable=False, server_default=""),
        sa.Column("consensus", ARRAY(sa.Text)),
        sa.Column("consensus_confidence", sa.Double, nullable=False, server_default="0"),
        sa.Column("reviewed", ARRAY(sa.Text)),
        sa.Column("review_annotation", sa.BigInteger),  # what a correcting reviewer answered
        sa.Column("reviewer", sa.Text, nullable=False, server_default=""),
        sa.Column("review_comment", sa.Text, nullable=False, server_default=""),
        sa.Column("create_time", TIME, nullable=False, server_default=NOW),
        sa.UniqueConstraint("project", "key"),
        # No fault of this program can give a task to more people than it wants; gold is for everybody.
        sa.CheckConstraint("taken >= 0 AND (gold IS NOT NULL OR taken <= overlap)", name="tasks_taken"),
    )
    op.create_index("tasks_in_order", "tasks", ["project", sa.text("priority DESC"), "serial"])
    free = sa.text("state = 'OPEN' AND gold IS NULL AND taken < overlap")
    op.create_index(
        "tasks_free", "tasks", ["project", sa.text("priority DESC"), "serial"], postgresql_where=free
    )
    op.create_index(
        "tasks_gold", "tasks", ["project", "serial"], postgresql_where=sa.text("gold IS NOT NULL")
    )


def _assignments() -> None:
    op.create_table(
        "assignments",
        sa.Column("task", sa.BigInteger, sa.ForeignKey("tasks.serial"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("project", sa.Text, nullable=False),
        sa.Column("annotator", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("lease_time", TIME, nullable=False),
        sa.Column("claim_time", TIME, nullable=False),
        sa.Column("schema_version", sa.Integer, nullable=False),
        sa.Column("prelabel", ARRAY(sa.Text)),  # the model's answer at the claim, shown or not
        sa.Column("prelabel_shown", sa.Boolean, nullable=False),
        sa.Column("comment", sa.Text, nullable=False, server_default=""),
        sa.Column("annotation", sa.BigInteger),  # the one that counts; NULL when none stands
        sa.UniqueConstraint("task", "annotator"),  # never twice to one person
    )
    leased = sa.text("state = 'LEASED'")
    op.create_index("assignments_held", "assignments", ["project", "annotator"], postgresql_where=leased)
    op.create_index("assignments_leased", "assignments", ["lease_time"], postgresql_where=leased)
    op.create_index("assignments_by_annotator", "assignments", ["annotator", "project", "task"])


def _annotations() -> None:
    op.create_table(
        "annotations",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("project", sa.Text, nullable=False),
        sa.Column("task", sa.BigInteger, sa.ForeignKey("tasks.serial"), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),  # of the assignment; 0 for a reviewer's
        sa.Column("annotator", sa.Text, nullable=False),
        sa.Column("labels", ARRAY(sa.Text)),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("withdrawn", sa.Boolean, nullable=False),
        sa.Column("lease_ms", sa.BigInteger, nullable=False),
        sa.Column("lead_ms", sa.BigInteger, nullable=False),
        sa.Column("prelabel_shown", sa.Boolean, nullable=False),
        sa.Column("schema_version", sa.Integer, nullable=False),
        sa.Column("create_time", TIME, nullable=False, server_default=NOW),
        sa.CheckConstraint("withdrawn = (labels IS NULL)", name="annotations_answer"),
        sa.UniqueConstraint("task", "number", "revision"),
    )
    op.create_index("annotations_by_project", "annotations", ["project", "id"])
    op.create_index("annotations_by_annotator", "annotations", ["annotator", "project", "id"])
    op.execute(
        "CREATE FUNCTION annotations_are_immutable() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'annotations are immutable; write a revision'; END $$"
    )
    op.execute(
        "CREATE TRIGGER annotations_are_immutable BEFORE UPDATE OR DELETE ON annotations "
        "FOR EACH ROW EXECUTE FUNCTION annotations_are_immutable()"
    )


def _annotators() -> None:
    op.create_table(
        "annotators",
        sa.Column("project", sa.Text, sa.ForeignKey("projects.id"), primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("paused", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("pause_reason", sa.Text, nullable=False, server_default=""),
        # What the last consensus says of the person; -1 before there is one.
        sa.Column("error_rate", sa.Double, nullable=False, server_default="-1"),
        sa.Column("error_rate_low", sa.Double, nullable=False, server_default="-1"),
        sa.Column("error_rate_high", sa.Double, nullable=False, server_default="-1"),
        sa.Column("careless", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("labels", ARRAY(sa.Text), nullable=False, server_default="{}"),
        sa.Column("confusion", ARRAY(sa.Double), nullable=False, server_default="{}"),
        sa.Column("create_time", TIME, nullable=False, server_default=NOW),
    )
