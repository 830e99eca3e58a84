"""Deaths before and after each commit: what is sent again is counted once, and nothing is missing."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest
from event_maker import ENDPOINT, batch, event, image, row
from slipway_monitoring.domain.captures import ImportSpec
from slipway_monitoring.domain.feedback import Taken
from slipway_monitoring.usecases.captures import CaptureImports
from slipway_monitoring.usecases.events import Events
from slipway_monitoring.usecases.feedback import Feedback
from slipway_monitoring.usecases.outcomes import Outcomes
from slipway_monitoring.usecases.predictions import Predictions
from slipway_monitoring.usecases.sources import Sources
from slipway_runtime.db import Database, Repeat
from slipway_runtime.identity import Caller
from sqlalchemy import Connection, text


class DeathError(Exception):
    """The process is gone, and with it all that it had in memory."""


class MortalDatabase:
    """A database whose process dies before or after a commit: at the n-th such point.

    Before the commit, the error rolls the transaction back, as PostgreSQL does when a connection is cut off.
    """

    def __init__(self, database: Database, fatal: int) -> None:
        self._database = database
        self._fatal = fatal
        self.passed = 0

    def _tick(self) -> None:
        self.passed += 1
        if self.passed == self._fatal:
            raise DeathError

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        with self._database.transaction() as connection:
            yield connection
            self._tick()
        self._tick()


def lives(database: Database) -> Iterator[Any]:
    """Yield databases that die at the first point, the second, and so on; end with one that lives through."""
    for fatal in count(1):
        mortal = MortalDatabase(database, fatal)
        yield mortal
        if mortal.passed < fatal:
            assert fatal > 2  # there were points to die at
            return


def counted(outcomes: Outcomes) -> tuple[int, int, int]:
    found = outcomes.list(ENDPOINT, "", None).outcomes
    return (
        sum(one.row_count for one in found),
        sum(one.labelled_count for one in found),
        sum(one.correct_count for one in found),
    )


def test_a_batch_is_counted_once_wherever_its_taker_died(
    database: Database, registry: Any, as_front: Caller, outcomes: Outcomes, predictions: Predictions
) -> None:
    sent = batch([event(1, row("rose"), row("tulip", captured=image())), event(4)], produced_sequence=5)
    label = f"predictions/{sent.events[0].prediction_id}.0", "rose", ""
    Feedback(database=database).record([label], Repeat("RecordFeedback", "", b""))

    for mortal in lives(database):
        taker = Events(database=mortal, sources=Sources(database=mortal, registry=registry))
        try:
            taker.report(sent)
        except DeathError:
            continue

    (spool,), totals = predictions.coverage("monitors/flowers")
    assert counted(outcomes) == (3, 1, 1)
    assert totals == (2, 2, 1)
    assert (spool.received_count, spool.lost_count) == (2, 2)
    with database.transaction() as connection:
        assert connection.execute(text("SELECT count(*) FROM captures")).scalar_one() == 1


@pytest.mark.parametrize("request_id", ["", "r-1"], ids=["without a request id", "with one"])
def test_labels_are_counted_once_wherever_their_taker_died(
    database: Database, events: Events, outcomes: Outcomes, request_id: str
) -> None:
    there, late = event(1), event(2)
    events.report(batch([there]))
    given = [(f"predictions/{one.prediction_id}", "rose", "") for one in (there, late)]
    taken: list[Taken] = []

    for mortal in lives(database):
        try:
            taken.append(Feedback(database=mortal).record(given, Repeat("RecordFeedback", request_id, b"x")))
        except DeathError:
            continue
    events.report(batch([event(1), late]))

    first, repeated = Taken(recorded_count=2, waiting_count=1), Taken(repeated_count=2, waiting_count=1)
    assert taken == [first if request_id else repeated]
    assert counted(outcomes) == (3, 2, 2)


def test_an_import_is_kept_once_wherever_its_asker_died(
    database: Database, events: Events, ingestion: Any
) -> None:
    events.report(batch([event(1, row(captured=image()))]))
    spec = ImportSpec(ENDPOINT, "datasets/flowers")

    for mortal in lives(database):
        try:
            CaptureImports(database=mortal, ingestion=ingestion).create(spec, Repeat("Create", "r-1", b"x"))
        except DeathError:
            continue

    with database.transaction() as connection:
        for table in ("capture_imports", "capture_import_rows"):
            assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() == 1


class Nowhere:
    """Ingestion that has every data set."""

    def check_dataset(self, dataset: str) -> None:
        return None


@pytest.fixture
def ingestion() -> Nowhere:
    return Nowhere()
