"""The segments of one spool: files of records, written at the end, read from the beginning, removed by file.

A record is its length, its CRC-32, its sequence and its bytes. After a kill the tail of the last segment may
be torn: it is cut at the first record that does not check.
"""

import logging
import os
import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

HEAD = struct.Struct("<IIQ")
SUFFIX = ".events"
# How much of a segment is looked at before somebody else may have the interpreter's lock.
_READ_BYTES = 64 << 10

log = logging.getLogger(__name__)
Record = tuple[int, bytes]


def framed(sequence: int, record: bytes) -> bytes:
    """Return a record as it lies in a segment; the sequence is where its checksum begins."""
    return HEAD.pack(len(record), zlib.crc32(record, sequence & 0xFFFF_FFFF), sequence) + record


def read_segment(path: Path) -> Iterator[Record]:
    """Yield (sequence, bytes) of the whole records of a segment, up to the first that is torn."""
    with path.open("rb") as file:
        yield from _records(file)


def _records(file: BinaryIO) -> Iterator[Record]:
    while head := file.read(HEAD.size):
        if len(head) < HEAD.size:
            return
        size, checksum, sequence = HEAD.unpack(head)
        record = file.read(size)
        if len(record) < size or zlib.crc32(record, sequence & 0xFFFF_FFFF) != checksum:
            return
        yield sequence, record


@dataclass
class Segment:
    """One file: what it holds in bytes, and the sequence of its last record."""

    path: Path
    size: int
    last: int


class Segments:
    """All segments of a spool; one thread may write while another reads.

    Args:
        folder: Where they are.
        identity: The spool's; their names begin with it.
        segment_bytes: Of one, unless a single record is larger.
    """

    def __init__(self, folder: Path, identity: str, segment_bytes: int) -> None:
        self._folder = folder
        self._identity = identity
        self._segment_bytes = segment_bytes
        self._lock = threading.Lock()
        self._found: list[Segment] = []
        self._next = 0
        self._open = False
        self._reading: tuple[Path | None, int] = (None, 0)
        for path in sorted(folder.glob(f"{identity}.*{SUFFIX}")):
            self._recover(path)

    def _recover(self, path: Path) -> None:
        whole = last = 0
        for sequence, record in read_segment(path):
            whole, last = whole + HEAD.size + len(record), sequence
        self._next = int(path.name.split(".")[1]) + 1
        if not whole:
            path.unlink()
            return
        if whole < path.stat().st_size:
            os.truncate(path, whole)
        self._found.append(Segment(path, whole, last))

    @property
    def size(self) -> int:
        """Bytes of all."""
        with self._lock:
            return sum(segment.size for segment in self._found)

    @property
    def last(self) -> int:
        """The sequence of the last record; 0 when there is none."""
        with self._lock:
            return self._found[-1].last if self._found else 0

    def append(self, records: Sequence[bytes], last: int) -> None:
        """Write framed records durably, in one segment.

        Raises:
            OSError: They are not kept, and what was written of them is cut off.
        """
        data = b"".join(records)
        with self._lock:
            full = not self._open or self._found[-1].size + len(data) > self._segment_bytes
            if full:
                name = f"{self._identity}.{self._next:012d}{SUFFIX}"
                self._found.append(Segment(self._folder / name, 0, 0))
                self._next += 1
                self._open = True
            segment = self._found[-1]
            try:
                with segment.path.open("ab") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError:
                self._forget_tail(segment)
                raise
            segment.size, segment.last = segment.size + len(data), last

    def _forget_tail(self, segment: Segment) -> None:
        """Cut what a failed write left: whatever followed a torn record could not be read."""
        self._open = False  # the next records begin a segment
        try:
            if segment.size:
                os.truncate(segment.path, segment.size)
            else:
                self._found.pop()
                segment.path.unlink(missing_ok=True)
        except OSError:
            log.warning("the spool could not be mended after a failed write", exc_info=True)

    def read(self, after: int, most_bytes: int, most: int) -> list[Record]:
        """Return the next records with a sequence above `after`, in order.

        Args:
            after: What came before is passed over.
            most_bytes: Of the records, but for the first.
            most: How many.
        """
        found: list[Record] = []
        size = 0
        with self._lock:
            listed = [(segment.path, segment.size) for segment in self._found if segment.last > after]
        for path, whole in listed:
            for sequence, record, ends_at in self._tail(path, whole):
                if sequence <= after:
                    self._reading = (path, ends_at)
                    continue
                if found and (len(found) >= most or size + len(record) > most_bytes):
                    return found
                found.append((sequence, record))
                size += len(record)
        return found

    def _tail(self, path: Path, whole: int) -> Iterator[tuple[int, bytes, int]]:
        """Yield records with where they end, from where the last reading passed over everything."""
        begin = self._reading[1] if self._reading[0] == path else 0
        try:
            with path.open("rb", buffering=_READ_BYTES) as file:
                file.seek(begin)
                for sequence, record in _records(file):
                    begin += HEAD.size + len(record)
                    if begin > whole:  # still being written
                        return
                    yield sequence, record, begin
        except FileNotFoundError:  # the bound has cost it meanwhile
            return

    def forget(self, acknowledged: int) -> None:
        """Remove the segments that hold nothing above that sequence."""
        with self._lock:
            while self._found and self._found[0].last <= acknowledged:
                segment = self._found.pop(0)
                self._open = self._open and bool(self._found)
                segment.path.unlink(missing_ok=True)

    def forget_oldest(self, acknowledged: int) -> int | None:
        """Remove the oldest segment; return how many records above that sequence went.

        None means that it is the last one, which stays.
        """
        with self._lock:
            if len(self._found) < 2:
                return None
            segment = self._found.pop(0)
        try:
            lost = sum(1 for sequence, _ in read_segment(segment.path) if sequence > acknowledged)
            segment.path.unlink()
        except OSError:
            log.warning("segment %s of the spool is not there any more", segment.path.name)
            return 0
        return lost
