"""A task sent after the commit is worked in another process, in the same trace."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
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


def wait_for(path: Path, begin: str, send: Callable[[], None]) -> str:
    """Return what the worker wrote, once it begins so; till then it is sent again, as by a sweeper."""
    stop_at = time.monotonic() + 150
    while time.monotonic() < stop_at:
        send()
        again_at = time.monotonic() + 5
        while time.monotonic() < again_at:
            if path.exists() and (text := path.read_text()).startswith(begin):
                return text
            time.sleep(0.05)
    raise AssertionError(f"{path} was not written")


def test_a_task_is_worked_in_the_trace_that_sent_it(valkey_url: str, tmp_path: Path) -> None:
    trace.set_tracer_provider(TracerProvider())
    service, note = f"t{time.time_ns()}", tmp_path / "note"
    worker = subprocess.Popen([sys.executable, "-c", WORKER, valkey_url, service, str(note)])
    queue = Queue(service, valkey_url)

    try:
        with telemetry.tracer.start_as_current_span("caller"):
            sent_in = telemetry.trace_id()
            worked = wait_for(note, "42", lambda: queue.enqueue("note", "42"))
    finally:
        worker.kill()
        worker.wait()

    assert worked == f"42 {sent_in}"


def test_a_broker_that_is_away_is_no_error_for_the_sender_and_costs_half_a_second_at_most(
    mortal_valkey: MortalValkey,
) -> None:
    queue = Queue("t", mortal_valkey.url)
    queue.enqueue("note", "0")  # what is imported at the first send is not what is measured
    mortal_valkey.kill()
    took = []

    while len(took) < 3 or (
        sorted(took)[1] >= 0.5 and len(took) < 30
    ):  # a busy machine is measured for longer
        begin = time.monotonic()
        queue.enqueue("note", "1")
        took.append(time.monotonic() - begin)

    assert sorted(took)[1] < 0.5


def test_a_worker_waits_for_its_broker_and_consumes_again_when_it_is_back(
    mortal_valkey: MortalValkey, tmp_path: Path
) -> None:
    service, note = f"t{time.time_ns()}", tmp_path / "note"
    worker = subprocess.Popen([sys.executable, "-c", WORKER, mortal_valkey.url, service, str(note)])
    queue = Queue(service, mortal_valkey.url)
    try:
        wait_for(note, "before", lambda: queue.enqueue("note", "before"))

        mortal_valkey.kill()
        time.sleep(1)
        mortal_valkey.start()

        assert wait_for(note, "after", lambda: queue.enqueue("note", "after")).startswith("after")
        assert worker.poll() is None
    finally:
        worker.kill()
        worker.wait()


def test_one_sweeper_of_two_sweeps_and_survives_its_own_errors(database_url: str) -> None:
    database = Database(database_url)
    lock, enough = threading.Lock(), threading.Event()
    sweeping: list[str] = []
    at_once: list[int] = []

    def sweep(name: str) -> None:
        with lock:
            sweeping.append(name)
            at_once.append(len(sweeping))
        time.sleep(0.2)
        with lock:
            sweeping.remove(name)
        if len(at_once) >= 4:
            enough.set()
        raise ValueError("once more")

    pair = [Sweeper(database, "one", 0.05, lambda n=name: sweep(n)) for name in ("a", "b")]
    for sweeper in pair:
        sweeper.start()
    came = enough.wait(60)
    for sweeper in pair:
        sweeper.stop()
    database.close()

    assert came
    assert set(at_once) == {1}


def test_a_sweeper_that_is_woken_sweeps_at_once_and_stops_at_once(database_url: str) -> None:
    database, swept = Database(database_url), threading.Event()
    sweeper = Sweeper(database, "woken", 3600.0, swept.set)
    sweeper.start()

    sweeper.wake()

    assert swept.wait(60)
    sweeper.stop()
    sweeper._thread.join(60)
    database.close()
    assert not sweeper._thread.is_alive()
