"""Labels: joined before or after the events, once each, with every bad one named."""

import threading
import time
import uuid
from collections.abc import Sequence
from typing import Any

import pytest
from event_maker import ENDPOINT, batch, event, row
from slipway_monitoring.domain.feedback import MAX_FEEDBACK, Taken
from slipway_monitoring.domain.outcomes import OutcomeCount
from slipway_monitoring.store.events import EventStore
from slipway_monitoring.usecases.events import Events
from slipway_monitoring.usecases.feedback import Feedback
from slipway_monitoring.usecases.outcomes import Outcomes
from slipway_monitoring.usecases.predictions import Predictions
from slipway_runtime.db import Database, Repeat
from slipway_runtime.errors import InvalidArgument
from slipway_runtime.identity import Caller, acting_as


def said(feedback: Feedback, *labels: tuple[str, str], request_id: str = "") -> Taken:
    """Take labels of predictions, which are named without the collection."""
    given = [(f"predictions/{name}", label, "annotations/7") for name, label in labels]
    return feedback.record(given, Repeat("RecordFeedback", request_id, str(given).encode()))


def counted(outcomes: Outcomes) -> tuple[int, int, int]:
    """Return rows, labelled and correct ones, as a cursor from the beginning counts them."""
    found = outcomes.list(ENDPOINT, "", None).outcomes
    return sums(found)


def sums(found: Sequence[OutcomeCount]) -> tuple[int, int, int]:
    return (
        sum(one.row_count for one in found),
        sum(one.labelled_count for one in found),
        sum(one.correct_count for one in found),
    )


def quality(outcomes: Outcomes) -> tuple[int, int]:
    (version,) = outcomes.quality("monitors/flowers", 0)
    return version.labelled_count, version.correct_count


def test_a_label_joins_its_row(
    events: Events, feedback: Feedback, predictions: Predictions, outcomes: Outcomes
) -> None:
    made = event(1, row("rose"), row("tulip"))
    events.report(batch([made]))

    with acting_as(Caller("users/ann", frozenset({"engineer"}))):
        taken = said(feedback, (f"{made.prediction_id}.0", "rose"), (f"{made.prediction_id}.1", "rose"))

    found = predictions.get(f"predictions/{made.prediction_id}.1")
    assert taken == Taken(recorded_count=2)
    assert (found.label, found.label_source) == ("rose", "annotations/7")
    assert found.label_time is not None
    assert counted(outcomes) == (2, 2, 1)
    assert quality(outcomes) == (2, 1)


def test_a_label_before_its_event_waits_and_joins_it(
    events: Events, feedback: Feedback, outcomes: Outcomes
) -> None:
    made = event(1)

    taken = said(feedback, (made.prediction_id, "rose"))
    events.report(batch([made]))

    assert taken == Taken(recorded_count=1, waiting_count=1)
    assert counted(outcomes) == (1, 1, 1)
    assert quality(outcomes) == (1, 1)


def test_the_same_label_again_is_a_repeat(events: Events, feedback: Feedback, outcomes: Outcomes) -> None:
    made = event(1)
    events.report(batch([made]))
    said(feedback, (made.prediction_id, "rose"))

    assert said(feedback, (f"{made.prediction_id}.0", "rose")) == Taken(repeated_count=1)
    assert counted(outcomes) == (1, 1, 1)


def test_a_changed_label_changes_the_quality_and_is_counted_once_by_cursors(
    events: Events, feedback: Feedback, predictions: Predictions, outcomes: Outcomes
) -> None:
    made = event(1)
    events.report(batch([made]))
    said(feedback, (made.prediction_id, "rose"))

    assert said(feedback, (made.prediction_id, "daisy")) == Taken(changed_count=1)

    assert predictions.get(f"predictions/{made.prediction_id}").label == "daisy"
    assert quality(outcomes) == (1, 0)
    assert counted(outcomes) == (1, 1, 1)


def test_a_label_that_changes_while_it_waits_joins_as_it_is_then(
    events: Events, feedback: Feedback, outcomes: Outcomes
) -> None:
    made = event(1)
    said(feedback, (made.prediction_id, "daisy"))
    said(feedback, (made.prediction_id, "rose"))

    events.report(batch([made]))

    assert counted(outcomes) == (1, 1, 1)


def test_a_label_that_the_model_does_not_know_is_kept_wrong_and_named(
    events: Events, feedback: Feedback, predictions: Predictions, outcomes: Outcomes
) -> None:
    made = event(1)
    events.report(batch([made]))

    taken = said(feedback, (made.prediction_id, "orchid"))

    assert taken == Taken(recorded_count=1, unknown_labels=("orchid",))
    assert predictions.get(f"predictions/{made.prediction_id}").label == "orchid"
    assert counted(outcomes) == (1, 1, 0)


def test_a_row_that_its_prediction_does_not_have_is_refused_and_nothing_is_taken(
    events: Events, feedback: Feedback, predictions: Predictions
) -> None:
    made = event(1)
    events.report(batch([made]))

    with pytest.raises(InvalidArgument) as refused:
        said(feedback, (made.prediction_id, "rose"), (f"{made.prediction_id}.1", "rose"))

    assert refused.value.violations[0].field == "feedback.prediction"
    assert f"predictions/{made.prediction_id}.1" in refused.value.message
    assert predictions.get(f"predictions/{made.prediction_id}").label == ""


def test_a_repeat_of_a_request_returns_the_first_answer(events: Events, feedback: Feedback) -> None:
    made = event(1)
    events.report(batch([made]))

    first = said(feedback, (made.prediction_id, "rose"), request_id="r-1")

    assert said(feedback, (made.prediction_id, "rose"), request_id="r-1") == first
    with pytest.raises(InvalidArgument) as refused:
        said(feedback, (made.prediction_id, "tulip"), request_id="r-1")
    assert refused.value.reason == "REQUEST_ID_REUSED"


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ([], "feedback"),
        ([("predictions/a", "rose", "")] * (MAX_FEEDBACK + 1), "feedback"),
        ([("a.0", "rose", "")], "feedback[0].prediction"),
        ([("predictions/a.x", "rose", "")], "feedback[0].prediction"),
        ([("predictions/a", " ", "")], "feedback[0].label"),
        ([("predictions/a", "x" * 501, "")], "feedback[0].label"),
        ([("predictions/a", "rose", "x" * 501)], "feedback[0].source"),
        ([("predictions/a", "rose", ""), ("predictions/a.0", "tulip", "")], "feedback[1].label"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_feedback_is_refused_by_field(feedback: Feedback, given: Any, named: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        feedback.record(given, Repeat("RecordFeedback", "", b""))

    assert [violation.field for violation in refused.value.violations] == [named]


def test_a_row_named_twice_with_one_label_is_a_repeat(feedback: Feedback) -> None:
    assert said(feedback, ("a", "rose"), ("a.0", "rose")) == Taken(
        recorded_count=1, repeated_count=1, waiting_count=1
    )


def test_events_and_labels_that_come_at_once_always_join(
    events: Events, feedback: Feedback, outcomes: Outcomes, as_front: Caller
) -> None:
    pairs = [(event(1), str(uuid.uuid4())) for _ in range(40)]
    start = threading.Barrier(2)

    def label() -> None:
        for made, _ in pairs:
            start.wait()
            said(feedback, (made.prediction_id, "rose"))

    thread = threading.Thread(target=label)
    thread.start()
    for made, spool in pairs:
        start.wait()
        events.report(batch([made], spool=spool))
    thread.join()

    assert counted(outcomes) == (40, 40, 40)


def test_a_label_waits_for_events_that_are_being_taken(database: Database, feedback: Feedback) -> None:
    """Without the lock, label and event would each miss the other: neither has committed yet."""
    done = threading.Event()

    def label() -> None:
        said(feedback, ("a", "rose"))
        done.set()

    with database.transaction() as connection:
        EventStore(connection).share_labels()
        thread = threading.Thread(target=label)
        thread.start()
        time.sleep(0.3)
        waited = not done.is_set()
    thread.join()

    assert waited
