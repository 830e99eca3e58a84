"""Events on disk: bounded, counted when they go, whole after a kill, and no event stops the others."""

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from slipway_inference.engine.outbox import Batch, open_all
from slipway_inference.engine.segments import HEAD, read_segment
from slipway_inference.engine.spool import DROPPED, SPOOL_BYTES, Spool

HEAD_BYTES = HEAD.size


class Gate:
    """An event that keeps the writer busy until the test opens the gate: what comes meanwhile waits."""

    def __init__(self) -> None:
        self.reached, self._open = threading.Event(), threading.Event()

    def __call__(self, sequence: int) -> bytes:
        self.reached.set()
        assert self._open.wait(30)
        return b"gate"

    def open(self) -> None:
        self._open.set()


def event(text: str) -> Callable[[int], bytes]:
    return lambda sequence: text.encode()


def kept(folder: Path) -> list[bytes]:
    return [record for path in sorted(folder.glob("*.events")) for _, record in read_segment(path)]


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.events"))


def dropped(reason: str) -> float:
    return float(DROPPED.labels(reason)._value.get())


def wait_until(true: Callable[[], bool]) -> None:
    stop_at = time.monotonic() + 30
    while not true():
        assert time.monotonic() < stop_at
        time.sleep(0.002)


def end(spool: Spool) -> None:
    """End a spool as its process does: all that waits is written, and the files are let go of."""
    spool.close()
    for outbox in (spool.outbox, *spool.others):
        if outbox is not None:
            outbox.close()


def spooled(folder: Path, *texts: str, max_bytes: int = 1 << 20) -> None:
    spool = Spool(folder, max_bytes=max_bytes)
    for text in texts:
        spool.put(event(text))
    end(spool)


def waiting(folder: Path) -> Batch:
    """Return all that the folder's only spool has to send."""
    ((_, outbox),), _ = open_all(folder)
    batch = outbox.batch(1 << 30, 1 << 30)
    outbox.close()
    return batch


def test_events_are_there_in_order_after_the_close_and_after_the_next_start(tmp_path: Path) -> None:
    spooled(tmp_path, "a", "b")
    spooled(tmp_path, "c")

    assert kept(tmp_path) == [b"a", b"b", b"c"]
    batch = waiting(tmp_path)
    assert list(batch.records) == [(1, b"a"), (2, b"b"), (3, b"c")]
    assert (batch.first_sequence, batch.produced_sequence) == (1, 3)


@pytest.mark.parametrize("cut", [1, 3, 5, 4 + HEAD_BYTES - 1])
def test_a_torn_last_record_is_cut_and_the_next_events_are_readable(tmp_path: Path, cut: int) -> None:
    spooled(tmp_path, "whole", "torn")
    (segment,) = tmp_path.glob("*.events")
    segment.write_bytes(segment.read_bytes()[:-cut])

    spooled(tmp_path, "later")

    assert kept(tmp_path) == [b"whole", b"later"]
    assert segment.stat().st_size == HEAD_BYTES + len("whole")


def test_a_record_whose_bytes_changed_is_not_given_out(tmp_path: Path) -> None:
    spooled(tmp_path, "first", "other")
    (segment,) = tmp_path.glob("*.events")
    data = bytearray(segment.read_bytes())
    data[-1] ^= 1
    segment.write_bytes(bytes(data))

    spooled(tmp_path, "later")

    assert kept(tmp_path) == [b"first", b"later"]


def test_a_length_beyond_the_file_is_a_torn_record(tmp_path: Path) -> None:
    spooled(tmp_path, "whole")
    (segment,) = tmp_path.glob("*.events")
    with segment.open("ab") as file:
        file.write(b"\xff\xff\xff\x7f" + bytes(HEAD_BYTES - 4) + b"abc")

    spooled(tmp_path, "later")

    assert kept(tmp_path) == [b"whole", b"later"]


def test_the_oldest_events_go_when_the_bound_is_reached_and_are_counted(tmp_path: Path) -> None:
    before = dropped("spool_full")
    texts = [f"event {number:04d}" for number in range(200)]

    for text in texts:
        spooled(tmp_path, text, max_bytes=1000)

    left = kept(tmp_path)
    assert on_disk(tmp_path) <= 1000
    assert left == [text.encode() for text in texts[-len(left) :]]
    assert len(left) >= 30
    assert dropped("spool_full") - before == len(texts) - len(left)


def test_a_crowd_that_waited_is_written_within_the_bound(tmp_path: Path) -> None:
    before, gate = dropped("spool_full"), Gate()
    spool = Spool(tmp_path, max_bytes=1000)
    spool.put(gate)
    assert gate.reached.wait(30)
    for number in range(200):
        spool.put(event(f"event {number:04d}"))

    gate.open()
    spool.close()

    left = kept(tmp_path)
    assert on_disk(tmp_path) <= 1000
    assert left[-1] == b"event 0199"
    assert len(left) >= 30
    assert dropped("spool_full") - before == 201 - len(left)
    assert SPOOL_BYTES.collect()[0].samples[0].value == on_disk(tmp_path)


def test_an_event_larger_than_the_whole_bound_is_dropped_and_the_others_stay(tmp_path: Path) -> None:
    before = dropped("too_large")

    spooled(tmp_path, "small", "x" * 2000, "also small", max_bytes=1000)

    assert kept(tmp_path) == [b"small", b"also small"]
    assert dropped("too_large") - before == 1


def test_a_bound_that_became_smaller_holds_from_the_start(tmp_path: Path) -> None:
    for number in range(10):
        spooled(tmp_path, f"{number}" * 100)
    before = dropped("spool_full")

    Spool(tmp_path, max_bytes=500).close()

    assert on_disk(tmp_path) <= 500
    assert [record[:1] for record in kept(tmp_path)] == [b"6", b"7", b"8", b"9"]
    assert dropped("spool_full") - before == 6


def test_a_writer_that_is_behind_drops_counts_and_never_blocks_the_reply(tmp_path: Path) -> None:
    before, gate = dropped("writer_behind"), Gate()
    spool = Spool(tmp_path, max_bytes=1 << 20, max_waiting=3)
    spool.put(gate)
    assert gate.reached.wait(30)

    for number in range(5):
        spool.put(event(str(number)))

    assert dropped("writer_behind") - before == 2
    gate.open()
    spool.close()
    assert kept(tmp_path) == [b"gate", b"0", b"1", b"2"]


def test_an_event_that_cannot_be_made_is_dropped_and_the_writer_goes_on(tmp_path: Path) -> None:
    def impossible(sequence: int) -> bytes:
        raise ValueError("an output of another shape")

    before = dropped("not_made")
    spool = Spool(tmp_path, max_bytes=1 << 20)
    for make in (event("before"), impossible, event("after")):
        spool.put(make)
    spool.close()

    assert kept(tmp_path) == [b"before", b"after"]
    assert dropped("not_made") - before == 1


def test_without_a_folder_events_are_counted_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = dropped("no_spool")
    spool = Spool(None, max_bytes=1 << 20)
    spool.put(event("gone"))
    spool.close()

    assert dropped("no_spool") - before == 1
    assert spool.outbox is None
    assert list(tmp_path.iterdir()) == []


FULL_DISK = """
import resource, sys, time
from pathlib import Path
from slipway_inference.engine.spool import DROPPED, SPOOLED, Spool

soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
spool, done = Spool(Path(sys.argv[1]), max_bytes=1 << 20), 0

def write(text):  # and wait for it, so that it is a batch of its own
    global done
    spool.put(lambda sequence: text.encode())
    done += 1
    while SPOOLED._value.get() + DROPPED.labels("disk")._value.get() < done:
        time.sleep(0.001)

write("before")
resource.setrlimit(resource.RLIMIT_FSIZE, (50, hard))  # what a full disk does: a part, then an error
write("x" * 100)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
write("after")
spool.close()
print(DROPPED.labels("disk")._value.get())
"""


def test_a_disk_that_was_full_for_a_while_costs_what_came_then_and_nothing_after(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, timeout=60
    )

    assert ended.stdout.strip() == "1.0", ended.stderr
    assert kept(tmp_path) == [b"before", b"after"]


def test_a_folder_that_went_away_and_came_back_does_not_stop_the_writer(tmp_path: Path) -> None:
    folder, gate, before = tmp_path / "spool", Gate(), dropped("disk")
    spool = Spool(folder, max_bytes=400)
    spool.put(gate)
    assert gate.reached.wait(30)
    shutil.rmtree(folder)
    gate.open()
    wait_until(lambda: dropped("disk") > before)
    folder.mkdir()

    for number in range(40):
        spool.put(event(f"event {number:04d}"))
    spool.close()

    assert dropped("disk") - before == 1
    assert kept(folder)[-1] == b"event 0039"
    assert on_disk(folder) <= 400


def test_what_waits_for_a_slow_disk_is_bounded_in_memory(tmp_path: Path) -> None:
    before, gate = dropped("writer_behind"), Gate()
    spool = Spool(tmp_path, max_bytes=1 << 20, max_waiting_bytes=100)
    spool.put(gate)
    assert gate.reached.wait(30)
    for number in range(10):
        spool.put(event(f"event {number}"), 30)

    gate.open()
    wait_until(lambda: len(kept(tmp_path)) == 4)
    spool.put(event("after"), 100)
    spool.close()

    assert dropped("writer_behind") - before == 7
    assert kept(tmp_path) == [b"gate", b"event 0", b"event 1", b"event 2", b"after"]
