"""Scores that models gave, and how far the answers of a project were judged."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0003"
down_revision = "0002"

NOW = sa.func.clock_timestamp()
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables of scores, and the marks of judgements."""
    op.create_table(
        "score_versions",
        sa.Column("project", sa.Text, sa.ForeignKey("projects.id"), primary_key=True),
        sa.Column("version", sa.Text, primary_key=True),
        sa.Column("classes", ARRAY(sa.Text), nullable=False),
        sa.Column("embedding_width", sa.Integer, nullable=False),
        sa.Column("create_time", TIME, nullable=False, server_default=NOW),
    )
    op.create_table(
        "scores",
        sa.Column("project", sa.Text, primary_key=True),
        sa.Column("version", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("probabilities", sa.LargeBinary, nullable=False),  # float32, little-endian
        sa.Column("embedding", sa.LargeBinary, nullable=False),  # float32, little-endian
        sa.Column("in_training", sa.Boolean, nullable=False),
        sa.ForeignKeyConstraint(["project", "version"], ["score_versions.project", "score_versions.version"]),
    )
    # The annotations seen by the last judgement: a project without newer ones needs none.
    op.add_column("projects", _annotation("judged_annotation"))
    op.add_column("projects", sa.Column("judge_time", TIME, nullable=False, server_default=NOW))
    # The newest annotation when a person let the annotator go on; the rule counts from there.
    op.add_column("annotators", _annotation("resume_annotation"))


def _annotation(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default="0")
