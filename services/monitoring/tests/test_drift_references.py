"""Accepted references: written and read they judge alike, and windows after them are compared with them."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from event_maker import CLASSES, VERSION
from slipway_monitoring.domain.alerts import AlertState
from slipway_monitoring.domain.drift import DriftReference, DriftReport, DriftSettings, Kind, Verdict
from slipway_monitoring.engine.histogram import Classes, Histogram
from slipway_monitoring.engine.reference import Reference
from slipway_monitoring.engine.sample import VectorSample
from slipway_monitoring.engine.window import Window, compare
from slipway_monitoring.store.alerts import AlertStore
from slipway_monitoring.store.retention import RetentionStore
from slipway_monitoring.usecases.alerts import Alerts
from slipway_monitoring.usecases.drift import Drift, DriftWatch
from slipway_monitoring.usecases.events import Events
from slipway_monitoring.usecases.monitors import Monitors
from slipway_monitoring.usecases.references import Acceptance
from slipway_runtime.db import Database, Repeat
from slipway_runtime.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from slipway_runtime.identity import Caller, acting_as
from sqlalchemy import text
from traffic_maker import Traffic

MONITOR = "monitors/flowers"
ENGINEER = Caller("users/ann", frozenset({"engineer"}))
Send = Callable[..., None]


def columns(seed: int, count: int, shift: float = 0.0) -> tuple[dict[str, Any], Any, list[str]]:
    """Return columns (N,) of numbers and of classes, embeddings (N, 8) and keys of N rows."""
    random = np.random.default_rng(seed)
    answers = random.choice(["rose", "tulip", "iris"], count, p=[0.5, 0.3, 0.2])
    made = {
        "predictions": answers,
        "confidence": np.round(np.minimum(random.exponential(0.5, count), 1.0), 4),  # many are 1, as in life
        "inputs/a/b/brightness": random.integers(0, 200, count) / 8 + shift,
        "inputs/a/b/contrast": random.normal(40, 5, count) + shift,
        "inputs/a/b/sharpness": np.full(count, 7.0),
    }
    vectors = random.normal(shift / 20, 1, (count, 8)).astype(np.float32)
    return made, vectors, [f"{seed}.{row}" for row in range(count)]


@pytest.mark.parametrize("count", [120, 12_000])
def test_a_reference_that_was_written_and_read_gives_the_same_verdicts(count: int) -> None:
    made, vectors, keys = columns(1, count)
    histograms = {n: Histogram.by_quantiles(v) for n, v in made.items() if n != "predictions"}
    classes = {"predictions": Classes.of(made["predictions"])}
    reference = Reference(histograms, classes, VectorSample.of(vectors, keys))

    read = Reference.from_profile(json.loads(json.dumps(reference.to_profile())))

    assert read.histograms.keys() == reference.histograms.keys()
    for shift, kind in ((0.0, Kind.NONE), (10.0, Kind.INPUT)):
        rows, embeddings, names = columns(2, 500, shift)
        ours, theirs = (
            compare(Window.of(side, rows, embeddings, names), side, DriftSettings())
            for side in (reference, read)
        )
        assert (theirs.verdict, theirs.kind) == (ours.verdict, ours.kind)
        assert theirs.kind is kind
        for one, other in zip(ours.tests, theirs.tests, strict=True):
            assert (one.subject, one.drifted) == (other.subject, other.drifted)
            assert one.statistic == pytest.approx(other.statistic, rel=1e-4, abs=1e-6)
            if one.method != "mmd":  # whose permutations are of the rows in another order
                assert (one.p_value, one.effect, one.expected) == (
                    other.p_value,
                    other.effect,
                    other.expected,
                )


def test_a_reference_without_inputs_embedding_or_finite_values_is_written_too() -> None:
    empty = Histogram.by_quantiles(np.full(5, np.nan))
    reference = Reference({"confidence": empty}, {"predictions": Classes({"rose": 5})})

    read = Reference.from_profile(json.loads(json.dumps(reference.to_profile())))

    assert (read.histograms["confidence"].counts, len(read.histograms["confidence"].cuts)) == ([5], 0)
    assert (read.classes, read.embedding) == (reference.classes, None)


def test_a_histogram_on_a_grid_is_not_written() -> None:
    values = np.random.default_rng(0).normal(size=20_000)

    with pytest.raises(ValueError, match="by quantiles"):
        Reference({"confidence": Histogram.of(values)}, {"predictions": Classes({})}).to_profile()


@pytest.fixture
def traffic() -> Traffic:
    return Traffic()


@pytest.fixture
def watch(database: Database, traffic: Traffic) -> DriftWatch:
    known = traffic.profile()
    return DriftWatch(database=database, profile=lambda version: known)


@pytest.fixture
def accept(database: Database, traffic: Traffic) -> Callable[..., DriftReference]:
    known = traffic.profile()
    acceptance = Acceptance(database=database, profile=lambda version: known)

    def accept(number: int, reason: str = "the lamp stays", caller: Caller = ENGINEER) -> DriftReference:
        with acting_as(caller):
            return acceptance.accept(
                f"{MONITOR}/driftReports/{number}", reason, Repeat("AcceptDrift", "", b"")
            )

    return accept


@pytest.fixture
def send(events: Events, traffic: Traffic) -> Send:
    def send(count: int, **how: Any) -> None:
        events.report(traffic.batch(count, **how))

    return send


def reports(database: Database) -> list[DriftReport]:
    return Drift(database=database).list(MONITOR, "", 0, "")[0]


def states(database: Database) -> list[AlertState]:
    return [alert.state for alert in Alerts(database=database).list(MONITOR, "", 0, "")[0]]


def test_windows_after_an_acceptance_are_compared_with_the_accepted_one(
    database: Database, send: Send, watch: DriftWatch, accept: Callable[..., DriftReference]
) -> None:
    send(1000, fade=0.5)
    watch.sweep()
    assert states(database) == [AlertState.FIRING]

    made = accept(2)
    assert states(database) == [AlertState.RESOLVED]
    send(1000, fade=0.5)
    watch.sweep()
    send(500, fade=0.1)
    watch.sweep()

    found = [(r.comparison.verdict, r.reference) for r in reports(database)]
    ours = f"{MONITOR}/driftReports/2"
    assert found[:3] == [(Verdict.DRIFTED, ours), (Verdict.STABLE, ours), (Verdict.STABLE, ours)]
    assert found[3:] == [(Verdict.DRIFTED, ""), (Verdict.DRIFTED, "")]
    assert states(database) == [AlertState.RESOLVED]
    assert (made.report, made.model_version, made.row_count) == (ours, VERSION, 500)
    assert (made.reason, made.creator) == ("the lamp stays", "users/ann")
    assert Monitors(database=database).get(MONITOR).references == [made]


def test_the_newest_acceptance_is_in_force_and_outlives_its_rows(
    database: Database, send: Send, watch: DriftWatch, accept: Callable[..., DriftReference]
) -> None:
    send(500, fade=0.5)
    send(500)
    watch.sweep()
    accept(1)
    newest = accept(2)
    with database.transaction() as connection:
        (endpoint,) = connection.execute(text("SELECT id FROM endpoints")).scalars()
        RetentionStore(connection).forget_rows(endpoint, 0, 1000)

    send(500)
    watch.sweep()

    assert (reports(database)[0].comparison.verdict, reports(database)[0].accepted) == (Verdict.STABLE, 2)
    assert Monitors(database=database).get(MONITOR).references == [newest]
    with pytest.raises(FailedPrecondition, match="rows of the window") as refused:
        accept(1)
    assert refused.value.reason == "WINDOW_FORGOTTEN"


def test_a_window_whose_captured_inputs_are_forgotten_is_no_reference(
    database: Database, send: Send, watch: DriftWatch, accept: Callable[..., DriftReference]
) -> None:
    send(500, fade=0.5)
    watch.sweep()
    with database.transaction() as connection:
        (endpoint,) = connection.execute(text("SELECT id FROM endpoints")).scalars()
        RetentionStore(connection).forget_captures(endpoint, 0, 1)

    with pytest.raises(FailedPrecondition, match="captured inputs of the window") as refused:
        accept(1)

    assert refused.value.reason == "WINDOW_FORGOTTEN"


def test_an_acceptance_that_dies_leaves_nothing(
    database: Database,
    send: Send,
    watch: DriftWatch,
    accept: Callable[..., DriftReference],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def dies(*_: object) -> None:
        raise RuntimeError("killed")

    send(1000, fade=0.5)
    watch.sweep()
    with monkeypatch.context() as patched:
        patched.setattr(AlertStore, "settle", dies)
        with pytest.raises(RuntimeError, match="killed"):
            accept(2)

    send(500, fade=0.5)
    watch.sweep()

    assert reports(database)[0].accepted == 0
    assert states(database) == [AlertState.FIRING]


def test_an_accepted_window_is_the_reference_of_a_version_that_had_none(
    database: Database, send: Send, accept: Callable[..., DriftReference], traffic: Traffic
) -> None:
    profile = type(traffic.profile())(VERSION, {"classes": list(CLASSES)}, {})
    watch = DriftWatch(database=database, profile=lambda version: profile)
    send(500)
    watch.sweep()

    accept(1)
    send(500)
    watch.sweep()

    verdicts = [report.comparison.verdict for report in reports(database)]
    assert verdicts == [Verdict.STABLE, Verdict.NO_REFERENCE]


def test_a_number_is_not_given_again_while_a_reference_is_called_by_it(
    database: Database, send: Send, watch: DriftWatch, accept: Callable[..., DriftReference]
) -> None:
    send(500)
    watch.sweep()
    accept(1)
    with database.transaction() as connection:
        connection.execute(text("DELETE FROM drift_reports"))  # as after 90 days

    send(500)
    watch.sweep()

    assert [report.number for report in reports(database)] == [2]


def test_what_cannot_be_a_reference_is_refused(
    database: Database, send: Send, watch: DriftWatch, accept: Callable[..., DriftReference]
) -> None:
    send(60)
    watch.sweep()
    with database.transaction() as connection:
        connection.execute(text("UPDATE drift_windows SET open_time = open_time - interval '2 hours'"))
    watch.sweep()

    with pytest.raises(FailedPrecondition, match="has 60 rows; a reference needs 100") as small:
        accept(1)
    assert small.value.reason == "WINDOW_TOO_SMALL"
    with pytest.raises(NotFound, match="no drift report"):
        accept(9)
    with pytest.raises(InvalidArgument, match="reason"):
        accept(1, " ")
    with pytest.raises(PermissionDenied, match="admin, engineer, service"):
        accept(1, caller=Caller("users/eve", frozenset({"annotator"})))
