"""Schedules, backfills and request ids on a real database."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from slipway_pipelines.domain.runs import RunState, Trigger
from slipway_runtime.errors import FailedPrecondition, InvalidArgument, NotFound

SOURCE = """
    @step
    def only(good: bool, context: Context) -> str:
        if not good:
            raise ValueError("no luck")
        return context.schedule_time.isoformat()

    @pipeline(schedule="MINUTE * * * *")
    def flow(good: bool = True):
        only(good)
"""


@pytest.fixture
def hourly() -> str:
    """Return a pipeline of every hour whose next time is half an hour away: none comes by itself."""
    return SOURCE.replace("MINUTE", str((datetime.now(UTC).minute + 30) % 60))


def make_due(house: Any, ago: timedelta) -> None:
    """Set the schedule's next time into the past."""
    statement = sa.text("UPDATE pipelines SET next_time = clock_timestamp() - :ago")
    with house.database.transaction() as connection:
        connection.execute(statement, {"ago": ago})


def runs(house: Any) -> list[Any]:
    return house.runs.page("pipelines/-", 1000, "", "", "")[0]


def test_a_time_that_has_come_starts_one_run_and_moves_the_next(house: Any, hourly: str) -> None:
    house.push(hourly)
    make_due(house, timedelta(seconds=1))

    house.sweep.run()
    house.sweep.run()

    [run] = runs(house)
    pipeline = house.library.get("pipelines/flow")
    assert (run.trigger, run.creator) == (Trigger.SCHEDULE, "services/pipelines")
    assert pipeline.last_time == run.schedule_time
    assert pipeline.next_time > datetime.now(UTC)
    assert house.work(run).state is RunState.SUCCEEDED


def test_times_that_passed_while_nobody_looked_start_nothing(house: Any, hourly: str) -> None:
    house.push(hourly)
    make_due(house, timedelta(hours=5))

    house.sweep.run()

    late = [run for run in runs(house) if datetime.now(UTC) - run.schedule_time > timedelta(minutes=1)]
    assert late == []
    assert house.library.get("pipelines/flow").next_time > datetime.now(UTC)


def test_a_schedule_that_is_paused_starts_nothing_until_it_is_resumed(house: Any, hourly: str) -> None:
    house.push(hourly)

    paused = house.library.pause("pipelines/flow", "p", b"1")
    house.push(hourly + "\n    # another version\n")
    house.sweep.run()
    resumed = house.library.resume("pipelines/flow", "r", b"2")

    assert (paused.paused, paused.next_time) == (True, None)
    assert runs(house) == []
    assert (resumed.paused, resumed.next_time is not None) == (False, True)


def test_a_pipeline_without_a_schedule_has_nothing_to_pause_or_to_fill(house: Any) -> None:
    house.push(SOURCE.replace('schedule="MINUTE * * * *"', ""))
    now = datetime.now(UTC)

    with pytest.raises(FailedPrecondition, match="declares no schedule"):
        house.library.pause("pipelines/flow", "", b"")
    with pytest.raises(FailedPrecondition, match="declares no schedule"):
        house.runs.backfill("pipelines/flow", now - timedelta(days=1), now, {}, "", b"")


def test_a_backfill_starts_only_what_failed_or_is_missing(house: Any, hourly: str) -> None:
    house.push(hourly)
    start = datetime(2026, 5, 1, 6, tzinfo=UTC)
    window = ("pipelines/flow", start, start + timedelta(hours=3))
    first = house.runs.backfill("pipelines/flow", start, start + timedelta(hours=1), {"good": False}, "", b"")
    house.work(house.runs.get(first.runs[0]))
    second = house.runs.backfill("pipelines/flow", start, start + timedelta(hours=2), {}, "", b"")
    for name in second.runs:
        house.work(house.runs.get(name))

    third = house.runs.backfill(*window, {}, "b", b"same")
    again = house.runs.backfill(*window, {}, "b", b"same")

    times = [house.runs.get(name).schedule_time.hour for name in (*first.runs, *second.runs, *third.runs)]
    assert times == [6, 6, 7, 8]
    assert (third.time_count, third.skipped_count) == (3, 2)
    assert again == third
    assert len(runs(house)) == 4


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        (timedelta(hours=1), timedelta(hours=2), "not after"),
        (timedelta(hours=2), timedelta(hours=-2), "in the future"),
        (timedelta(days=60), timedelta(0), "more than 1000 times"),
    ],
)
def test_a_window_that_makes_no_sense_is_refused(
    house: Any, hourly: str, start: timedelta, end: timedelta, said: str
) -> None:
    house.push(hourly)
    now = datetime.now(UTC)

    with pytest.raises(InvalidArgument, match=said):
        house.runs.backfill("pipelines/flow", now - start, now - end, {}, "", b"")


def test_an_alert_starts_one_run_with_what_the_pipeline_declares(house: Any, hourly: str) -> None:
    house.push(hourly)
    alert = {"trigger": Trigger.ALERT, "trigger_source": "alerts/a1", "request_id": "a1", "content": b"1"}

    run = house.start({"good": False, "endpoint": "flowers"}, **alert)
    again = house.start({"good": False, "endpoint": "flowers"}, **alert)

    assert again == run
    assert run.parameters == {"good": False}
    assert house.lineage.children("alerts/a1", 0, "")[0] == [run.name]
    version = f"pipelines/flow/versions/{run.version}"
    assert house.lineage.parents(run.name, 0, "")[0] == ["alerts/a1", version]
    assert house.lineage.children(version, 0, "")[0] == [run.name]
    assert house.lineage.parents(version, 0, "")[0] == ["pipelines/flow"]


def test_a_person_may_not_send_what_is_not_declared_or_play_the_schedule(house: Any, hourly: str) -> None:
    house.push(hourly)

    with pytest.raises(InvalidArgument, match="no such parameter; near: good"):
        house.start({"god": True})
    with pytest.raises(InvalidArgument, match="the platform gives it itself"):
        house.start(trigger=Trigger.SCHEDULE)
    with pytest.raises(NotFound, match="did you mean 'pipelines/flow'"):
        house.start(pipeline="flwo")


def test_lineage_is_paged_and_covers_all_once(house: Any, hourly: str) -> None:
    house.push(hourly)
    made = [house.start().name for _ in range(5)]

    seen: list[str] = []
    token = ""
    while True:
        names, token = house.lineage.children("pipelines/flow", 2, token)
        seen += names
        if not token:
            break

    assert seen == made


def test_the_same_folder_is_the_same_version_and_an_older_one_that_comes_again_is_the_newest(
    house: Any,
    hourly: str,
) -> None:
    first = house.push(hourly)
    second = house.push(hourly + "\n    # changed\n")

    third = house.push(hourly)

    assert third == first
    assert second.name != first.name
    assert house.library.get("pipelines/flow").newest == first.digest
    assert [one.name for one in house.library.versions("pipelines/flow", 0, "")[0]] == [
        second.name,
        first.name,
    ]


def test_a_time_that_comes_twice_starts_one_run(house: Any, hourly: str) -> None:
    house.push(hourly)
    make_due(house, timedelta(seconds=1))
    house.sweep.run()
    [run] = runs(house)

    with house.database.transaction() as connection:
        connection.execute(sa.text("UPDATE pipelines SET next_time = :time"), {"time": run.schedule_time})
    house.sweep.run()

    again = [one for one in runs(house) if one.schedule_time == run.schedule_time]
    assert again == [house.runs.get(run.name)]
