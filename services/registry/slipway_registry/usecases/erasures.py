"""Runs and versions on commits with erased examples are marked: the list of erasures is read on and on.

The last number that was read moves in the transaction of its marks, so each erasure is taken in once,
whatever dies. What is marked is the commit: a run or version that is made on it later is marked as well.
"""

import logging

from prometheus_client import Counter
from slipway_runtime.db import Database
from slipway_runtime.errors import DeadlineExceeded, Unavailable

from slipway_registry.clients import Ingestion
from slipway_registry.store import Store

log = logging.getLogger(__name__)

ERASURES = Counter("slipway_registry_erasures_total", "Erasures that were taken in.")


class Erasures:
    """Reads what ingestion erased.

    Args:
        database: Of this service.
        ingestion: Who tells.
    """

    def __init__(self, *, database: Database, ingestion: Ingestion) -> None:
        self._database = database
        self._ingestion = ingestion

    def sweep(self) -> None:
        """Take in all erasures that ended since the last look; the sweeper calls it."""
        with self._database.transaction() as connection:
            last = Store(connection).erasures_read()
        try:
            while found := self._ingestion.erasures(last):
                for number, name in found:
                    commits = self._ingestion.commits(name)
                    with self._database.transaction() as connection:
                        if not Store(connection).take_erasure(last, number, name, commits):
                            return
                    ERASURES.inc()
                    last = number
        except (Unavailable, DeadlineExceeded) as error:
            log.warning("erasures are not read (%s); the next look comes", error)
