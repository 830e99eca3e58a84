"""Each forbidden import, written into a copy of the tree, breaks the contract that is meant for it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = {
    "slipway_gateway": "gateway",
    "slipway_inference": "inference",
    "slipway_ingestion": "ingestion",
    "slipway_labeling": "labeling",
    "slipway_monitoring": "monitoring",
    "slipway_registry": "registry",
    "slipway_pipelines": "pipelines",
    "slipway_rollout": "rollout",
    "slipway_training": "training-worker",
}

FORBIDDEN = [
    (
        "slipway_registry/store/records.py",
        "from slipway_registry import usecases",
        "rooms are entered from above",
    ),
    ("slipway_registry/usecases/runs.py", "from slipway_registry import api", "rooms are entered from above"),
    ("slipway_training/domain.py", "from slipway_training import engine", "rooms are entered from above"),
    ("slipway_rollout/usecases/endpoints.py", "import slipway_registry.domain", "no service imports another"),
    ("slipway_monitoring/api/servicer.py", "import slipway_gateway.domain", "no service imports another"),
    ("slipway_runtime/errors.py", "import slipway_registry.domain", "runtime knows no service"),
    ("slipway_ingestion/domain.py", "import grpc", "domain does no I/O"),
    ("slipway_ingestion/domain.py", "import sqlalchemy", "domain does no I/O"),
    ("slipway_registry/domain/records.py", "import slipway.registry.v1.registry_pb2", "domain does no I/O"),
    ("slipway_inference/engine/__init__.py", "import sqlalchemy", "an engine knows no store and no wire"),
    (
        "slipway_registry/usecases/runs.py",
        "from slipway_registry import config",
        "settings are read by main alone",
    ),
    ("slipway_training/usecases/jobs.py", "import celery", "Celery is spoken in the runtime alone"),
    ("slipway_registry/store/records.py", "import torch", "torch lives in the engines"),
    ("slipway_training/api.py", "import torch", "torch lives in the engines"),
]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"}
    command = [str(Path(sys.executable).parent / "lint-imports"), "--config", str(ROOT / ".importlinter")]
    command += ["--cache-dir", str(folder / ".cache")]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=250)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imports")
    for package, service in SERVICES.items():
        shutil.copytree(ROOT / "services" / service / package, folder / package)
    shutil.copytree(ROOT / "libs/runtime/slipway_runtime", folder / "slipway_runtime")
    return folder


def test_the_tree_as_it_is_keeps_every_contract(tree: Path) -> None:
    result = lint(tree)

    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(("file", "line", "contract"), FORBIDDEN, ids=lambda value: str(value))
def test_a_forbidden_import_breaks_its_contract(tree: Path, file: str, line: str, contract: str) -> None:
    path = tree / file
    before = path.read_text()
    path.write_text(f"{before}\n{line}\n")

    result = lint(tree)

    path.write_text(before)
    broken = [row for row in result.stdout.splitlines() if row.endswith("BROKEN")]
    assert any(row.startswith(contract) for row in broken), result.stdout
