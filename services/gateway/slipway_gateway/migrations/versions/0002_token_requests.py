"""Who asked for a token, under which request_id: a repeat makes no second one."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the two columns, unique together."""
    op.add_column("api_tokens", sa.Column("creator", sa.Text))
    op.add_column("api_tokens", sa.Column("request_id", sa.Text))
    op.create_unique_constraint("api_tokens_asked_once", "api_tokens", ["creator", "request_id"])
