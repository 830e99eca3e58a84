"""Folders kept between attempts: bounded, the longest unused go first, never one in use."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from slipway_training.engine.cache import FolderCache

HOLDER = """
import sys
from pathlib import Path
from slipway_training.engine.cache import FolderCache
with FolderCache(Path(sys.argv[1]), 0).hold("held") as folder:
    (folder.parent / ".checkout-half").mkdir()
    print("holds", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Return a process that holds the folder `held` and is about to fill another."""
    fill(FolderCache(tmp_path, 1000), "held", 100)
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"holds\n"
    yield process
    process.kill()
    process.communicate()


def fill(cache: FolderCache, name: str, size: int, used_at: int = 0) -> None:
    with cache.hold(name) as folder:
        folder.mkdir()
        (folder / "bytes").write_bytes(b"x" * size)
    if used_at:
        os.utime(folder.parent / f".{name}.lock", (used_at, used_at))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def test_the_longest_unused_folders_go_when_the_bound_is_passed(tmp_path: Path) -> None:
    cache = FolderCache(tmp_path, 250)
    fill(cache, "first", 100, used_at=1)
    fill(cache, "second", 100, used_at=2)
    with cache.hold("first"):
        pass  # used again: now the second is the longest unused

    fill(cache, "third", 100)

    assert names(tmp_path) == ["first", "third"]
    assert not (tmp_path / ".second.lock").exists()


def test_a_folder_that_this_process_uses_stays(tmp_path: Path) -> None:
    cache = FolderCache(tmp_path, 100)
    fill(cache, "used", 100, used_at=1)

    with cache.hold("used"):
        fill(cache, "other", 100)

        assert names(tmp_path) == ["used"]


def test_what_another_process_uses_stays_until_it_is_killed(
    tmp_path: Path, holder: subprocess.Popen[bytes]
) -> None:
    cache = FolderCache(tmp_path, 0)

    cache.evict()
    cache.clear_leftovers()
    while_held = names(tmp_path)
    holder.send_signal(signal.SIGKILL)
    holder.wait(60)
    cache.evict()
    cache.clear_leftovers()

    assert while_held == [".checkout-half", "held"]
    assert names(tmp_path) == []


def test_a_folder_can_be_made_again_after_it_was_removed(tmp_path: Path) -> None:
    cache = FolderCache(tmp_path, 0)
    fill(cache, "one", 100)

    with cache.hold("one") as folder:
        folder.mkdir()

        assert names(tmp_path) == ["one"]


def test_a_folder_of_before_is_replaced_by_its_name_and_others_stay(tmp_path: Path) -> None:
    cache = FolderCache(tmp_path, 1000)
    for name in ("abc", "abc-1", "abd"):
        fill(cache, name, 10)

    cache.replace("abc", "abc-2")
    cache.replace("abd", "abd")

    assert names(tmp_path) == ["abd"]


def test_a_folder_of_before_that_is_in_use_stays(holder: subprocess.Popen[bytes], tmp_path: Path) -> None:
    FolderCache(tmp_path, 1000).replace("held", "held-1")

    assert "held" in names(tmp_path)
