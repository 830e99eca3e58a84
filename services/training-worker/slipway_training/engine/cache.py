"""Folders on a worker's disk that the next attempt may use again: bounded, the longest unused go first.

Who uses a folder holds a shared lock of the kernel (flock(2)), which a killed process loses as it dies; only
who gets that lock alone may remove the folder. It is renamed first, so that no half of it is ever found.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_USED = ".used.lock"


class FolderCache:
    """Folders by name below one folder, which several processes may share.

    Args:
        folder: Made when it is not there.
        max_bytes: Of all folders that nobody uses; more are removed.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    @contextmanager
    def hold(self, name: str) -> Iterator[Path]:
        """Yield the folder of that name, there or not; it stays until the end, which looks at the bound."""
        with self._locked(_USED, fcntl.LOCK_SH), self._locked(f".{name}.lock", fcntl.LOCK_SH) as lock:
            os.utime(lock)
            try:
                yield self._folder / name
            finally:
                os.utime(lock)
        self.evict()

    def replace(self, stem: str, name: str) -> None:
        """Remove the folders whose names begin with the stem, but the one of that name; one in use stays."""
        for path in self._folder.glob(f"{stem}*"):
            if path.name != name:
                self._remove(path)

    def evict(self) -> None:
        """Remove the longest unused folders until the bound holds; one in use stays."""
        found = sorted(self._folder.glob("[!.]*"), key=self._used_at)
        sizes = {path: sum(file.stat().st_size for file in _files(path)) for path in found}
        left = sum(sizes.values())
        for path in found:
            if left <= self._max_bytes:
                return
            if self._remove(path):
                left -= sizes[path]

    def clear_leftovers(self) -> None:
        """Remove what killed processes left half done, unless another process is at work here."""
        with suppress(BlockingIOError), self._locked(_USED, fcntl.LOCK_EX | fcntl.LOCK_NB):
            for path in self._folder.glob(".*"):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)

    def _remove(self, path: Path) -> bool:
        lock = f".{path.name}.lock"
        doomed = Path(tempfile.mkdtemp(prefix=".evicted-", dir=self._folder))
        try:
            with self._locked(lock, fcntl.LOCK_EX | fcntl.LOCK_NB):
                path.rename(doomed / path.name)
                (self._folder / lock).unlink()
        except (BlockingIOError, FileNotFoundError):  # in use, or another process was faster
            return False
        finally:
            shutil.rmtree(doomed, ignore_errors=True)
        return True

    def _used_at(self, path: Path) -> float:
        for known in (self._folder / f".{path.name}.lock", path):
            with suppress(FileNotFoundError):
                return known.stat().st_mtime
        return 0.0

    @contextmanager
    def _locked(self, name: str, kind: int) -> Iterator[int]:
        path = self._folder / name
        while True:
            self._folder.mkdir(parents=True, exist_ok=True)  # somebody may have cleared the disk
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, kind)
                if _is(lock, path):
                    yield lock
                    return
            finally:
                os.close(lock)


def _is(lock: int, path: Path) -> bool:
    """Say whether an open lock is still the file of that name: it may have gone with its folder."""
    try:
        return os.fstat(lock).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
