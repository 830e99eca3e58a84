"""Commits by the commit before them."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the index."""
    op.create_index("commits_by_parent", "commits", ["dataset", "parent", "digest"])
