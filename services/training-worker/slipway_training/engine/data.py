"""A commit on a worker's disk: one file of bytes, one of rows, whole or not there at all.

The parent writes it as it reads the commit, each blob checked against its digest; training processes
only read. Attempts at the same commit share it.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3
from slipway.task.images import LabelledImage


class DamagedExampleError(OSError):
    """Bytes that arrived are not those of the digest; reading the commit again may help."""


@dataclass(frozen=True)
class Row:
    """One example as it arrives."""

    key: str
    label: str
    split: str
    blob: str
    data: bytes


def check_out(folder: Path, rows: Iterable[Row]) -> None:
    """Write a commit below `folder` unless it is there.

    Raises:
        DamagedExampleError: a blob's bytes do not have its digest.
    """
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".checkout-", dir=folder.parent))
    try:
        with open(temporary / "bytes", "wb") as data, open(temporary / "rows.jsonl", "w") as index:
            for row in rows:
                if blake3(row.data).hexdigest() != row.blob:
                    raise DamagedExampleError(
                        f"example '{row.key}' arrived damaged: not the bytes of {row.blob}"
                    )
                place = [row.key, row.label, row.split, data.tell(), len(row.data)]
                index.write(json.dumps(place) + "\n")
                data.write(row.data)
            for file in (data, index):
                file.flush()
                os.fsync(file.fileno())
        move_into_place(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def labelled_images(folder: Path) -> Iterator[LabelledImage]:
    """Yield the rows of a checkout; each reads its own bytes when asked."""
    path = str(folder / "bytes")
    with open(folder / "rows.jsonl") as index:
        for line in index:
            key, label, split, offset, size = json.loads(line)
            yield LabelledImage(key, label, split, _Bytes(path, offset, size))


@dataclass(frozen=True)
class _Bytes:
    """Reads one example's bytes."""

    path: str
    offset: int
    size: int

    def __call__(self) -> bytes:
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


def move_into_place(temporary: Path, folder: Path) -> None:
    """Rename a finished folder; one that is there already has the same content."""
    try:
        temporary.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another attempt was faster, with the same content
            raise
