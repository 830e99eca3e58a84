"""One platform per session in a folder of its own; keys, objects and sizes for the campaigns."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
CONTRACT = ROOT / "tests/contract"
for folder in (
    CONTRACT, CONTRACT / "gateway", CONTRACT / "rollout", CONTRACT / "pipelines", ROOT / "tests/e2e",
    ROOT / "examples/digits",
):  # fmt: skip
    sys.path.insert(0, str(folder))

from laptop_platform import Platform  # noqa: E402
from running import Keys  # noqa: E402
from served import Taught, teach  # noqa: E402
from slipway.client import Client  # noqa: E402
from slipway_local.testing_ports import free_port_base  # noqa: E402


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """Return the keys that the services of a test accept."""
    return Keys(tmp_path / "keys")


@pytest.fixture
def objects(s3: Any) -> dict[str, str]:
    """Return the S3 settings of a fresh bucket."""
    return s3.fresh_settings()


@pytest.fixture(scope="package")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Return a running platform; it is stopped after the last of these tests."""
    running = Platform(tmp_path_factory.mktemp("platform"), free_port_base())
    running.slipway("up", "--port-base", str(running.port_base))
    before = os.getcwd()
    os.chdir(running.folder)
    yield running
    os.chdir(before)
    running.slipway("down")
    data = (running.state / "pg").resolve()
    if not data.is_relative_to(running.state.resolve()):  # below /var/tmp, where its account can enter
        shutil.rmtree(data.parent)


@pytest.fixture(scope="package")
def taught(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Taught:
    """Return what the platform was taught, once for all tests."""
    with Client.local() as client:
        return teach(client, tmp_path_factory.mktemp("taught"))
