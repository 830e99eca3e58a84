"""Checkpoint files: written whole or not at all, named by step and digest, verified before use.

Order of writing after sqlite.org/atomiccommit.html: temporary name, fsync, rename, fsync of the folder.
"""

import contextlib
import os
import re
from pathlib import Path

from blake3 import blake3

KEPT = 2
_NAME = re.compile(r"step-(\d{12})-([0-9a-f]{64})\.ckpt")


def write(folder: Path, step: int, data: bytes) -> Path:
    """Write a checkpoint durably; the newest two are kept, so that one is always whole."""
    path = folder / f"step-{step:012d}-{blake3(data).hexdigest()}.ckpt"
    temporary = folder / f".writing-{os.getpid()}"
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, path)
    _sync_folder(folder)
    for old in _by_step(folder)[KEPT:]:
        with contextlib.suppress(FileNotFoundError):
            old.unlink()
    return path


def newest(*folders: Path) -> Path | None:
    """Return the checkpoint of the highest step whose bytes have the digest in its name, or None."""
    for path in _by_step(*folders):
        if verifies(path):
            return path
    return None


def verifies(path: Path) -> bool:
    """Say whether a checkpoint's bytes have the digest in its name."""
    match = _NAME.fullmatch(path.name)
    try:
        return match is not None and blake3(path.read_bytes()).hexdigest() == match[2]
    except FileNotFoundError:  # pruned by its writer meanwhile
        return False


def step_of(name: str) -> int:
    """Return the step in a checkpoint's file name.

    Raises:
        ValueError: it is no checkpoint's name.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"'{name}' is no checkpoint's name")
    return int(match[1])


def _by_step(*folders: Path) -> list[Path]:
    paths = [path for folder in folders if folder.is_dir() for path in folder.iterdir()]
    found = [path for path in paths if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: path.name, reverse=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
