"""Spools of pods that are gone: bounded in sum, the oldest first, counted."""

import os
from pathlib import Path

from slipway_local import spools


def spool(folder: Path, pod: str, size: int, written_at: int) -> None:
    (folder / pod).mkdir(parents=True)
    segment = folder / pod / "000000000000.events"
    segment.write_bytes(b"x" * size)
    os.utime(segment, (written_at, written_at))


def test_the_oldest_orphans_go_first_and_what_went_is_counted(tmp_path: Path) -> None:
    for pod, written_at in (("old-v1-0", 1), ("older-v1-1", 0), ("new-v1-2", 2)):
        spool(tmp_path, pod, 100, written_at)

    spools.bound(tmp_path, [], most_bytes=100)

    assert [one["pod"] for one in spools.listed(tmp_path, [])] == ["new-v1-2"]
    assert spools.removed(tmp_path) == {"spools": 2, "bytes": 200}


def test_the_spool_of_a_living_pod_is_never_taken(tmp_path: Path) -> None:
    spool(tmp_path, "living-v1-0", 1000, 0)
    spool(tmp_path, "gone-v1-1", 10, 1)

    spools.bound(tmp_path, ["living-v1-0"], most_bytes=100)

    assert {one["pod"]: one["orphan"] for one in spools.listed(tmp_path, ["living-v1-0"])} == {
        "living-v1-0": False,
        "gone-v1-1": True,
    }
    assert spools.removed(tmp_path) == {"spools": 0, "bytes": 0}
