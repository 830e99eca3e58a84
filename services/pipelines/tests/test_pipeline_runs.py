"""Runs on real stores, with steps in real processes."""

import json
import secrets
import subprocess
import threading
import time
from typing import Any

import pytest
from slipway_pipelines.domain.runs import RunState, StepState
from slipway_runtime.errors import FailedPrecondition

GRAPH = """
    @step
    def numbers(count: int) -> list:
        return list(range(count))

    @step
    def doubled(number: int, by: int) -> int:
        return number * by

    @step
    def total(parts: list) -> int:
        print("adding", parts)
        return sum(parts)

    @step
    def large(total: int) -> bool:
        return total > 5

    @step
    def told(total: int) -> str:
        return f"models/flowers/versions/{total}"

    @pipeline()
    def flow(count: int = 3, by: int = 2):
        \"\"\"Doubles numbers.\"\"\"
        parts = doubled.map(numbers(count), by=by)
        sum_of_parts = total(parts)
        told(sum_of_parts, when=large(sum_of_parts))
"""


def test_a_graph_with_a_fan_out_ends_with_the_outputs_of_all_its_steps(house: Any) -> None:
    run = house.ran(GRAPH)

    steps = house.steps(run)
    assert run.state is RunState.SUCCEEDED
    assert list(steps) == [
        "numbers", "doubled.0", "doubled.1", "doubled.2", "total", "large", "told"
    ]  # fmt: skip
    assert json.loads(steps["told"].output) == "models/flowers/versions/6"
    assert steps["total"].log_tail == "adding [0, 2, 4]"
    assert steps["told"].names == ("models/flowers/versions/6",)


def test_what_a_false_condition_guards_is_skipped_and_the_run_succeeds(house: Any) -> None:
    run = house.ran(GRAPH, {"count": 2})

    assert run.state is RunState.SUCCEEDED
    assert house.steps(run)["told"].state is StepState.SKIPPED
    assert house.steps(run)["told"].error == "'large' is not true"


def test_a_fan_out_over_nothing_gives_an_empty_list(house: Any) -> None:
    run = house.ran(GRAPH, {"count": 0})

    assert run.state is RunState.SUCCEEDED
    assert json.loads(house.steps(run)["total"].output) == 0


def test_a_step_skips_itself_and_what_needs_it_but_not_what_only_comes_after_it(house: Any) -> None:
    run = house.ran(
        """
        @step(condition=lambda wanted: wanted)
        def first(wanted: bool, context: Context) -> int:
            return 1

        @step
        def second(first: int) -> int:
            return first

        @step
        def last() -> int:
            return 3

        @pipeline()
        def flow(wanted: bool = False):
            one = first(wanted)
            second(one)
            last(after=one)
        """
    )

    states = {name: step.state.value for name, step in house.steps(run).items()}
    assert run.state is RunState.SUCCEEDED
    assert states == {"first": "SKIPPED", "second": "SKIPPED", "last": "SUCCEEDED"}


def test_a_failing_step_is_tried_again_with_one_request_id_and_its_error_is_told(house: Any) -> None:
    run = house.ran(
        """
        @step(retries=2, backoff_s=0.01)
        def flaky(context: Context) -> str:
            if context.attempt < 3:
                raise RuntimeError(f"not yet {context.request_id}")
            return context.request_id

        @step
        def sound() -> int:
            return 1

        @pipeline()
        def flow():
            flaky()
            sound()
        """
    )

    flaky = house.steps(run)["flaky"]
    assert run.state is RunState.SUCCEEDED
    assert (flaky.attempt, flaky.failures) == (3, 2)
    assert json.loads(flaky.output) == flaky.request_id == f"{run.id}.flaky.0"
    assert [o for s, _, _, o in house.attempts(run) if s == "flaky"] == ["FAILED", "FAILED", "SUCCEEDED"]


BROKEN = """
    @step
    def first() -> int:
        return 1

    @step
    def breaks(one: int, good: bool, context: Context) -> str:
        if not good and context.request_id.endswith(".0"):
            raise ValueError("no luck")
        return context.request_id

    @step
    def last(text: str) -> int:
        return 1

    @step
    def beside() -> int:
        return 1

    @pipeline()
    def flow(good: bool = False):
        last(breaks(first(), good))
        beside()
"""


def test_a_failed_step_fails_the_run_by_name_and_what_does_not_need_it_runs(house: Any) -> None:
    run = house.ran(BROKEN)

    states = {name: step.state.value for name, step in house.steps(run).items()}
    assert run.state is RunState.FAILED
    assert run.error == "breaks: ValueError: no luck (at flow.py:11)"
    assert states["last"] == "UPSTREAM_FAILED"
    assert states["beside"] == "SUCCEEDED"


def test_a_retry_runs_only_what_failed_or_is_missing(house: Any) -> None:
    run = house.ran(BROKEN)

    house.runs.retry(run.name, "", b"")
    run = house.work(run)

    steps = house.steps(run)
    assert run.state is RunState.SUCCEEDED
    assert (run.retry_count, run.error) == (1, "")
    assert {name: step.attempt for name, step in steps.items()} == {
        "first": 1, "breaks": 2, "last": 1, "beside": 1
    }  # fmt: skip
    assert steps["breaks"].request_id.endswith(".1")
    with pytest.raises(FailedPrecondition, match="start a new run"):
        house.runs.retry(run.name, "", b"")


def test_an_output_that_is_too_large_or_no_json_fails_its_step(house: Any) -> None:
    run = house.ran(
        """
        @step
        def large() -> str:
            return "x" * 70_000

        @step
        def odd() -> object:
            return {1, 2}

        @pipeline()
        def flow():
            large()
            odd()
        """
    )

    steps = house.steps(run)
    assert "at most 65536 are kept" in steps["large"].error
    assert "the output is no JSON" in steps["odd"].error


def test_a_step_that_takes_too_long_is_killed_with_all_that_it_started(house: Any) -> None:
    length = f"1234.{secrets.randbelow(10**12)}"

    run = house.ran(
        """
        import subprocess, time

        @step(timeout_s=1)
        def endless(length: str) -> int:
            subprocess.Popen(["sleep", length])
            time.sleep(600)
            return 1

        @pipeline()
        def flow(length: str):
            endless(length)
        """,
        {"length": length},
    )

    assert house.steps(run)["endless"].error == "it took longer than 1 s and was stopped"
    stop_at = time.monotonic() + 60
    while length in running_commands():
        assert time.monotonic() < stop_at
        time.sleep(0.05)


def running_commands() -> str:
    return subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout


def test_a_sensor_is_looked_at_until_it_answers_and_is_nobodys_in_between(house: Any, tmp_path: Any) -> None:
    house.push(
        """
        from pathlib import Path

        @sensor(poll_s=3600, timeout_s=36_000)
        def arrived(file: str) -> str | None:
            return Path(file).read_text() if Path(file).exists() else None

        @pipeline()
        def flow(file: str):
            arrived(file)
        """
    )
    run = house.start({"file": str(tmp_path / "answer")})

    house.worker.run(house.sent.pop())
    between = house.steps(run)["arrived"]
    house.sweep.run()
    early = list(house.sent)
    (tmp_path / "answer").write_text("here")
    house.change("due_time = now()")
    run = house.work(run)

    assert (between.state, between.attempt) == (StepState.PENDING, 1)
    assert between.due_time is not None
    assert early == []
    assert json.loads(house.steps(run)["arrived"].output) == "here"
    assert house.attempts(run) == [("arrived", -1, 2, "SUCCEEDED")]


def test_a_failure_that_is_final_is_not_tried_again(house: Any) -> None:
    run = house.ran(
        """
        from slipway.pipeline import Failed

        @sensor(poll_s=0.1, timeout_s=2 * 60, retries=5)
        def ended() -> str:
            raise Failed("the job failed")

        @pipeline()
        def flow():
            ended()
        """
    )

    assert run.error == "ended: Failed: the job failed (at flow.py:8)"
    assert house.steps(run)["ended"].attempt == 1


def test_a_sensor_without_an_answer_fails_after_its_timeout(house: Any) -> None:
    house.push(
        """
        @sensor(poll_s=0.1, timeout_s=600)
        def never() -> None:
            return None

        @pipeline()
        def flow():
            never()
        """
    )
    run = house.start()
    house.worker.run(house.sent.pop())
    house.change("ready_time = ready_time - interval '601 s'")

    run = house.work(run)

    assert run.error == "never: it had no answer within 600 s"


CACHED = """
    @step(cache=True)
    def slow(number: int) -> str:
        return f"models/flowers/versions/{number}"

    @pipeline()
    def flow(number: int = 1):
        slow(number)
"""


def test_a_cached_step_runs_once_for_the_same_code_and_inputs(house: Any) -> None:
    first = house.ran(CACHED)
    second = house.work(house.start())
    other = house.work(house.start({"number": 2}))

    hit = house.steps(second)["slow"]
    assert (hit.cached_from, hit.attempt) == (first.name, 0)
    assert hit.cache_key == house.steps(first)["slow"].cache_key
    assert hit.output == house.steps(first)["slow"].output
    assert second.progress.cached == 1
    assert house.steps(other)["slow"].cached_from == ""
    assert house.lineage.parents("models/flowers/versions/1", 0, "")[0] == [first.name, second.name]


def test_other_code_misses_the_cache(house: Any) -> None:
    house.ran(CACHED)

    run = house.ran(CACHED + "\n    # a comment\n")

    assert house.steps(run)["slow"].cached_from == ""


def test_a_run_stays_with_the_version_that_it_began_with(house: Any) -> None:
    house.push(GRAPH)
    run = house.start()

    house.push(GRAPH.replace("number * by", "number * by + 100"))
    old = house.work(run)
    new = house.work(house.start())

    assert json.loads(house.steps(old)["total"].output) == 6
    assert json.loads(house.steps(new)["total"].output) == 306
    assert old.version != new.version


def test_cancel_ends_what_waits_at_once_and_what_runs_by_its_worker(house: Any) -> None:
    house.push(
        """
        import time

        @step
        def slow() -> int:
            time.sleep(600)
            return 1

        @step
        def last(slow: int) -> int:
            return slow

        @pipeline()
        def flow():
            last(slow())
        """
    )
    run = house.start()
    thread = threading.Thread(target=house.worker.run, args=(house.sent.pop(),))
    thread.start()
    while house.steps(run)["slow"].state is not StepState.RUNNING:
        time.sleep(0.02)

    asked = house.runs.cancel(run.name, "", b"")
    thread.join(300)

    states = {name: step.state.value for name, step in house.steps(run).items()}
    assert asked.state is RunState.RUNNING
    assert house.runs.get(run.name).state is RunState.CANCELLED
    assert states == {"slow": "CANCELLED", "last": "CANCELLED"}
    with pytest.raises(FailedPrecondition, match="cannot be cancelled"):
        house.runs.cancel(run.name, "", b"")


def test_a_worker_that_died_is_followed_by_another_attempt_and_its_late_end_has_no_effect(house: Any) -> None:
    from slipway_pipelines.engine.process import Answer

    house.push(
        """
        @step
        def only(context: Context) -> int:
            return context.attempt

        @pipeline()
        def flow():
            only()
        """
    )
    run = house.start()
    dead = house.another_worker(lease_s=0.01)
    claimed = dead._claim(house.sent.pop())
    time.sleep(0.05)

    house.work(run)
    dead._end(claimed, Answer("output", output='"late"'), "")

    assert house.attempts(run) == [("only", -1, 1, "LOST"), ("only", -1, 2, "SUCCEEDED")]
    assert json.loads(house.steps(run)["only"].output) == 2


def test_a_task_that_comes_twice_runs_its_step_once(house: Any) -> None:
    house.push(GRAPH)
    run = house.start()
    house.sent *= 3

    house.work(run)

    outcomes = [outcome for step, _, _, outcome in house.attempts(run) if step == "numbers"]
    assert outcomes == ["SUCCEEDED"]


def test_a_lost_task_is_sent_again(house: Any) -> None:
    house.push(GRAPH)
    run = house.start()
    house.sent.clear()

    house.sweep.run()

    assert house.sent == [f"{run.id}/numbers/-1"]


def test_a_step_knows_nothing_of_the_workers_environment(house: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("SLIPWAY_DATABASE_URL", "secret")

    run = house.ran(
        """
        import os

        @step
        def environment() -> list:
            return sorted(set(os.environ) - {"SLIPWAY_TRACEPARENT"})

        @pipeline()
        def flow():
            environment()
        """
    )

    assert json.loads(house.steps(run)["environment"].output) == [
        "HOME", "LANG", "OMP_NUM_THREADS", "PATH", "PYTHONDONTWRITEBYTECODE", "SLIPWAY_GRPC", "SLIPWAY_TOKEN",
        "TMPDIR",
    ]  # fmt: skip


def test_an_error_that_no_database_keeps_is_kept_without_what_is_odd(house: Any) -> None:
    run = house.ran(
        """
        @step
        def odd() -> int:
            print("a\\0b")
            raise ValueError("a\\0b \\ud800")

        @pipeline()
        def flow():
            odd()
        """
    )

    assert run.error.startswith("odd: ValueError: ab ?")
    assert "ab" in house.steps(run)["odd"].log_tail


def test_what_user_code_writes_to_the_workers_pipe_cannot_stop_the_worker(house: Any) -> None:
    run = house.ran(
        """
        import os, sys

        @step
        def forged() -> int:
            os.write(int(sys.argv[1]), b'{"kind": "output", "output": "{"}\\n')
            return 1

        @pipeline()
        def flow():
            forged()
        """
    )

    assert run.error == "forged: the step's process answered what is no answer"


def test_a_wide_fan_out_is_sent_in_parts_and_again_ever_more_rarely(house: Any) -> None:
    house.push(GRAPH)
    run = house.start({"count": 40})

    house.worker.run(house.sent.pop(0))
    at_once = len(house.sent)
    house.sweep = type(house.sweep)(
        database=house.database, enqueue=house._enqueue, resend_s=5.0, grace_s=60.0
    )
    house.sweep.run()
    after_a_sweep = set(house.sent)
    counts = []
    # of the same 40 rows: seconds from when they were ready until they were sent last, and since then
    for waited, since in ((0, 6), (29, 6), (29, 30), (3600, 31)):
        sent = f"now() - interval '{since} s'"
        house.change(f"sent_time = {sent}, ready_time = {sent} - interval '{waited} s'")
        house.sent.clear()
        house.sweep.run()
        counts.append(len(house.sent))
    house.sweep.run()

    assert at_once == 16
    assert after_a_sweep == {f"{run.id}/doubled/{index}" for index in range(40)}
    assert counts == [40, 0, 40, 40]
    assert len(house.sent) == 40


def test_a_cancelled_run_ends_though_the_worker_of_its_step_died(house: Any) -> None:
    house.push(GRAPH)
    run = house.start()
    house.another_worker(lease_s=0.05)._claim(house.sent.pop())

    asked = house.runs.cancel(run.name, "", b"")
    time.sleep(0.1)
    run = house.work(run)

    assert asked.state is RunState.RUNNING
    assert run.state is RunState.CANCELLED
    assert house.attempts(run) == [("numbers", -1, 1, "LOST")]


def test_a_step_whose_workers_always_die_is_given_up_and_says_so(house: Any) -> None:
    house.push(GRAPH)
    run = house.start()
    dying = house.another_worker(lease_s=0.001)

    for _ in range(10):
        dying._claim(f"{run.id}/numbers/-1")
        time.sleep(0.01)
    run = house.work(run)

    assert run.state is RunState.FAILED
    assert run.error.startswith("numbers: gave up after 10 attempts that died")
