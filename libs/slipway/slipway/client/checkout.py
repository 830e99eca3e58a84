"""A commit as a local folder: files under their keys, and `examples.jsonl`, which imports as it is.

Only blobs that the cache lacks are fetched. The folder appears whole or not at all, and what somebody
changed in it is never overwritten unasked.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from blake3 import blake3
from slipway.client.blobs import BlobCache, default_cache
from slipway.client.errors import SlipwayError
from slipway.ingestion.v1 import ingestion_pb2 as ing

MANIFEST = "examples.jsonl"
_STATE = ".slipway-checkout.json"
_KEYS_PER_READ = 1000
_NAMELESS = "by-digest"  # the folder of examples whose key can be no path
_SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg", "text/plain": ".txt"}
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Checkout:
    """What a checkout did.

    Args:
        commit: Full name.
        folder: Where it lies.
        examples: Files in it.
        fetched: Blobs that the cache did not have.
        fetched_bytes: Their size.
    """

    commit: str
    folder: Path
    examples: int
    fetched: int
    fetched_bytes: int


def check_out(
    ingestion: Any,
    commit: str,
    folder: Path,
    *,
    split: str = "",
    force: bool = False,
    cache: Path | None = None,
    progress: Progress = lambda done, total: None,
) -> Checkout:
    """Bring a commit to a folder.

    Args:
        ingestion: The ingestion service.
        commit: `datasets/{dataset}/commits/{digest}`.
        folder: New, empty, or an earlier checkout, which is replaced.
        split: Only this one, when set.
        force: Replace an earlier checkout though its files were changed since.
        cache: Where blobs are kept; default: `default_cache()`.
        progress: Called with files written and files in all.

    Raises:
        SlipwayError: The folder holds something else or was changed, the commit is unknown, or bytes
            arrived damaged. The folder is then as it was.
    """
    target = folder.absolute()
    _refuse_foreign(target, force)
    listing = ing.ReadExamplesRequest(commit=commit, split=split, rows_only=True)
    rows = [one.example for part in ingestion.ReadExamples(listing) for one in part.examples]
    blobs = BlobCache(cache or default_cache())
    target.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        writer = _Writer(building, rows, lambda done: progress(done, len(rows)))
        fetched = list(_fill(ingestion, commit, rows, blobs, writer))
        writer.finish(commit)
        _swap(building, target)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return Checkout(commit, folder, len(rows), len(fetched), sum(fetched))


def _fill(
    ingestion: Any, commit: str, rows: Sequence[ing.Example], blobs: BlobCache, writer: "_Writer"
) -> Iterator[int]:
    """Write every row's file, out of the cache or fetched; yield the size of each blob fetched."""
    missing: dict[str, list[ing.Example]] = {}
    for row in rows:
        data = None if row.blob in missing else blobs.get(row.blob)
        if data is None:
            missing.setdefault(row.blob, []).append(row)
        else:
            writer.write(row, data)
    wanted = [same[0].key for same in missing.values()]
    for start in range(0, len(wanted), _KEYS_PER_READ):
        keys = wanted[start : start + _KEYS_PER_READ]
        for part in ingestion.ReadExamples(ing.ReadExamplesRequest(commit=commit, keys=keys)):
            for one in part.examples:
                blobs.put(one.example.blob, one.data)
                for row in missing.pop(one.example.blob, ()):
                    writer.write(row, one.data)
                yield len(one.data)
    if missing:
        some = ", ".join(same[0].key for same in list(missing.values())[:3])
        text = f"{commit}: {len(missing)} blobs did not come, of {some} and others; try again"
        raise SlipwayError("DATA_LOSS", "DAMAGED_BLOB", text)


class _Writer:
    """Writes files and, at the end, what lists them.

    Args:
        folder: Where to.
        rows: All that will be written.
        progress: Called with the files written.
    """

    def __init__(self, folder: Path, rows: Sequence[ing.Example], progress: Callable[[int], None]) -> None:
        self._folder = folder
        self._progress = progress
        self._places = _places(rows)
        self._rows: list[dict[str, str]] = []

    def write(self, row: ing.Example, data: bytes) -> None:
        """Write one example's bytes below the folder."""
        path = self._places[row.key]
        target = self._folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        facts = {"path": path, "key": row.key, "label": row.label, "label_source": row.label_source}
        facts |= {"group": row.group, "split": row.split, "blob": row.blob}
        self._rows.append({**row.attributes, **facts})
        self._progress(len(self._rows))

    def finish(self, commit: str) -> None:
        """Write the manifest, ordered by key, and what the folder is a checkout of."""
        self._rows.sort(key=lambda row: row["key"].encode())
        manifest = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in self._rows).encode()
        (self._folder / MANIFEST).write_bytes(manifest)
        files = {row["path"]: row["blob"] for row in self._rows} | {MANIFEST: blake3(manifest).hexdigest()}
        (self._folder / _STATE).write_text(json.dumps({"commit": commit, "files": files}))


def _places(rows: Sequence[ing.Example]) -> dict[str, str]:
    """Return each key's path: itself where it can be one, else a name made of its digest."""
    keys = [row.key for row in rows]
    folders = {str(parent) for key in keys for parent in PurePosixPath(key).parents}
    return {
        row.key: row.key if _is_path(row.key) and row.key not in folders else _nameless(row) for row in rows
    }


def _is_path(key: str) -> bool:
    parts = key.split("/")
    plain = all(part and not part.startswith(".") and len(part.encode()) < 250 for part in parts)
    return plain and parts[0] not in (MANIFEST, _NAMELESS)


def _nameless(row: ing.Example) -> str:
    return f"{_NAMELESS}/{blake3(row.key.encode()).hexdigest()[:32]}{_SUFFIXES.get(row.media_type, '')}"


def _refuse_foreign(folder: Path, force: bool) -> None:
    """Refuse a folder that holds anything but an unchanged checkout."""
    if not folder.exists():
        return
    if not folder.is_dir() or folder.is_symlink():
        raise _refused(f"{folder} is no folder; name another")
    state = folder / _STATE
    if not state.exists():
        if any(folder.iterdir()):
            raise _refused(f"{folder} holds files that are of no checkout; name a new or an empty folder")
        return
    changed = [] if force else list(_changed(folder, json.loads(state.read_text())["files"]))
    if changed:
        some = ", ".join(sorted(changed)[:3])
        raise _refused(
            f"{folder} was changed since its checkout ({len(changed)} files, such as {some}); "
            "name another folder, or say --force to lose the changes"
        )


def _changed(folder: Path, files: dict[str, str]) -> Iterator[str]:
    """Yield the paths that were changed, added or removed."""
    seen = set()
    for root, _, names in os.walk(folder):
        for name in names:
            path = (Path(root) / name).relative_to(folder).as_posix()
            if path == _STATE:
                continue
            seen.add(path)
            if path not in files or blake3((folder / path).read_bytes()).hexdigest() != files[path]:
                yield path
    yield from files.keys() - seen


def _swap(building: Path, folder: Path) -> None:
    """Put the new folder where the old one is; the old one goes when the new one is there."""
    os.chmod(building, 0o755)
    if not folder.exists():
        building.rename(folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
    folder.rename(old / "folder")
    try:
        building.rename(folder)
    except OSError:
        (old / "folder").rename(folder)
        raise
    shutil.rmtree(old)


def _refused(message: str) -> SlipwayError:
    return SlipwayError("FAILED_PRECONDITION", "FOLDER_REFUSED", message)


__all__ = ["MANIFEST", "Checkout", "check_out"]
