"""Runs on a real database: points once, attempts in order, an end that stays."""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from slipway_registry.api.messages import check_evaluation, run_message
from slipway_registry.domain import NewRun, Point, RunState
from slipway_registry.usecases.runs import Repeat, RunFilter, Runs
from slipway_runtime.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound

ONCE = Repeat("", b"")
COMMIT = "datasets/flowers/commits/" + "ab" * 32
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def opened(runs: Runs, id: str = "r", params: dict[str, Any] | None = None) -> str:
    """Return the name of a new run in experiment `e`."""
    if not any(found.id == "e" for found in runs.list_experiments(0, "")[0]):
        runs.create_experiment("e", "", ONCE)
    run = NewRun(id, "", "", COMMIT, "", params or {"lr": 0.1}, {"torch": "2"}, 7, "a")
    return runs.create_run("experiments/e", run, ONCE).name


def log(runs: Runs, name: str, steps: range, attempt: int = 0, value: float = 1.0, key: str = "loss") -> int:
    return runs.log_metrics(name, attempt, [Point(key, step, value, NOON) for step in steps])


def series(runs: Runs, name: str, key: str = "") -> list[tuple[str, int, float]]:
    found: list[Point] = []
    token = ""
    while True:
        page, token = runs.list_points(name, key, 7, token)
        found += page
        if not token:
            return [(point.key, point.step, point.value) for point in found]


def test_a_run_is_read_back_as_it_was_opened(runs: Runs) -> None:
    name = opened(runs, params={"lr": 0.1, "layers": [1, {"a": None}]})

    found = runs.get_run(name)

    assert (found.state, found.attempt, found.seed, found.end_time) == (RunState.RUNNING, 0, 7, None)
    assert found.params == {"lr": 0.1, "layers": [1, {"a": None}]}
    assert found.last_metrics == {}


def test_an_id_is_made_when_none_is_given_and_a_taken_one_is_refused(runs: Runs) -> None:
    made = {opened(runs, id=""), opened(runs, id="")}
    opened(runs, id="mine")

    assert len(made) == 2
    with pytest.raises(AlreadyExists):
        opened(runs, id="mine")


def test_a_point_is_stored_once_per_step_and_the_first_value_stays(runs: Runs) -> None:
    name = opened(runs)

    first = log(runs, name, range(10), value=1.0)
    again = log(runs, name, range(5, 15), value=2.0)

    assert (first, again) == (10, 5)
    assert series(runs, name) == [("loss", step, 1.0 if step < 10 else 2.0) for step in range(15)]


def test_a_step_that_comes_twice_in_one_batch_is_one_point(runs: Runs) -> None:
    name = opened(runs)

    stored = runs.log_metrics(name, 0, [Point("loss", 1, value, None) for value in (1.0, 2.0)])

    assert stored == 1
    assert len(series(runs, name)) == 1


def test_the_same_batch_from_many_at_once_is_stored_once(runs: Runs) -> None:
    name = opened(runs)

    with ThreadPoolExecutor(4) as pool:
        stored = list(pool.map(lambda _: log(runs, name, range(50)), range(8)))

    assert sorted(stored) == [0] * 7 + [50]


def test_points_come_by_series_and_step_and_only_of_their_run(runs: Runs) -> None:
    name, other = opened(runs), opened(runs, id="other")
    log(runs, other, range(3), key="a", value=9.0)
    for key in ("b/loss", "a", "Z"):
        log(runs, name, range(9, -1, -1), key=key)

    everything = series(runs, name)

    assert sorted((key, step) for key, step, _ in everything) == sorted(
        (key, step) for key in ("Z", "a", "b/loss") for step in range(10)
    )
    assert [step for _, step, _ in everything] == list(range(10)) * 3
    assert series(runs, name, "a") == [("a", step, 1.0) for step in range(10)]


def test_values_that_are_no_numbers_are_kept_as_such(runs: Runs) -> None:
    name = opened(runs)

    runs.log_metrics(name, 0, [Point("loss", 0, math.nan, None), Point("loss", 1, math.inf, None)])

    values = [value for _, _, value in series(runs, name)]
    assert math.isnan(values[0])
    assert values[1] == math.inf


def test_a_run_shows_the_value_at_the_last_step_not_the_one_that_came_last(runs: Runs) -> None:
    name = opened(runs)

    log(runs, name, range(5, 6), value=5.0)
    log(runs, name, range(3, 4), value=3.0)
    log(runs, name, range(1), value=0.5, key="accuracy")

    assert runs.get_run(name).last_metrics == {"loss": 5.0, "accuracy": 0.5}


def test_an_attempt_forgets_the_points_after_the_step_that_it_goes_on_from(runs: Runs) -> None:
    name = opened(runs)
    runs.begin_attempt(name, 1, 0, "", {})
    log(runs, name, range(10), attempt=1, value=1.0)

    runs.begin_attempt(name, 2, 5, "b", {"torch": "3"})
    log(runs, name, range(4, 10), attempt=2, value=2.0)

    assert series(runs, name) == [("loss", step, 1.0 if step <= 5 else 2.0) for step in range(10)]
    found = runs.get_run(name)
    assert (found.attempt, found.host, found.environment) == (2, "b", {"torch": "3"})


def test_an_attempt_that_begins_twice_loses_nothing(runs: Runs) -> None:
    name = opened(runs)
    runs.begin_attempt(name, 1, 0, "", {})
    log(runs, name, range(10), attempt=1)

    runs.begin_attempt(name, 1, 0, "", {})

    assert len(series(runs, name)) == 10


def test_a_fenced_attempt_writes_begins_and_ends_nothing(runs: Runs) -> None:
    name = opened(runs)
    runs.begin_attempt(name, 2, 0, "", {})
    stale: list[Callable[[], object]] = [
        lambda: log(runs, name, range(3), attempt=1),
        lambda: runs.begin_attempt(name, 1, 0, "", {}),
        lambda: runs.finish_run(name, RunState.FAILED, "late", 1),
    ]

    for call in stale:
        with pytest.raises(FailedPrecondition) as caught:
            call()
        assert caught.value.reason == "STALE_ATTEMPT"

    assert series(runs, name) == []
    assert runs.get_run(name).state is RunState.RUNNING


def test_attempts_begin_at_one(runs: Runs) -> None:
    with pytest.raises(InvalidArgument, match="attempts begin at 1"):
        runs.begin_attempt(opened(runs), 0, 0, "", {})


def test_an_end_stays_as_it_is_and_takes_no_more_points(runs: Runs) -> None:
    name = opened(runs)
    ended = runs.finish_run(name, RunState.FAILED, "out of memory", 0)

    assert runs.finish_run(name, RunState.FAILED, "out of memory", 0) == ended
    late: list[Callable[[], object]] = [
        lambda: runs.finish_run(name, RunState.SUCCEEDED, "", 0),
        lambda: log(runs, name, range(1)),
        lambda: runs.begin_attempt(name, 1, 0, "", {}),
    ]
    for call in late:
        with pytest.raises(FailedPrecondition) as caught:
            call()
        assert caught.value.reason == "RUN_FINISHED"
    assert runs.get_run(name).end_time == ended.end_time


@pytest.mark.parametrize("text", ["x" * 5000, "a\0b"], ids=["long", "nul"])
def test_an_error_of_any_text_ends_a_run_and_does_so_twice(text: str, runs: Runs) -> None:
    name = opened(runs)

    ended = runs.finish_run(name, RunState.FAILED, text, 0)

    assert runs.finish_run(name, RunState.FAILED, text, 0) == ended
    assert ended.error == text.replace("\0", "")[:4000]


def test_running_is_no_end(runs: Runs) -> None:
    with pytest.raises(InvalidArgument, match="is not an end"):
        runs.finish_run(opened(runs), RunState.RUNNING, "", 0)


def test_a_page_goes_on_where_the_last_one_ended_though_runs_come_meanwhile(runs: Runs) -> None:
    names = [opened(runs, id=f"r{number}") for number in range(5)]
    which = RunFilter("experiments/e")

    first, token = runs.list_runs(which, 2, "")
    opened(runs, id="new")
    second, token = runs.list_runs(which, 2, token)
    third, end = runs.list_runs(which, 2, token)

    assert [run.name for run in (*first, *second, *third)] == names[::-1]
    assert end == ""
    with pytest.raises(InvalidArgument):
        runs.list_runs(RunFilter("experiments/e", state="FAILED"), 2, token)


def test_a_run_that_is_not_there_is_told_with_what_is_near(runs: Runs) -> None:
    opened(runs, id="first")

    with pytest.raises(NotFound, match="did you mean 'first'"):
        runs.get_run("experiments/e/runs/frist")
    with pytest.raises(NotFound) as caught:
        runs.get_run("experiments/none/runs/first")
    assert caught.value.reason == "EXPERIMENT_NOT_FOUND"


def test_a_repeat_is_the_first_answer_and_a_reused_id_is_refused(runs: Runs) -> None:
    runs.create_experiment("e", "", ONCE)
    new = NewRun("", "", "", "", "", {}, {}, 0, "")

    first = runs.create_run("experiments/e", new, Repeat("id-1", b"content"))

    assert runs.create_run("experiments/e", new, Repeat("id-1", b"content")) == first
    with pytest.raises(InvalidArgument) as caught:
        runs.create_run("experiments/e", new, Repeat("id-1", b"other"))
    assert caught.value.reason == "REQUEST_ID_REUSED"
    assert len(runs.list_runs(RunFilter("experiments/e"), 0, "")[0]) == 1


def test_an_attempt_that_was_never_begun_writes_nothing(runs: Runs) -> None:
    name = opened(runs)
    runs.begin_attempt(name, 1, 0, "", {})

    for call in (
        lambda: log(runs, name, range(3), attempt=2),
        lambda: runs.finish_run(name, RunState.SUCCEEDED, "", 2),
    ):
        with pytest.raises(InvalidArgument, match="not begun"):
            call()

    assert runs.get_run(name).state is RunState.RUNNING


def test_an_attempt_that_died_before_it_began_ends_the_run_as_failed(runs: Runs) -> None:
    name = opened(runs)

    ended = runs.finish_run(name, RunState.FAILED, "no images", 3)

    assert (ended.state, ended.error) == (RunState.FAILED, "no images")
    with pytest.raises(FailedPrecondition, match="ended as FAILED"):
        runs.begin_attempt(name, 4, 0, "", {})


def test_a_listing_has_each_runs_own_figures(runs: Runs) -> None:
    first, second, third = opened(runs, "a"), opened(runs, "b"), opened(runs, "c")
    log(runs, first, range(3), value=1.0)
    log(runs, second, range(5), value=2.0)
    log(runs, second, range(5), value=3.0, key="accuracy")

    listed, _ = runs.list_runs(RunFilter("experiments/e"), 0, "")

    figures = {run.name: run.last_metrics for run in listed}
    assert figures == {first: {"loss": 1.0}, second: {"loss": 2.0, "accuracy": 3.0}, third: {}}


def test_pages_of_large_runs_end_early_and_none_is_left_out(runs: Runs) -> None:
    names = [opened(runs, id=f"r{number}", params={"notes": "x" * 1_000_000}) for number in range(12)]
    pages, token = [], ""

    while token or not pages:
        page, token = runs.list_runs(RunFilter("experiments/e"), 0, token)
        pages.append(page)

    assert [run.name for page in pages for run in page] == names[::-1]
    assert [len(page) for page in pages] == [8, 4]
    assert max(sum(run_message(run).ByteSize() for run in page) for page in pages) <= 8 << 20


def test_params_that_no_answer_could_carry_are_refused_by_field(runs: Runs) -> None:
    with pytest.raises(InvalidArgument, match=r"run\.params.*at most 1048576"):
        opened(runs, params={"notes": "x" * (1 << 20)})


def test_an_evaluation_too_large_for_every_answer_about_its_version_is_refused() -> None:
    evaluation = {"split": "test", "classes": ["x" * 1000] * 5000}

    with pytest.raises(ValueError, match="at most 4194304"):
        check_evaluation(evaluation)
