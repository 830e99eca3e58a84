"""Events: each counted once, whatever comes twice, late, with gaps, or never."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from event_maker import ENDPOINT, OTHER_VERSION, VERSION, FakeRegistry, batch, event, image, row
from slipway_monitoring.domain.events import MAX_ROWS, Role, Row, Tensor, check_batch
from slipway_monitoring.domain.predictions import Wanted
from slipway_monitoring.store.predictions import PredictionStore
from slipway_monitoring.usecases.events import LOST, Events
from slipway_monitoring.usecases.predictions import Predictions
from slipway_runtime.db import Database
from slipway_runtime.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unavailable,
)
from slipway_runtime.identity import Caller, acting_as
from sqlalchemy import text


def lost() -> float:
    return float(LOST._value.get())


def listed(predictions: Predictions, **filters: Any) -> list[str]:
    found, _ = predictions.list(Wanted(ENDPOINT, **filters), 1000, "")
    return [one.name for one in found]


def test_an_event_is_kept_row_by_row_as_it_came(events: Events, predictions: Predictions) -> None:
    made = event(1, row("rose"), row("daisy", 0.5, captured=image()), request_id="r-1", latency_ms=4.0)

    acknowledged = events.report(batch([made]))

    found = predictions.get(f"predictions/{made.prediction_id}.1")
    assert acknowledged == 1
    assert (found.endpoint, found.model_version, found.role) == (ENDPOINT, VERSION, Role.LIVE)
    assert (found.predicted_label, found.confidence, found.captured) == ("daisy", 0.5, True)
    assert found.probabilities == pytest.approx([0.25, 0.25, 0.5])
    assert (found.trace_id, found.request_id, found.latency_ms) == (made.trace_id, "r-1", 4.0)
    assert found.time.timestamp() == pytest.approx(made.time_us / 1e6, abs=1e-6)
    assert predictions.get(f"predictions/{made.prediction_id}").predicted_label == "rose"


def test_a_batch_that_comes_again_changes_nothing(events: Events, predictions: Predictions) -> None:
    sent = batch([event(1), event(2)])
    events.report(sent)

    assert events.report(sent) == 2

    _, totals = predictions.coverage("monitors/flowers")
    assert len(listed(predictions)) == 2
    assert totals == (2, 0, 0)


def test_a_batch_that_overlaps_adds_what_is_new(events: Events, predictions: Predictions) -> None:
    made = [event(number) for number in (1, 2, 3)]
    first = batch(made[:2])
    events.report(first)

    assert events.report(batch(made, spool=first.spool)) == 3

    assert len(listed(predictions)) == 3


def test_a_gap_inside_a_batch_is_lost(events: Events, predictions: Predictions) -> None:
    before = lost()

    assert events.report(batch([event(2), event(5)], first_sequence=1, produced_sequence=6)) == 5

    _, totals = predictions.coverage("monitors/flowers")
    assert totals == (2, 3, 1)
    assert lost() - before == 3


def test_a_batch_after_a_gap_is_refused_with_where_to_go_on(events: Events) -> None:
    first = batch([event(1)])
    events.report(first)

    with pytest.raises(FailedPrecondition) as refused:
        events.report(batch([event(4)], spool=first.spool))

    assert refused.value.reason == "SEQUENCE_GAP"
    assert refused.value.metadata["expected_sequence"] == "2"
    assert events.report(batch([event(4)], spool=first.spool, first_sequence=2)) == 4


def test_closing_a_spool_loses_what_never_came(events: Events, predictions: Predictions) -> None:
    first = batch([event(1)], produced_sequence=4)
    events.report(first)
    closing = batch([], spool=first.spool, first_sequence=2, produced_sequence=4, closed=True)

    assert events.report(closing) == 4
    assert events.report(closing) == 4

    (spool,), totals = predictions.coverage("monitors/flowers")
    assert totals == (1, 3, 0)
    assert spool.closed


def test_a_spool_goes_on_after_it_was_closed(events: Events, predictions: Predictions) -> None:
    first = batch([event(1)], closed=True)
    events.report(first)

    assert events.report(batch([event(2)], spool=first.spool)) == 2

    (spool,), totals = predictions.coverage("monitors/flowers")
    assert totals == (2, 0, 0)
    assert not spool.closed


def test_a_silent_spool_is_given_up_and_what_it_owes_is_lost(
    events: Events, predictions: Predictions
) -> None:
    before = lost()
    events.report(batch([event(1)], produced_sequence=3))

    events.give_up(600)
    waiting = predictions.coverage("monitors/flowers")[1]
    events.give_up(0)
    events.give_up(0)

    assert waiting == (1, 0, 2)
    assert predictions.coverage("monitors/flowers")[1] == (1, 2, 0)
    assert lost() - before == 2


def test_what_a_given_up_spool_delivers_late_is_taken_all_the_same(
    events: Events, predictions: Predictions
) -> None:
    first = batch([event(1)], produced_sequence=3)
    events.report(first)
    events.give_up(0)

    events.report(batch([event(2), event(3)], spool=first.spool))

    (spool,), totals = predictions.coverage("monitors/flowers")
    assert totals == (3, 0, 0)
    assert not spool.closed


def test_an_event_that_another_spool_brought_is_kept_once(events: Events, predictions: Predictions) -> None:
    made = event(1)
    events.report(batch([made]))

    assert events.report(batch([made, event(2)])) == 2

    assert len(listed(predictions)) == 2


def test_a_batch_may_be_of_several_endpoints_and_versions(events: Events, predictions: Predictions) -> None:
    sent = [event(1), event(2, endpoint="endpoints/garden"), event(3, model_version=OTHER_VERSION)]

    assert events.report(batch(sent)) == 3

    assert len(listed(predictions)) == 2
    assert listed(predictions, model_version=OTHER_VERSION) == [f"predictions/{sent[2].prediction_id}.0"]


def test_only_fronts_report(events: Events) -> None:
    front = Caller("services/inference", frozenset({"service"}))
    for subject in ("users/ann", "services/rollout", "services/inference2", "services/pipelines.inference"):
        with acting_as(Caller(subject, frozenset({"admin", "service"}))), pytest.raises(PermissionDenied):
            events.report(batch([event(1)]))

    with acting_as(Caller("users/ann", front.roles, actor=front.subject)):
        assert events.report(batch([event(1)])) == 1


def test_events_wait_in_their_spool_while_the_registry_is_away(
    events: Events, registry: FakeRegistry
) -> None:
    registry.error = Unavailable("REGISTRY_UNAVAILABLE", "away")
    with pytest.raises(Unavailable):
        events.report(batch([event(1)]))
    registry.error = None

    assert events.report(batch([event(1)])) == 1
    registry.error = Unavailable("REGISTRY_UNAVAILABLE", "away again, but not asked")
    assert events.report(batch([event(1)])) == 1


def test_classes_of_a_version_that_the_registry_has_not_are_called_by_their_index(
    events: Events, predictions: Predictions
) -> None:
    made = event(1, row("daisy"), model_version="models/own/versions/1")

    events.report(batch([made]))

    assert predictions.get(f"predictions/{made.prediction_id}").predicted_label == "2"


def test_scores_that_are_not_finite_and_outputs_without_scores_have_no_class(
    events: Events, predictions: Predictions
) -> None:
    broken = Tensor("FP32", (3,), np.array([np.nan, 1, 0], "<f4").tobytes())
    made = event(1, Row({"probabilities": broken}, {}), Row({"height": Tensor("FP32", (1,), b"\0" * 4)}, {}))

    events.report(batch([made]))

    for number in (0, 1):
        found = predictions.get(f"predictions/{made.prediction_id}.{number}")
        assert (found.predicted_label, found.confidence) == ("", 0.0)


def test_scores_of_half_and_double_precision_are_read(events: Events, predictions: Predictions) -> None:
    rows = [
        Row({"probabilities": Tensor(kind, (3,), np.array([0.25, 0.75, 0], dtype).tobytes())}, {})
        for kind, dtype in (("FP16", "<f2"), ("FP64", "<f8"))
    ]
    made = event(1, *rows)

    events.report(batch([made]))

    for number in (0, 1):
        found = predictions.get(f"predictions/{made.prediction_id}.{number}")
        assert (found.predicted_label, found.confidence) == ("tulip", 0.75)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"role": 0}, "events[0].event.role"),
        ({"time_us": 0}, "events[0].event.time"),
        ({"rows": ()}, "events[0].event.rows"),
        ({"prediction_id": "a.1"}, "events[0].event.prediction_id"),
        ({"endpoint": "flowers"}, "events[0].event.endpoint"),
        ({"model_version": "flowers/1"}, "events[0].event.model_version"),
        ({"trace_id": "XYZ"}, "events[0].event.trace_id"),
        ({"latency_ms": float("nan")}, "events[0].event.latency_ms"),
        ({"request_id": "x" * 201}, "events[0].event.request_id"),
        ({"sequence": 0}, "events[0].sequence"),
        ({"rows": (row(),) * (MAX_ROWS + 1)}, "events"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_event_is_refused_by_field(fields: dict[str, Any], named: str) -> None:
    sent = replace(batch([replace(event(1), **fields)]), first_sequence=1)

    with pytest.raises(InvalidArgument) as refused:
        check_batch(sent)

    assert [violation.field for violation in refused.value.violations] == [named]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"spool": "x"}, "spool"),
        ({"endpoint": "flowers"}, "endpoint"),
        ({"model_version": "1"}, "model_version"),
        ({"first_sequence": 0}, "first_sequence"),
        ({"produced_sequence": 1}, "produced_sequence"),
        ({"first_sequence": 3}, "events[0].sequence"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_batch_is_refused_by_field(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_batch(replace(batch([event(1), event(2)]), **fields))

    assert [violation.field for violation in refused.value.violations] == [named]


def test_a_prediction_is_one_event_of_a_batch() -> None:
    made = event(1)

    with pytest.raises(InvalidArgument) as refused:
        check_batch(batch([made, replace(made, sequence=2)]))

    assert refused.value.violations[0].field == "events[1].event.prediction_id"


def test_a_prediction_that_never_came_is_not_found(predictions: Predictions) -> None:
    with pytest.raises(NotFound) as refused:
        predictions.get("predictions/none.0")

    assert refused.value.reason == "PREDICTION_NOT_FOUND"


def test_an_endpoint_without_events_is_not_found_with_near_names(
    events: Events, predictions: Predictions
) -> None:
    events.report(batch([event(1)]))

    with pytest.raises(NotFound) as refused:
        predictions.coverage("monitors/flower")

    assert (refused.value.reason, refused.value.metadata["near"]) == ("MONITOR_NOT_FOUND", "flowers")


def test_pages_and_filters_of_a_listing_agree(events: Events, predictions: Predictions) -> None:
    sent = [
        event(number, row("rose", 0.5 + number / 20, captured=image() if number % 2 else None))
        for number in range(1, 8)
    ]
    events.report(batch(sent))

    names: list[str] = []
    token = ""
    while True:
        page, token = predictions.list(Wanted(ENDPOINT), 3, token)
        names += [one.name for one in page]
        if not token:
            break

    assert names == [f"predictions/{made.prediction_id}.0" for made in reversed(sent)]
    assert listed(predictions, captured_only=True) == names[::2]
    assert listed(predictions, max_confidence=0.61) == names[-2:]
    assert listed(predictions, labelled_only=True) == []


def test_a_listing_keeps_to_its_time(events: Events, predictions: Predictions) -> None:
    from datetime import UTC, datetime

    times = [1_700_000_000_000_000 + number * 10_000_000 for number in range(4)]
    sent = [event(number, time_us=time_us) for number, time_us in enumerate(times, 1)]
    events.report(batch(sent[:2]))
    events.report(batch(sent[2:], first_sequence=1))

    found = listed(
        predictions,
        start_time=datetime.fromtimestamp(times[1] / 1e6, UTC),
        end_time=datetime.fromtimestamp(times[3] / 1e6, UTC),
    )

    assert found == [f"predictions/{made.prediction_id}.0" for made in (sent[2], sent[1])]


def test_a_window_is_read_in_the_order_of_arrival_with_its_inputs(events: Events, database: Database) -> None:
    sent = [event(1, row("tulip", captured=image(9)), row("rose")), event(2, model_version=OTHER_VERSION)]
    events.report(batch([*sent, event(3), event(4, role=Role.SHADOW)]))

    with database.transaction() as connection:
        store = PredictionStore(connection)
        first = store.window(ENDPOINT, VERSION, after=0, limit=2)
        rest = store.window(ENDPOINT, VERSION, after=first.last_arrival, limit=10)
        none = store.window(ENDPOINT, VERSION, after=rest.last_arrival, limit=10)

    assert first.prediction_ids == [sent[0].prediction_id] * 2
    assert first.classes.tolist() == [1, 0]
    assert first.probabilities is not None
    assert first.probabilities.shape == (2, 3)
    assert first.embeddings is not None
    assert first.embeddings.tolist() == [[1.5, -2.5]] * 2
    assert first.inputs == [{"image": image(9)}, {}]
    assert (len(rest), len(none), none.last_arrival) == (1, 0, 0)


def test_a_batch_whose_transaction_fails_leaves_nothing(events: Events, database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(text("ALTER TABLE outcomes ADD CONSTRAINT broken CHECK (row_count < 2)"))
    sent = batch([event(1), event(2)])
    with pytest.raises(Exception, match="broken"):
        events.report(sent)
    with database.transaction() as connection:
        connection.execute(text("ALTER TABLE outcomes DROP CONSTRAINT broken"))
        kept = connection.execute(text("SELECT count(*) FROM predictions")).scalar_one()

    assert kept == 0
    assert events.report(sent) == 2
