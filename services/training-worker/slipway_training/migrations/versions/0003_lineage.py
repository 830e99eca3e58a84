"""Indexes from what jobs were made of to the jobs: commits, task code, champions."""

from alembic import op

revision = "0003"
down_revision = "0002"

_INDEXES = (
    ("jobs", "dataset_commit"),
    ("jobs", "task_code"),
    ("scoring_jobs", "dataset_commit"),
    ("scoring_jobs", "champion_version"),
)


def upgrade() -> None:
    """Index what stands in the jobs' specs; servers of the release before write the same rows."""
    for table, field in _INDEXES:
        op.execute(f"CREATE INDEX ix_{table}_{field} ON {table} ((spec->>'{field}'))")
