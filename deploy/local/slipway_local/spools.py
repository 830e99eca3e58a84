"""Events that pods have not delivered: one folder per pod, kept when the pod is gone, bounded in sum.

A spool whose pod is gone is an orphan. Each is as large as a pod's own bound allows, and every deployment
may leave one: the oldest go when all orphans together pass the bound, and what went is counted.
"""

import json
import logging
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

MOST_ORPHAN_BYTES = 1 << 30
_REMOVED = ".removed.json"


def listed(folder: Path, living: Collection[str]) -> list[dict[str, Any]]:
    """Return what pods have not delivered, the longest untouched first."""
    spools = [_spool(path, living) for path in folder.iterdir() if path.is_dir()]
    return sorted((one for one in spools if one["bytes"]), key=lambda one: float(one["written_at"]))


def removed(folder: Path) -> dict[str, int]:
    """Return how many orphans, and how many bytes of theirs, the bound has cost so far."""
    try:
        found = json.loads((folder / _REMOVED).read_text())
        return {"spools": int(found["spools"]), "bytes": int(found["bytes"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {"spools": 0, "bytes": 0}


def bound(folder: Path, living: Collection[str], most_bytes: int = MOST_ORPHAN_BYTES) -> None:
    """Remove the oldest orphans until the others are `most_bytes` at most, and count them."""
    orphans = [one for one in listed(folder, living) if one["orphan"]]
    left = sum(one["bytes"] for one in orphans)
    for one in orphans:
        if left <= most_bytes:
            return
        left -= one["bytes"]
        log.warning("the events of %s are removed (%d bytes): its pod is gone", one["pod"], one["bytes"])
        _count(folder, one["bytes"])  # first: what is counted twice by a kill is better than not at all
        shutil.rmtree(folder / one["pod"], ignore_errors=True)


def _count(folder: Path, size: int) -> None:
    before = removed(folder)
    text = json.dumps({"spools": before["spools"] + 1, "bytes": before["bytes"] + size})
    temporary = folder / f"{_REMOVED}.new"
    temporary.write_text(text)
    os.replace(temporary, folder / _REMOVED)


def _spool(path: Path, living: Collection[str]) -> dict[str, Any]:
    """Describe one folder; a file that its pod removes meanwhile counts nothing."""
    size, written_at = 0, 0.0
    for file in path.rglob("*"):
        try:
            status = file.stat()
        except FileNotFoundError:
            continue
        if file.is_file():
            size, written_at = size + status.st_size, max(written_at, status.st_mtime)
    return {"pod": path.name, "orphan": path.name not in living, "bytes": size, "written_at": written_at}
