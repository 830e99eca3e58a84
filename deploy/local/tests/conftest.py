"""Platforms and supervisors in temporary folders, at ports that are free."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from slipway_local import platform, stand_ins
from slipway_local.layout import Layout
from slipway_local.testing_ports import free_port_base


@pytest.fixture
def layout(tmp_path: Path) -> Iterator[Layout]:
    """Return the layout of a new platform; data that had to lie elsewhere are removed."""
    made = Layout(tmp_path / ".slipway", free_port_base())
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
