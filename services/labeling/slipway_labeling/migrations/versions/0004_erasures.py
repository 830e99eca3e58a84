"""How far the list of erasures is read."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the table; nothing is read yet."""
    op.create_table("erasures_read", sa.Column("number", sa.BigInteger, nullable=False))
    op.execute("INSERT INTO erasures_read VALUES (0)")
