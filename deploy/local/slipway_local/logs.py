"""One bounded log per process: the process appends, the supervisor moves what has grown too long aside."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

BOUND_BYTES = 16 << 20


def open_log(folder: Path, name: str) -> int:
    """Return a descriptor that appends to the process's log."""
    return os.open(path_of(folder, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)


def path_of(folder: Path, name: str) -> Path:
    """Return where the process's log is."""
    return folder / f"{name}.log"


def bound(folder: Path, limit_bytes: int = BOUND_BYTES) -> None:
    """Move logs that are longer than the limit to `<name>.log.1`, and empty them.

    Writers append, so they go on at the new start; what they write between copy and cut is lost.
    """
    for path in folder.glob("*.log"):
        if path.stat().st_size > limit_bytes:
            shutil.copyfile(path, path.with_name(path.name + ".1"))
            os.truncate(path, 0)


def tail(path: Path, lines: int) -> list[str]:
    """Return the last lines of a log."""
    if lines <= 0 or not path.exists():
        return []
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        length = min(size, 400 * lines + 4096)
        while True:
            file.seek(size - length)
            found = file.read(length).splitlines()
            if len(found) > lines or length == size:
                return [line.decode(errors="replace") for line in found[-lines:]]
            length = min(size, length * 4)


def follow(path: Path, poll_s: float = 0.2) -> Iterator[str]:
    """Yield what is appended from now on, line by line, over cuts; ends never."""
    position = path.stat().st_size if path.exists() else 0
    rest = b""
    while True:
        size = path.stat().st_size if path.exists() else 0
        position = 0 if size < position else position
        if size == position:
            time.sleep(poll_s)
            continue
        with path.open("rb") as file:
            file.seek(position)
            found = file.read()
        position += len(found)
        *whole, rest = (rest + found).split(b"\n")
        yield from (line.decode(errors="replace") for line in whole)
