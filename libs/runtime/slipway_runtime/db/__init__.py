"""PostgreSQL: transactions, migrations, idempotency, pages, leaders."""

from slipway_runtime.db.database import Database, leader
from slipway_runtime.db.idempotency import (
    check_request_id,
    fingerprint,
    first_answer,
    forget_old,
    idempotency_table,
    once,
)
from slipway_runtime.db.migrations import migrate
from slipway_runtime.db.paging import PageToken, page_of, page_size
from slipway_runtime.db.prepared import Prepared
from slipway_runtime.db.repeats import Repeat

__all__ = [
    "Database",
    "PageToken",
    "Prepared",
    "Repeat",
    "check_request_id",
    "fingerprint",
    "first_answer",
    "forget_old",
    "idempotency_table",
    "leader",
    "migrate",
    "once",
    "page_of",
    "page_size",
]
