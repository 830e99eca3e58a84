"""Platforms and supervisors in temporary folders, at ports that are free."""

import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from slipway_local import platform, stand_ins
from slipway_local.layout import Layout
from slipway_local.ports import is_free


def free_base() -> int:
    """Return a port base whose ports are free, SeaweedFS's gRPC ports too."""
    while True:
        base = 21_000 + 200 * secrets.randbelow(5)
        if all(is_free(port) for port in (*range(base, base + 80), *range(base + 10_007, base + 10_011))):
            return base


@pytest.fixture
def layout(tmp_path: Path) -> Iterator[Layout]:
    """Return the layout of a new platform; data that had to lie elsewhere are removed."""
    made = Layout(tmp_path / ".slipway", free_base())
    made.make_folders()
    yield made
    if made.folder("pg").is_symlink():
        made.folder("pg").unlink()
    for stand_in in stand_ins.without_a_link(made.folder("pg")):
        shutil.rmtree(stand_in, ignore_errors=True)


@pytest.fixture
def started(layout: Layout) -> Iterator[Layout]:
    """Return a layout whose platform is stopped after the test, whatever it does."""
    yield layout
    platform.down(layout)
