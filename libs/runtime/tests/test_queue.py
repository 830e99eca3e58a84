"""A task sent after the commit is worked in another process, in the same trace."""

import subprocess
import sys
import threading
import time
from pathlib import Path

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from slipway_local.testing import MortalValkey
from slipway_runtime import telemetry
from slipway_runtime.db import Database
from slipway_runtime.queue import Queue, Sweeper

WORKER = """
import sys
import threading
from pathlib import Path
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
trace.set_tracer_provider(TracerProvider())
from slipway_runtime import telemetry
from slipway_runtime.queue import Queue
queue = Queue(sys.argv[2], sys.argv[1])
queue.register("note", lambda id: Path(sys.argv[3]).write_text(id + " " + telemetry.trace_id()))
queue.work(1)
"""


def wait_for(path: Path, seconds: float = 40) -> str:
    stop_at = time.monotonic() + seconds
    while time.monotonic() < stop_at:
        if path.exists() and path.read_text():
            return path.read_text()
        time.sleep(0.05)
    raise AssertionError(f"{path} was not written within {seconds} s")


def test_a_task_is_worked_in_the_trace_that_sent_it(valkey_url: str, tmp_path: Path) -> None:
    trace.set_tracer_provider(TracerProvider())
    service, note = f"t{time.time_ns()}", tmp_path / "note"
    worker = subprocess.Popen([sys.executable, "-c", WORKER, valkey_url, service, str(note)])
    queue = Queue(service, valkey_url)

    with telemetry.tracer.start_as_current_span("caller"):
        sent_in = telemetry.trace_id()
        queue.enqueue("note", "42")

    try:
        assert wait_for(note) == f"42 {sent_in}"
    finally:
        worker.terminate()
        worker.wait(20)


def test_a_broker_that_is_away_is_no_error_for_the_sender_and_costs_half_a_second_at_most(
    mortal_valkey: MortalValkey,
) -> None:
    queue = Queue("t", mortal_valkey.url)
    queue.enqueue("note", "0")  # what is imported at the first send is not what is measured
    mortal_valkey.kill()
    took = []

    for id in ("1", "2", "3"):
        begin = time.monotonic()
        queue.enqueue("note", id)
        took.append(time.monotonic() - begin)

    assert sorted(took)[1] < 0.5


def test_a_worker_waits_for_its_broker_and_consumes_again_when_it_is_back(
    mortal_valkey: MortalValkey, tmp_path: Path
) -> None:
    service, note = f"t{time.time_ns()}", tmp_path / "note"
    worker = subprocess.Popen([sys.executable, "-c", WORKER, mortal_valkey.url, service, str(note)])
    queue = Queue(service, mortal_valkey.url)
    queue.enqueue("note", "before")
    before = wait_for(note)
    note.unlink()

    mortal_valkey.kill()
    time.sleep(1)
    mortal_valkey.start()
    queue.enqueue("note", "after")

    try:
        assert before.startswith("before")
        assert wait_for(note, 40).startswith("after")
    finally:
        worker.terminate()
        worker.wait(20)


def test_one_sweeper_of_two_sweeps_and_survives_its_own_errors(database_url: str) -> None:
    database = Database(database_url)
    sweeps: list[str] = []

    def sweep(name: str) -> None:
        sweeps.append(name)
        time.sleep(0.2)
        raise ValueError("once more")

    pair = [Sweeper(database, "one", 0.05, lambda n=name: sweep(n)) for name in ("a", "b")]
    for sweeper in pair:
        sweeper.start()
    time.sleep(1.2)
    for sweeper in pair:
        sweeper.stop()
    database.close()

    assert 3 <= len(sweeps) <= 8


def test_a_sweeper_that_is_woken_sweeps_at_once_and_stops_at_once(database_url: str) -> None:
    database, swept = Database(database_url), threading.Event()
    sweeper = Sweeper(database, "woken", 60.0, swept.set)
    sweeper.start()
    begin = time.monotonic()

    sweeper.wake()

    assert swept.wait(10)
    sweeper.stop()
    database.close()
    assert time.monotonic() - begin < 10
