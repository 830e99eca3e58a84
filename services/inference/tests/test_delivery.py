"""Delivery of a spool: once each, in order, whatever is away or killed; what is lost shows as a gap."""

import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from slipway_inference.engine.outbox import Batch, open_all
from slipway_inference.engine.spool import DROPPED, Spool
from slipway_inference.usecases.delivery import Courier, Delivery
from slipway_runtime.errors import FailedPrecondition, InvalidArgument, Unavailable

WITHIN_S = 60.0


class Taker:
    """What monitoring promises of ReportEvents, in memory: rows and the highest sequence move together.

    `reached` says that a call came; none goes on while `gate` is closed.
    """

    def __init__(self) -> None:
        self.away = self.deaf = False
        self.reached, self.gate = threading.Event(), threading.Event()
        self.gate.set()
        self._lock = threading.Lock()
        self.poison = b""
        self.calls = 0
        self.taken: dict[str, list[bytes]] = {}
        self.lost: dict[str, int] = {}
        self.acknowledged: dict[str, int] = {}
        self.produced: dict[str, int] = {}
        self.closed: set[str] = set()

    def __call__(self, batch: Batch, timeout_s: float) -> int:
        self.calls += 1
        away = self.away
        self.reached.set()
        assert self.gate.wait(WITHIN_S)
        if away:
            raise Unavailable("UNAVAILABLE", "monitoring is away")
        with self._lock:
            return self._take(batch)

    def _take(self, batch: Batch) -> int:
        if self.poison and any(self.poison == record for _, record in batch.records):
            raise InvalidArgument.field("events", "one of them is no event")
        known = self.acknowledged.get(batch.spool, 0)
        if batch.first_sequence > known + 1:
            raise FailedPrecondition("SEQUENCE_GAP", "a gap", metadata={"expected_sequence": str(known + 1)})
        new = [(sequence, record) for sequence, record in batch.records if sequence > known]
        self.taken.setdefault(batch.spool, []).extend(record for _, record in new)
        self.produced[batch.spool] = max(self.produced.get(batch.spool, 0), batch.produced_sequence)
        last = self.produced[batch.spool] if batch.closed else new[-1][0] if new else known
        self.lost[batch.spool] = self.lost.get(batch.spool, 0) + last - known - len(new)
        self.acknowledged[batch.spool] = last
        if batch.closed:
            self.closed.add(batch.spool)
        if self.deaf:
            raise Unavailable("UNAVAILABLE", "the answer was lost")
        return last

    @property
    def events(self) -> list[bytes]:
        return [record for records in self.taken.values() for record in records]


class Front:
    """A spool with its delivery, as a front has them."""

    def __init__(self, folder: Path, taker: Taker, version: str = "models/flowers/versions/1", **spool: int):
        limits = {"max_bytes": 1 << 20, **spool}
        self.spool = Spool(folder, endpoint="endpoints/flowers", model_version=version, **limits)
        assert self.spool.outbox is not None
        self.outbox = self.spool.outbox
        self.identity = self.outbox.identity
        self.delivery = Delivery(outbox=self.outbox, others=self.spool.others, report=taker)
        self.delivery.start()

    def put(self, *texts: str) -> None:
        for text in texts:
            self.spool.put(lambda sequence, text=text: text.encode())  # type: ignore[misc]

    def stop(self, within_s: float = WITHIN_S) -> bool:
        self.spool.close()
        return self.delivery.stop(within_s)


def until(true: Callable[[], bool]) -> None:
    stop_at = time.monotonic() + WITHIN_S
    while not true():
        assert time.monotonic() < stop_at
        time.sleep(0.005)


def dropped(reason: str) -> float:
    return float(DROPPED.labels(reason)._value.get())


@pytest.fixture
def taker() -> Taker:
    return Taker()


@pytest.fixture
def front(tmp_path: Path, taker: Taker) -> Iterator[Front]:
    made = Front(tmp_path, taker)
    yield made
    taker.away = taker.deaf = False
    taker.gate.set()
    made.stop()


def test_events_arrive_in_order_and_their_segments_leave_the_disk(
    front: Front, taker: Taker, tmp_path: Path
) -> None:
    texts = [f"{number}" for number in range(2500)]

    front.put(*texts)

    until(lambda: front.outbox.waiting == 0 and not list(tmp_path.glob("*.events")))
    assert taker.taken[front.identity] == [text.encode() for text in texts]


def test_an_answer_that_was_lost_doubles_nothing(front: Front, taker: Taker) -> None:
    taker.deaf = True
    front.put("a", "b")
    until(lambda: taker.calls >= 3)

    taker.deaf = False
    front.put("c")

    until(lambda: front.outbox.waiting == 0)
    assert taker.events == [b"a", b"b", b"c"]


def test_while_monitoring_is_away_no_reply_waits_and_nothing_is_lost(tmp_path: Path, taker: Taker) -> None:
    taker.away = True
    taker.gate.clear()
    front = Front(tmp_path, taker)
    assert taker.reached.wait(WITHIN_S)

    front.put(*["event"] * 1000)
    calls = taker.calls
    taker.gate.set()
    until(lambda: taker.calls >= 3)
    taker.away = False
    front.stop()

    assert calls == 1  # the first has no answer yet
    assert len(taker.events) == 1000


def test_sigterm_delivers_what_waits_and_says_that_the_spool_is_closed(tmp_path: Path, taker: Taker) -> None:
    front = Front(tmp_path, taker)
    front.put("a", "b")

    done = front.stop()

    assert done
    assert taker.events == [b"a", b"b"]
    assert taker.closed == {front.identity}
    assert list(tmp_path.iterdir()) == []


def test_a_drain_that_is_not_done_in_time_goes_on_under_the_same_identity_after_a_restart(
    tmp_path: Path, taker: Taker
) -> None:
    taker.away = True
    before = Front(tmp_path, taker)
    before.put("a", "b")
    done = before.stop(within_s=1.0)
    ended = not before.delivery._thread.is_alive()
    before.outbox.close()
    taker.away = False

    after = Front(tmp_path, taker)
    after.put("c")
    after.stop()

    assert not done
    assert ended
    assert after.identity == before.identity
    assert taker.taken == {after.identity: [b"a", b"b", b"c"]}
    assert taker.lost == {after.identity: 0}


KILLED = """
import os, signal, sys, time
from pathlib import Path
from slipway_inference.engine.spool import SPOOLED, Spool

spool = Spool(Path(sys.argv[1]), max_bytes=1 << 20, endpoint="endpoints/flowers",
              model_version="models/flowers/versions/1")
for number in range(10):
    spool.put(lambda sequence, number=number: b"kept %d" % number)
while SPOOLED._value.get() < 10:
    pass
spool.put(lambda sequence: time.sleep(600))  # the writer gets no further
for number in range(6):
    spool.put(lambda sequence: b"not written yet")
print(spool.outbox.identity, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_loses_what_was_not_written_and_that_much_shows_as_lost(tmp_path: Path, taker: Taker) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True, timeout=60
    )

    front = Front(tmp_path, taker)
    front.put("after")
    front.stop()

    assert killed.returncode == -signal.SIGKILL
    assert killed.stdout.strip() == front.identity
    assert taker.events == [b"kept %d" % number for number in range(10)] + [b"after"]
    assert taker.lost == {front.identity: 7}
    assert taker.acknowledged == {front.identity: 18}


def test_what_the_bound_costs_is_reported_as_lost(tmp_path: Path, taker: Taker) -> None:
    taker.away = True
    before = dropped("spool_full")
    taker.gate.clear()
    front = Front(tmp_path, taker, max_bytes=1000)
    assert taker.reached.wait(WITHIN_S)  # nothing is on its way that the bound will cost
    for number in range(20):
        front.put(f"{number:02d}" * 20)
        until(lambda n=number: front.outbox.segments.last == n + 1)  # type: ignore[misc]

    taker.away = False
    taker.gate.set()
    front.stop()

    lost = taker.lost[front.identity]
    assert lost > 0
    assert dropped("spool_full") - before == lost
    assert len(taker.events) == 20 - lost
    assert taker.events[-1] == b"19" * 20


def test_an_event_that_is_refused_for_good_does_not_stop_the_others(front: Front, taker: Taker) -> None:
    before = dropped("refused")
    taker.poison = b"3"

    front.put(*[f"{number}" for number in range(8)])

    until(lambda: front.outbox.waiting == 0)
    assert taker.events == [f"{number}".encode() for number in range(8) if number != 3]
    assert taker.lost == {front.identity: 1}
    assert dropped("refused") - before == 1


def test_a_monitoring_that_forgot_is_served_from_where_it_says(
    front: Front, taker: Taker, tmp_path: Path
) -> None:
    front.put("a", "b")
    until(lambda: front.outbox.waiting == 0 and not list(tmp_path.glob("*.events")))
    taker.acknowledged.clear()

    front.put("c")

    until(lambda: front.outbox.waiting == 0)
    assert taker.events == [b"a", b"b", b"c"]
    assert taker.acknowledged == {front.identity: 3}
    assert taker.lost == {front.identity: 2}


def test_a_copied_folder_gets_an_identity_of_its_own_and_its_events_are_still_counted_once(
    tmp_path: Path, taker: Taker
) -> None:
    taker.away = True
    first = Front(tmp_path / "first", taker)
    first.put("a", "b")
    until(lambda: first.outbox.segments.last == 2)
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    taker.away = False

    second = Front(tmp_path / "second", taker)
    second.put("of the copy")
    second.stop()
    first.put("c")
    first.stop()

    assert second.identity != first.identity
    assert taker.taken == {first.identity: [b"a", b"b", b"c"], second.identity: [b"of the copy"]}
    assert sum(taker.lost.values()) == 0


def test_without_its_ledger_a_folder_begins_anew(tmp_path: Path, taker: Taker) -> None:
    taker.away = True
    before = Front(tmp_path, taker)
    before.put("whose?")
    before.stop(within_s=0.2)
    before.outbox.close()
    (ledger,) = tmp_path.glob("*.ledger")
    ledger.unlink()
    taker.away = False
    lost = dropped("no_ledger")

    after = Front(tmp_path, taker)
    after.put("mine")
    after.stop()

    assert after.identity != before.identity
    assert taker.taken == {after.identity: [b"mine"]}
    assert dropped("no_ledger") - lost == 1


def test_a_front_of_another_version_closes_what_the_one_before_left(tmp_path: Path, taker: Taker) -> None:
    taker.away = True
    before = Front(tmp_path, taker)
    before.put("of version 1")
    before.stop(within_s=0.2)
    before.outbox.close()
    taker.away = False

    after = Front(tmp_path, taker, version="models/flowers/versions/2")
    until(lambda: before.identity in taker.closed)
    after.put("of version 2")
    after.stop()

    assert taker.taken == {before.identity: [b"of version 1"], after.identity: [b"of version 2"]}
    assert list(tmp_path.iterdir()) == []


def test_an_end_that_was_told_but_not_confirmed_is_told_again_and_new_events_are_another_spools(
    tmp_path: Path, taker: Taker
) -> None:
    taker.deaf = True
    before = Front(tmp_path, taker)
    before.put("last")
    before.spool.close()
    until(lambda: before.identity in taker.taken)
    taker.deaf = False
    until(lambda: before.outbox.waiting == 0)
    taker.deaf = True
    stopping = threading.Thread(target=before.delivery.stop, args=(WITHIN_S,))
    stopping.start()
    until(lambda: before.identity in taker.closed)
    before.delivery._until = 0.0  # its time is over
    stopping.join()
    before.outbox.close()
    told = before.identity in taker.closed
    taker.deaf = False

    after = Front(tmp_path, taker)
    after.put("next")
    after.stop()

    assert told
    assert taker.taken == {before.identity: [b"last"], after.identity: [b"next"]}
    assert taker.closed == {before.identity, after.identity}
    assert list(tmp_path.iterdir()) == []


def test_an_orphan_is_drained_and_one_whose_front_lives_is_left_alone(tmp_path: Path, taker: Taker) -> None:
    taker.away = True
    front = Front(tmp_path, taker)
    front.put("a")
    until(lambda: front.outbox.segments.last == 1)
    found_while_it_lives, left = open_all(tmp_path)
    front.stop(within_s=0.2)
    front.outbox.close()
    taker.away = False

    ((_, outbox),), _ = open_all(tmp_path)
    done = Courier(taker, time.sleep).finish(outbox, lambda: WITHIN_S)

    assert found_while_it_lives == []
    assert "another process's" in left[0]
    assert done
    assert taker.taken == {front.identity: [b"a"]}
    assert taker.closed == {front.identity}
    assert list(tmp_path.iterdir()) == []


def test_writer_and_reader_side_by_side_lose_and_double_nothing(tmp_path: Path, taker: Taker) -> None:
    front = Front(tmp_path, taker, max_bytes=64 << 20, segment_bytes=2000)
    flaky = threading.Thread(target=lambda: [flip(taker) for _ in range(40)])

    flaky.start()
    for number in range(4000):
        front.put(f"{number}")
        if number % 100 == 0:
            time.sleep(0.02)
    flaky.join()
    taker.deaf = False
    done = front.stop()

    assert done
    assert taker.events == [f"{number}".encode() for number in range(4000)]
    assert taker.lost == {front.identity: 0}


def flip(taker: Taker) -> None:
    taker.deaf = not taker.deaf
    time.sleep(0.02)
