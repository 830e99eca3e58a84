"""Monitors, drift reports, alerts, silences, and what objectives are judged by."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"

NOW = sa.func.clock_timestamp()
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "monitors",
        sa.Column("endpoint", sa.Text, primary_key=True),
        sa.Column("spec", JSONB, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("updater", sa.Text, nullable=False),
        sa.Column("update_time", TIME, nullable=False, server_default=NOW),
    )
    _drift()
    _alerts()
    _objectives()


def _drift() -> None:
    op.create_table(
        "drift_windows",
        sa.Column("endpoint", sa.Text, primary_key=True),
        sa.Column("version", sa.Text, primary_key=True),
        sa.Column("after_arrival", sa.BigInteger, nullable=False),  # the open window's rows lie after it
        sa.Column("pending", sa.BigInteger, nullable=False),
        sa.Column("open_time", TIME, nullable=False, server_default=NOW),
        sa.Column("streaks", JSONB, nullable=False, server_default="{}"),
    )
    op.create_table(
        "drift_cursors",
        sa.Column("endpoint", sa.Text, primary_key=True),
        sa.Column("arrival", sa.BigInteger, nullable=False),  # rows up to it are counted in `pending`
    )
    op.create_table(
        "drift_reports",
        sa.Column("endpoint", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("model_version", sa.Text, nullable=False),
        sa.Column("after_arrival", sa.BigInteger, nullable=False),
        sa.Column("last_arrival", sa.BigInteger, nullable=False),
        sa.Column("start_time", TIME, nullable=False),
        sa.Column("end_time", TIME, nullable=False),
        sa.Column("row_count", sa.BigInteger, nullable=False),
        sa.Column("comparison", JSONB, nullable=False),
        sa.Column("create_time", TIME, nullable=False, server_default=NOW),
    )
    # A window is reported once, whoever thinks that it leads.
    op.create_index(
        "drift_reports_once", "drift_reports", ["endpoint", "model_version", "after_arrival"], unique=True
    )


def _alerts() -> None:
    op.create_table(
        "alerts",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("serial", sa.BigInteger, sa.Identity(), nullable=False, unique=True),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("rule", sa.Text, nullable=False),
        sa.Column("model_version", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False, server_default="FIRING"),
        sa.Column("summary", sa.Text, nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.Column("create_time", TIME, nullable=False, server_default=NOW),
        sa.Column("last_seen_time", TIME, nullable=False, server_default=NOW),
        sa.Column("seen_count", sa.BigInteger, nullable=False, server_default="1"),
        sa.Column("acknowledged_by", sa.Text, nullable=False, server_default=""),
        sa.Column("comment", sa.Text, nullable=False, server_default=""),
        sa.Column("resolve_time", TIME),
        sa.Column("start_time", TIME),
        sa.Column("end_time", TIME),
        sa.Column("planned", sa.Boolean, nullable=False, server_default=sa.false()),  # its actions are rows
    )
    is_open = sa.text("state <> 'RESOLVED'")
    op.create_index(
        "alerts_open", "alerts", ["endpoint", "rule", "model_version"], unique=True, postgresql_where=is_open
    )
    op.create_table(
        "alert_actions",
        sa.Column("alert", sa.Text, sa.ForeignKey("alerts.id"), primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("target", sa.Text, primary_key=True),
        sa.Column("payload", JSONB, nullable=False),
        sa.Column("result", sa.Text, nullable=False, server_default=""),
        sa.Column("error", sa.Text, nullable=False, server_default=""),
        sa.Column("attempt_count", sa.Integer, nullable=False, server_default="0"),
        sa.Column("next_time", TIME, nullable=False, server_default=NOW),
    )
    undone = sa.text("result = ''")
    op.create_index("alert_actions_due", "alert_actions", ["next_time"], postgresql_where=undone)
    op.create_table(
        "silences",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("serial", sa.BigInteger, sa.Identity(), nullable=False, unique=True),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("rule", sa.Text, nullable=False),
        sa.Column("end_time", TIME, nullable=False),
        sa.Column("comment", sa.Text, nullable=False),
        sa.Column("creator", sa.Text, nullable=False),
        sa.Column("create_time", TIME, nullable=False, server_default=NOW),
    )


def _objectives() -> None:
    op.create_table(
        "call_counts",
        sa.Column("endpoint", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),  # `spans`, `events` or `latency/{ms}`
        sa.Column("bucket", sa.BigInteger, primary_key=True, autoincrement=False),  # its first second
        sa.Column("total", sa.BigInteger, nullable=False),
        sa.Column("bad", sa.BigInteger, nullable=False),
    )
    op.create_index("call_counts_by_bucket", "call_counts", ["bucket"])
    # Calls of models as the doors saw them: a proxy's serving spans that name the cluster they were sent to.
    op.execute(
        "CREATE INDEX spans_of_calls ON spans (start_time) "
        "WHERE kind = 'server' AND attributes ? 'upstream_cluster'"
    )
