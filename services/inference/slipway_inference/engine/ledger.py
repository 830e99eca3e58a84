"""Who a spool is and how far it is: identity, sequences given out, sequences acknowledged.

The counts are in a mapped file. The kernel holds its pages, so a killed process loses none of them, and a
reply path may count without a system call. What a machine's fall may lose of them is made good from the
records, and `sync` makes it durable before records go.

A folder that is copied has its files in other inodes: who finds a ledger that does not lie where it was made
holds a copy, and a copy must not give out the original's sequences again.
"""

import fcntl
import json
import mmap
import os
import struct
import uuid
from pathlib import Path

_MAGIC = b"slpspool"
_CELLS = struct.Struct("<8sQQQQ")
_INODE, _PRODUCED, _ACKNOWLEDGED, _CLOSING = 1, 2, 3, 4
SUFFIX = ".ledger"


class LedgerUnusable(Exception):
    """The file is not a ledger, or another process has it; the text says which."""


class Ledger:
    """The ledger of one spool, locked for as long as it is open.

    Args:
        path: Its file; `create` makes one.

    Raises:
        LedgerUnusable: It is damaged, or another process has it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.identity = path.stem
        self._descriptor = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.endpoint, self.model_version = self._about()
            self._map = mmap.mmap(self._descriptor, _CELLS.size)
        except BlockingIOError as error:
            os.close(self._descriptor)
            raise LedgerUnusable(f"{path} is another process's, which still runs") from error
        except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
            os.close(self._descriptor)
            raise LedgerUnusable(f"{path} is damaged ({error})") from error
        self._cells = memoryview(self._map).cast("Q")

    @classmethod
    def create(cls, folder: Path, endpoint: str, model_version: str) -> "Ledger":
        """Make a spool's ledger with an identity of its own, durably."""
        path = folder / f"{uuid.uuid4()}{SUFFIX}"
        beside = path.with_suffix(".new")
        about = json.dumps({"endpoint": endpoint, "model_version": model_version}).encode()
        with beside.open("wb") as file:
            file.write(_CELLS.pack(_MAGIC, os.fstat(file.fileno()).st_ino, 0, 0, 0) + about)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        return cls(path)

    def _about(self) -> tuple[str, str]:
        data = self._path.read_bytes()
        if _CELLS.unpack_from(data)[0] != _MAGIC:
            raise ValueError("it does not begin as a ledger does")
        about = json.loads(data[_CELLS.size :])
        return str(about["endpoint"]), str(about["model_version"])

    @property
    def original(self) -> bool:
        """Whether this is the file that was made, and no copy of it."""
        return self._cells[_INODE] == os.fstat(self._descriptor).st_ino

    @property
    def produced(self) -> int:
        """The highest sequence given out."""
        return self._cells[_PRODUCED]

    @produced.setter
    def produced(self, sequence: int) -> None:
        self._cells[_PRODUCED] = sequence

    @property
    def acknowledged(self) -> int:
        """The sequence up to which nothing needs to be kept."""
        return self._cells[_ACKNOWLEDGED]

    @acknowledged.setter
    def acknowledged(self, sequence: int) -> None:
        self._cells[_ACKNOWLEDGED] = sequence

    @property
    def closing(self) -> bool:
        """Whether its end has been told, or was about to be."""
        return self._cells[_CLOSING] == 1

    def begin_closing(self) -> None:
        """Give out no more sequences, ever; durable when this returns."""
        self._cells[_CLOSING] = 1
        self.sync()

    def sync(self) -> None:
        """Make the counts durable; `fsync` lets other threads run meanwhile, `msync` of mmap does not."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Let go of it; the next process may take it."""
        self._cells.release()
        self._map.close()
        os.close(self._descriptor)

    def remove(self) -> None:
        """Forget the spool."""
        self._path.unlink(missing_ok=True)
