"""States of versions, gate policies, evaluations, verdicts, aliases."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"

NOW = sa.func.clock_timestamp()


def upgrade() -> None:
    """Make the tables; versions that are there are candidates."""
    op.add_column("versions", sa.Column("state", sa.Text, nullable=False, server_default="CANDIDATE"))
    op.add_column("versions", sa.Column("verdict", sa.Integer, nullable=False, server_default="0"))
    op.create_table(
        "policies",
        sa.Column("model", sa.Text, sa.ForeignKey("models.id"), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("yaml", sa.Text, nullable=False),
        *_by("creator", "create_time"),
    )
    _evaluations()
    _verdicts()
    op.create_table(
        "aliases",
        sa.Column("model", sa.Text, primary_key=True),
        sa.Column("alias", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        *_by("updater", "update_time"),
        _of_version(),
    )
    op.create_index("aliases_by_version", "aliases", ["model", "version"])


def _evaluations() -> None:
    op.create_table(
        "evaluations",
        sa.Column("number", sa.BigInteger, sa.Identity(), nullable=False, unique=True),
        sa.Column("model", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("header", JSONB, nullable=False),
        sa.Column("report", JSONB, nullable=False),
        sa.Column("attributes", sa.ARRAY(sa.Text), nullable=False),
        sa.Column("pictures", sa.ARRAY(sa.Text), nullable=False),
        *_by("creator", "create_time"),
        _of_version(),
    )
    op.create_index("evaluations_by_version", "evaluations", ["model", "version", "number"])


def _verdicts() -> None:
    op.create_table(
        "verdicts",
        sa.Column("model", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("findings", JSONB, nullable=False),
        sa.Column("policy_version", sa.Integer, nullable=False),
        sa.Column("evaluation", sa.Text, nullable=False),
        sa.Column("champion_version", sa.Text, nullable=False),
        sa.Column("override", sa.Boolean, nullable=False),
        sa.Column("override_reason", sa.Text, nullable=False),
        *_by("creator", "create_time"),
        _of_version(),
    )


def _by(who: str, when: str) -> tuple[sa.Column[Any], sa.Column[Any]]:
    return (
        sa.Column(who, sa.Text, nullable=False),
        sa.Column(when, sa.DateTime(timezone=True), nullable=False, server_default=NOW),
    )


def _of_version() -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["model", "version"], ["versions.model", "versions.number"])
