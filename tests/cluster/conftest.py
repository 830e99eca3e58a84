"""Makes `checks` importable and gives tests a copy of the cluster files that they may damage."""

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy of the cluster files, beside links to the sources that they name."""
    shutil.copytree(ROOT / "deploy/k8s", tmp_path / "deploy/k8s")
    shutil.copytree(ROOT / "deploy/istio", tmp_path / "deploy/istio")
    shutil.copytree(ROOT / "deploy/docker", tmp_path / "deploy/docker")
    for name in ("Dockerfile", "skaffold.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("services", "libs", "proto", "constraints.txt"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path
