"""Events, labels, what arrived, captured inputs and their imports."""

import sqlalchemy as sa
from alembic import op
from slipway_runtime.db import idempotency_table
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

revision = "0002"
down_revision = "0001"

NOW = sa.func.clock_timestamp()
TIME = sa.DateTime(timezone=True)
TEXT_C = sa.Text(collation="C")  # ids are compared by bytes


def upgrade() -> None:
    """Make the tables."""
    idempotency_table(sa.MetaData()).create(op.get_bind())
    _sources()
    _predictions()
    _outcomes()
    _capture_imports()


def _sources() -> None:
    # `arrival` and `entry` are counted up under the row's lock: what has a lower number was committed before.
    op.create_table(
        "endpoints",
        sa.Column("id", sa.Integer, sa.Identity(), primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("arrival", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("entry", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("forgotten_arrival", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("forgotten_entry", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("forgotten_capture", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("shadow_time", TIME),
        sa.Column("create_time", TIME, nullable=False, server_default=NOW),
    )
    op.create_table(
        "versions",
        sa.Column("id", sa.Integer, sa.Identity(), primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("classes", ARRAY(sa.Text), nullable=False),
        sa.Column("scored", sa.Text, nullable=False),  # output with a score per class
    )
    op.create_table(
        "spools",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("endpoint", sa.Integer, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("acknowledged", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("received", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("produced", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("closed", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("given_up", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("report_time", TIME, nullable=False, server_default=NOW),
        sa.Column("create_time", TIME, nullable=False, server_default=NOW),
    )
    op.create_index("spools_by_endpoint", "spools", ["endpoint", "create_time"])
    op.create_index("spools_open", "spools", ["report_time"], postgresql_where=sa.text("NOT closed"))


def _predictions() -> None:
    op.create_table(
        "predictions",
        sa.Column("prediction_id", TEXT_C, primary_key=True),
        sa.Column("row", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("endpoint", sa.Integer, nullable=False),
        sa.Column("arrival", sa.BigInteger, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("role", sa.SmallInteger, nullable=False),
        sa.Column("time", TIME, nullable=False),
        sa.Column("latency_ms", sa.REAL, nullable=False),
        sa.Column("predicted", sa.Integer, nullable=False),  # -1: none
        sa.Column("confidence", sa.REAL, nullable=False),
        sa.Column("captured", sa.Boolean, nullable=False),
        sa.Column("trace_id", UUID),
        sa.Column("request_id", TEXT_C, nullable=False),
        sa.Column("probabilities", sa.LargeBinary, nullable=False),  # float32, little-endian
        sa.Column("embedding", sa.LargeBinary, nullable=False),  # float32, little-endian
    )
    op.create_index("predictions_by_arrival", "predictions", ["endpoint", "arrival"])
    op.create_index(
        "predictions_by_request",
        "predictions",
        ["request_id"],
        postgresql_using="hash",
        postgresql_where=sa.text("request_id <> ''"),
    )
    op.create_table(
        "captures",
        sa.Column("endpoint", sa.Integer, primary_key=True),
        sa.Column("arrival", sa.BigInteger, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("datatype", sa.Text, nullable=False),
        sa.Column("shape", ARRAY(sa.Integer), nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )
    op.execute("ALTER TABLE captures ALTER COLUMN data SET STORAGE EXTERNAL")  # compressing costs more
    op.create_table(
        "labels",
        sa.Column("prediction_id", TEXT_C, primary_key=True),
        sa.Column("row", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("creator", sa.Text, nullable=False),
        sa.Column("first_time", TIME, nullable=False, server_default=NOW),
        sa.Column("time", TIME, nullable=False, server_default=NOW),
        # Of its predicted row; empty until that has come.
        sa.Column("endpoint", sa.Integer),
        sa.Column("arrival", sa.BigInteger),
        sa.Column("version", sa.Integer),
        sa.Column("role", sa.SmallInteger),
        sa.Column("prediction_time", TIME),
        sa.Column("correct", sa.Boolean),
    )
    waits = sa.text("endpoint IS NULL")
    op.create_index("labels_waiting", "labels", ["prediction_id", "row"], postgresql_where=waits)
    op.create_index("labels_by_time", "labels", ["endpoint", "prediction_time"])
    op.create_index("labels_by_arrival", "labels", ["endpoint", "arrival"])


def _outcomes() -> None:
    op.create_table(
        "outcomes",
        sa.Column("endpoint", sa.Integer, primary_key=True),
        sa.Column("entry", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("time", TIME, nullable=False, server_default=NOW),
        sa.Column("second", sa.BigInteger, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("role", sa.SmallInteger, nullable=False),
        sa.Column("row_count", sa.BigInteger, nullable=False),
        sa.Column("class_counts", JSONB, nullable=False),  # by class index
        sa.Column("confidence_sum", sa.Double, nullable=False),
        sa.Column("labelled_count", sa.BigInteger, nullable=False),
        sa.Column("correct_count", sa.BigInteger, nullable=False),
        sa.Column("pair_count", sa.BigInteger, nullable=False),
        sa.Column("disagreement_count", sa.BigInteger, nullable=False),
        sa.Column("captured_bytes", sa.BigInteger, nullable=False),
        # Its rows are among those that arrived after the first and up to the last of these.
        sa.Column("after_arrival", sa.BigInteger, nullable=False),
        sa.Column("last_arrival", sa.BigInteger, nullable=False),
    )
    op.create_index("outcomes_by_time", "outcomes", ["endpoint", "time"])
    op.create_index("outcomes_by_second", "outcomes", ["endpoint", "second"])


def _capture_imports() -> None:
    op.create_table(
        "capture_imports",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("serial", sa.BigInteger, sa.Identity(), nullable=False, unique=True),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("dataset", sa.Text, nullable=False),
        sa.Column("branch", sa.Text, nullable=False),
        sa.Column("start_time", TIME),
        sa.Column("end_time", TIME),
        sa.Column("max_confidence", sa.Double, nullable=False),
        sa.Column("max_count", sa.Integer, nullable=False),
        sa.Column("attributes", JSONB, nullable=False),
        sa.Column("state", sa.Text, nullable=False, server_default="PENDING"),
        sa.Column("commit", sa.Text, nullable=False, server_default=""),
        sa.Column("example_count", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("error", sa.Text, nullable=False, server_default=""),
        sa.Column("creator", sa.Text, nullable=False),
        sa.Column("traceparent", sa.Text, nullable=False, server_default=""),
        sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),  # the fence
        sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
        sa.Column("lease_until", TIME),
        sa.Column("next_time", TIME, nullable=False, server_default=NOW),
        sa.Column("create_time", TIME, nullable=False, server_default=NOW),
        sa.Column("finish_time", TIME),
    )
    waiting = sa.text("state IN ('PENDING', 'RUNNING')")
    op.create_index("capture_imports_waiting", "capture_imports", ["next_time"], postgresql_where=waiting)
    # Chosen when the import is asked for, so that each attempt sends the same; kept as lineage.
    op.create_table(
        "capture_import_rows",
        sa.Column("capture_import", sa.Text, sa.ForeignKey("capture_imports.id"), primary_key=True),
        sa.Column("prediction_id", TEXT_C, primary_key=True),
        sa.Column("row", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("endpoint", sa.Integer, nullable=False),
        sa.Column("arrival", sa.BigInteger, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("predicted", sa.Integer, nullable=False),
        sa.Column("confidence", sa.REAL, nullable=False),
    )
    op.create_index("capture_import_rows_by_row", "capture_import_rows", ["prediction_id", "row"])
    op.create_index("capture_import_rows_by_capture", "capture_import_rows", ["endpoint", "arrival"])
