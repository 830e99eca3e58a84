"""Outcomes: a cursor counts each row and label once, whoever writes meanwhile; quality has its interval."""

import random
import threading
import time
import uuid
from collections import Counter
from datetime import UTC, datetime

import pytest
from event_maker import ENDPOINT, OTHER_VERSION, VERSION, batch, event, image, row
from slipway_monitoring.domain.events import Event, Role
from slipway_monitoring.domain.outcomes import OutcomeCount
from slipway_monitoring.domain.quality import wilson
from slipway_monitoring.store.sources import SourceStore
from slipway_monitoring.usecases import outcomes as module
from slipway_monitoring.usecases.events import Events
from slipway_monitoring.usecases.feedback import Feedback
from slipway_monitoring.usecases.outcomes import Outcomes
from slipway_monitoring.usecases.predictions import Predictions
from slipway_monitoring.usecases.retention import Retention
from slipway_runtime.db import Database, Repeat
from slipway_runtime.errors import InvalidArgument, NotFound
from slipway_runtime.identity import Caller, acting_as
from sqlalchemy import text

AT_US = 1_790_000_000_000_000


def labelled(feedback: Feedback, made: Event, label: str) -> None:
    feedback.record([(f"predictions/{made.prediction_id}", label, "")], Repeat("RecordFeedback", "", b""))


def read(outcomes: Outcomes, cursor: str = "") -> tuple[list[OutcomeCount], str, tuple[int, int]]:
    """Return all that arrived after a cursor, with the next cursor and the pairs."""
    found: list[OutcomeCount] = []
    pairs = [0, 0]
    while True:
        arrived = outcomes.list(ENDPOINT, cursor, None)
        found += arrived.outcomes
        pairs = [pairs[0] + arrived.pair_count, pairs[1] + arrived.disagreement_count]
        cursor = arrived.cursor
        if not arrived.more:
            return found, cursor, (pairs[0], pairs[1])


def test_rows_are_counted_by_second_version_and_role(events: Events, outcomes: Outcomes) -> None:
    sent = [
        event(1, row("rose"), row("tulip"), time_us=AT_US),
        event(2, row("rose"), time_us=AT_US + 999_999),
        event(3, row("rose"), time_us=AT_US + 1_000_000, role=Role.TESTER),
        event(4, row("daisy"), time_us=AT_US, model_version=OTHER_VERSION),
    ]
    events.report(batch(sent))

    found, _, _ = read(outcomes)

    second = AT_US // 1_000_000
    assert found == [
        OutcomeCount(second, VERSION, Role.LIVE, 3, {"rose": 2, "tulip": 1}, 0, 0),
        OutcomeCount(second, OTHER_VERSION, Role.LIVE, 1, {"daisy": 1}, 0, 0),
        OutcomeCount(second + 1, VERSION, Role.TESTER, 1, {"rose": 1}, 0, 0),
    ]


def test_what_one_cursor_has_read_the_next_does_not_repeat(
    events: Events, feedback: Feedback, outcomes: Outcomes
) -> None:
    first, second = event(1), event(1)
    events.report(batch([first]))
    _, cursor, _ = read(outcomes)

    labelled(feedback, first, "tulip")
    sent = batch([second])
    events.report(sent)
    events.report(sent)
    found, after, _ = read(outcomes, cursor)

    assert [
        sum(values) for values in zip(*((o.row_count, o.labelled_count) for o in found), strict=True)
    ] == [
        1,
        1,
    ]
    assert read(outcomes, after)[0] == []
    assert read(outcomes, after)[1] == after


def test_a_long_log_is_read_in_parts(
    events: Events, outcomes: Outcomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ENTRIES", 2)
    for number in range(5):
        events.report(batch([event(1, time_us=AT_US + number * 1_000_000)]))

    first = outcomes.list(ENDPOINT, "", None)
    found, _, _ = read(outcomes)

    assert (len(first.outcomes), first.more) == (2, True)
    assert len(found) == 5


def test_an_empty_cursor_begins_at_a_time(events: Events, outcomes: Outcomes) -> None:
    events.report(batch([event(1)]))
    between = datetime.now(UTC)
    events.report(batch([event(1), event(2)]))

    assert sum(one.row_count for one in outcomes.list(ENDPOINT, "", between).outcomes) == 2
    assert outcomes.list(ENDPOINT, "", datetime.now(UTC)).outcomes == []
    later = outcomes.list(ENDPOINT, "", datetime.now(UTC)).cursor
    events.report(batch([event(1)]))
    assert sum(one.row_count for one in outcomes.list(ENDPOINT, later, None).outcomes) == 1


def test_an_endpoint_without_events_has_no_cursor_yet(outcomes: Outcomes) -> None:
    arrived = outcomes.list("endpoints/none", "", None)

    assert (arrived.outcomes, arrived.cursor, arrived.more) == ([], "", False)


def test_a_foreign_cursor_is_refused(events: Events, outcomes: Outcomes) -> None:
    events.report(batch([event(1), event(2, endpoint="endpoints/garden")]))
    _, cursor, _ = read(outcomes)

    for endpoint, bad in (("endpoints/garden", cursor), (ENDPOINT, "nonsense")):
        with pytest.raises(InvalidArgument) as refused:
            outcomes.list(endpoint, bad, None)
        assert refused.value.reason == "INVALID_PAGE_TOKEN"
        assert refused.value.violations[0].field == "cursor"


def test_a_cursor_whose_rest_is_forgotten_is_refused(
    events: Events, outcomes: Outcomes, database: Database
) -> None:
    events.report(batch([event(1)]))
    _, cursor, _ = read(outcomes)
    events.report(batch([event(1)]))
    events.report(batch([event(1)]))
    Retention(database=database, hours=1, max_rows=1, max_captured_bytes=1 << 20).sweep()

    with pytest.raises(InvalidArgument) as refused:
        outcomes.list(ENDPOINT, cursor, None)

    assert "older than what is kept" in refused.value.message
    assert sum(one.row_count for one in read(outcomes)[0]) == 1


@pytest.mark.parametrize("shadow_first", [True, False], ids=["shadow first", "live first"])
def test_a_mirrored_row_is_compared_once_with_its_twin(
    events: Events, outcomes: Outcomes, shadow_first: bool
) -> None:
    live = [event(1, row("rose"), row("rose"), request_id="a"), event(2, request_id="b")]
    shadow = [
        event(1, row("rose"), row("tulip"), request_id="a", role=Role.SHADOW, model_version=OTHER_VERSION),
        event(2, request_id="alone", role=Role.SHADOW, model_version=OTHER_VERSION),
    ]
    for sent in (shadow, live) if shadow_first else (live, shadow):
        events.report(batch(sent))

    _, cursor, pairs = read(outcomes)

    assert pairs == (2, 1)
    assert read(outcomes, cursor)[2] == (0, 0)


def test_twins_in_one_batch_and_retries_are_compared_once(events: Events, outcomes: Outcomes) -> None:
    sent = [
        event(1, request_id="a"),
        event(2, row("tulip"), request_id="a", role=Role.SHADOW),
        event(3, request_id="a"),  # a retry: the first is the twin
        event(4, request_id="", role=Role.SHADOW),
        event(5, request_id=""),
    ]
    events.report(batch(sent))
    events.report(batch([event(1, request_id="a")]))

    assert read(outcomes)[2] == (1, 1)


def test_sixteen_reporters_labels_and_a_cursor_count_each_row_once(
    events: Events, feedback: Feedback, outcomes: Outcomes
) -> None:
    reporters, batches, size = 16, 8, 3
    sent: list[Event] = []
    lock, over = threading.Lock(), threading.Event()

    def report(seed: int) -> None:
        rng, spool, sequence = random.Random(seed), str(uuid.uuid4()), 1
        with acting_as(Caller("services/inference", frozenset({"service"}))):
            for _ in range(batches):
                made = [event(sequence + number) for number in range(size)]
                one = batch(made, spool=spool)
                for _ in range(rng.choice((1, 1, 2))):  # some batches come twice
                    events.report(one)
                sequence += size
                with lock:
                    sent.extend(made)
                if rng.random() < 0.5:
                    labelled(feedback, made[0], rng.choice(("rose", "tulip")))

    counts: Counter[str] = Counter()

    def follow() -> None:
        cursor = ""
        while True:
            last = over.is_set()
            found, cursor, _ = read(outcomes, cursor)
            for one in found:
                counts["rows"] += one.row_count
                counts["labelled"] += one.labelled_count
                counts["correct"] += one.correct_count
            if last:
                return

    reader = threading.Thread(target=follow)
    threads = [threading.Thread(target=report, args=(seed,)) for seed in range(reporters)]
    for thread in (reader, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    over.set()
    reader.join()

    (version,) = outcomes.quality("monitors/flowers", 0)
    assert counts["rows"] == version.row_count == reporters * batches * size
    assert counts["labelled"] == version.labelled_count > 0
    assert counts["correct"] == version.correct_count


def test_what_is_not_committed_yet_holds_back_what_would_come_after_it(
    events: Events, outcomes: Outcomes, database: Database, as_front: Caller
) -> None:
    """Without the lock, a cursor would pass the later batch and never see the earlier one."""
    events.report(batch([event(1)]))
    _, cursor, _ = read(outcomes)
    done = threading.Event()

    def report() -> None:
        with acting_as(as_front):
            events.report(batch([event(1)]))
        done.set()

    with database.transaction() as connection:
        endpoint = SourceStore(connection).endpoint(ENDPOINT)
        assert endpoint is not None
        SourceStore(connection).lock(endpoint)
        thread = threading.Thread(target=report)
        thread.start()
        time.sleep(0.3)
        waited, seen = not done.is_set(), read(outcomes, cursor)[0]
    thread.join()

    assert waited
    assert seen == []
    assert sum(one.row_count for one in read(outcomes, cursor)[0]) == 1


def test_quality_counts_live_rows_by_version(events: Events, feedback: Feedback, outcomes: Outcomes) -> None:
    first = [event(number, row("rose", 0.6)) for number in range(1, 4)]
    second = event(4, row("tulip", 0.9), model_version=OTHER_VERSION)
    shadow = event(5, role=Role.SHADOW)
    events.report(batch([*first, second, shadow]))
    labelled(feedback, first[0], "rose")
    labelled(feedback, first[1], "daisy")
    labelled(feedback, shadow, "rose")

    one, two = outcomes.quality("monitors/flowers", 60)

    assert (one.model_version, one.row_count, one.traffic_share) == (VERSION, 3, 0.75)
    assert (one.labelled_count, one.correct_count, one.accuracy) == (2, 1, 0.5)
    assert one.interval == pytest.approx(wilson(1, 2))
    assert one.class_counts == {"rose": 3}
    assert one.mean_confidence == pytest.approx(0.6)
    assert one.label_delay_p50_s is not None
    assert 0 <= one.label_delay_p50_s < 60
    assert (two.labelled_count, two.accuracy, two.interval, two.label_delay_p95_s) == (0, None, None, None)


def test_quality_keeps_to_its_window(events: Events, outcomes: Outcomes) -> None:
    events.report(batch([event(1), event(2, time_us=AT_US - 10**15)]))

    (one,) = outcomes.quality("monitors/flowers", 60)

    assert one.row_count == 1
    for window_s in (-1, 10**9):
        with pytest.raises(InvalidArgument):
            outcomes.quality("monitors/flowers", window_s)
    with pytest.raises(NotFound):
        outcomes.quality("monitors/none", 60)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998), table I: method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_is_that_of_the_literature(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson(successes, trials) == pytest.approx((low, high), abs=5e-5)


def kept(database: Database, table: str) -> int:
    with database.transaction() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def test_too_many_rows_are_forgotten_the_oldest_first_and_requests_stay_whole(
    events: Events, feedback: Feedback, predictions: Predictions, database: Database
) -> None:
    old, wide = event(1, row(), row(captured=image())), event(1, row(), row(), row())
    events.report(batch([old]))
    labelled(feedback, old, "rose")
    events.report(batch([wide]))
    events.report(batch([event(1)]))

    Retention(database=database, hours=1, max_rows=4, max_captured_bytes=1 << 20).sweep()

    assert kept(database, "predictions") == 4
    assert (kept(database, "labels"), kept(database, "captures")) == (0, 0)
    assert predictions.get(f"predictions/{wide.prediction_id}.2").row == 2
    with pytest.raises(NotFound):
        predictions.get(f"predictions/{old.prediction_id}.0")


def test_rows_and_waiting_labels_of_an_earlier_time_are_forgotten(
    events: Events, feedback: Feedback, database: Database
) -> None:
    events.report(batch([event(1)]))
    labelled(feedback, event(1), "rose")
    with database.transaction() as connection:
        connection.execute(text("UPDATE outcomes SET time = time - interval '2 hours'"))
        connection.execute(text("UPDATE labels SET time = time - interval '2 hours'"))
    events.report(batch([event(1)]))
    labelled(feedback, event(1), "rose")

    Retention(database=database, hours=1, max_rows=100, max_captured_bytes=1 << 20).sweep()

    assert (kept(database, "predictions"), kept(database, "labels")) == (1, 1)


def test_captured_inputs_are_bounded_in_bytes_and_their_rows_stay(events: Events, database: Database) -> None:
    for number in range(5):
        events.report(batch([event(1, row(captured=image(number)))]))  # 16 bytes each

    Retention(database=database, hours=1, max_rows=100, max_captured_bytes=40).sweep()

    with database.transaction() as connection:
        left = connection.execute(text("SELECT arrival FROM captures ORDER BY 1")).scalars().all()
    assert left == [4, 5]
    assert kept(database, "predictions") == 5
