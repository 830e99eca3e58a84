"""A task's folder as an archive: the same files give the same bytes."""

import gzip
import io
import tarfile
from pathlib import Path

from slipway.client.errors import SlipwayError

MAX_BYTES = 10 << 20
_SKIPPED = {
    "__pycache__",
    ".git",
    ".venv",
    ".slipway",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    ".DS_Store",
}


def pack_folder(folder: Path) -> bytes:
    """Return the folder as tar.gz: sorted, without times and owners, caches left out.

    Raises:
        SlipwayError: There is nothing in it, a link or a device, or more than 10 MiB.
    """
    if not folder.is_dir():
        raise _refused(f"{folder} is not a folder; name the one that holds the task's file")
    files = [path for path in sorted(folder.rglob("*")) if not _SKIPPED & set(path.relative_to(folder).parts)]
    odd = next((path for path in files if path.is_symlink() or not (path.is_file() or path.is_dir())), None)
    if odd is not None:
        raise _refused(f"{odd} is a link or a device; replace it by the file itself")
    files = [path for path in files if path.is_file() and path.suffix != ".pyc"]
    if not files:
        raise _refused(f"{folder} holds no file")
    size = sum(path.stat().st_size for path in files)
    if size > MAX_BYTES:
        raise _refused(f"{folder} holds {size} bytes, at most {MAX_BYTES} are taken; keep data in a data set")
    return _archive(folder, files)


def _archive(folder: Path, files: list[Path]) -> bytes:
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, filename="") as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for path in files:
            data = path.read_bytes()
            entry = tarfile.TarInfo(path.relative_to(folder).as_posix())
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def _refused(message: str) -> SlipwayError:
    return SlipwayError("INVALID_ARGUMENT", "TASK_CODE_REFUSED", message)
