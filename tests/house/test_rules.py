"""House rules that import-linter cannot see, read off the sources."""

import ast
import importlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor import FileDescriptor

ROOT = Path(__file__).parents[2]
SERVICES = {
    "gateway": "slipway_gateway",
    "inference": "slipway_inference",
    "ingestion": "slipway_ingestion",
    "labeling": "slipway_labeling",
    "monitoring": "slipway_monitoring",
    "pipelines": "slipway_pipelines",
    "registry": "slipway_registry",
    "rollout": "slipway_rollout",
    "training-worker": "slipway_training",
}
ROOMS = {
    "main.py", "config.py", "api.py", "tasks.py", "usecases.py", "store.py", "clients.py", "engine",
    "domain.py", "migrations", "__init__.py", "py.typed", "api", "store", "clients", "usecases", "domain",
}  # fmt: skip
METRICS = {"Counter", "Gauge", "Histogram", "Summary"}
RUNTIME = ROOT / "libs/runtime/slipway_runtime"


def sources(folder: Path) -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(folder.rglob("*.py")):
        yield path, ast.parse(path.read_text(), str(path))


def package(service: str) -> Path:
    return ROOT / "services" / service / SERVICES[service]


def tracked(*patterns: str) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return listed.stdout.split()


def set_in(tree: ast.Module) -> set[int]:
    """Return the nodes X of every `X[...] = value`: writing a variable for a library is no reading."""
    stored = (n for n in ast.walk(tree) if isinstance(n, ast.Subscript) and isinstance(n.ctx, ast.Store))
    return {id(node.value) for node in stored}


def reads_environment(node: ast.AST, written: set[int]) -> bool:
    return isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"} and id(node) not in written


def called(node: ast.AST) -> str:
    if not isinstance(node, ast.Call):
        return ""
    target = node.func
    return target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")


def reasons_in(tree: ast.Module) -> set[str]:
    """Return every reason given to an error class: the first argument, or `reason=`."""
    found = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        values = [*node.args[:1], *(k.value for k in node.keywords if k.arg == "reason")]
        for value in values:
            text = str(value.value) if isinstance(value, ast.Constant) else ""
            if re.fullmatch(r"[A-Z]+(_[A-Z]+)+", text) and _is_error(called(node)):
                found.add(text)
    return found


def _is_error(name: str) -> bool:
    errors = importlib.import_module("slipway_runtime.errors")
    return name in {"of", "field"} or isinstance(getattr(errors, name, None), type)


def proto_of(service: str) -> FileDescriptor | None:
    name = "training" if service == "training-worker" else service
    try:
        return importlib.import_module(f"slipway.{name}.v1.{name}_pb2").DESCRIPTOR
    except ModuleNotFoundError:
        return None


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_only_the_rooms_of_the_plan(service: str) -> None:
    found = {path.name for path in package(service).iterdir() if path.name != "__pycache__"}

    assert found - ROOMS == set()


@pytest.mark.parametrize("service", SERVICES)
def test_the_environment_is_read_by_settings_alone(service: str) -> None:
    readers = [
        str(path)
        for path, tree in sources(package(service))
        for written in [set_in(tree)]
        for node in ast.walk(tree)
        if path.name != "config.py" and reads_environment(node, written)
    ]

    assert readers == []


@pytest.mark.parametrize("service", SERVICES)
def test_every_setting_says_what_it_means(service: str) -> None:
    settings = importlib.import_module(f"{SERVICES[service]}.config").Settings

    bare = [name for name, field in settings.model_fields.items() if not field.description]

    assert bare == []


@pytest.mark.parametrize("service", SERVICES)
def test_every_metric_stands_in_the_readme(service: str) -> None:
    readme = (package(service).parent / "README.md").read_text()
    names = [
        node.args[0].value
        for _, tree in sources(package(service))
        for node in ast.walk(tree)
        if called(node) in METRICS and node.args and isinstance(node.args[0], ast.Constant)
    ]

    assert [name for name in names if name not in readme] == []


@pytest.mark.parametrize("service", SERVICES)
def test_every_reason_in_the_code_stands_in_the_proto(service: str) -> None:
    proto = proto_of(service)
    if proto is None:
        pytest.skip(f"{service} has no proto of its own: its doors are REST or KServe's")
    documented = set(proto.enum_types_by_name["ErrorReason"].values_by_name)
    runtime = {reason for _, tree in sources(RUNTIME) for reason in reasons_in(tree)}

    used = {reason for _, tree in sources(package(service)) for reason in reasons_in(tree)}

    assert used - documented - runtime == set()


@pytest.mark.parametrize("service", SERVICES)
def test_no_service_imports_the_sdk_but_the_training_engine_its_task(service: str) -> None:
    sdk = ("slipway.client", "slipway.cli", "slipway.task", "slipway.checks")
    found = {
        (str(path.relative_to(ROOT)), name)
        for path, tree in sources(package(service))
        for name in imported(tree)
        if name.startswith(sdk)
    }

    engine = "services/training-worker/slipway_training/engine/"
    assert {(p, n) for p, n in found if not (p.startswith(engine) and n.startswith("slipway.task"))} == set()


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_celery_tasks_are_named_by_their_service_alone() -> None:
    dotted = [
        (str(path), node.args[0].value)
        for service in SERVICES
        for path, tree in sources(package(service))
        for node in ast.walk(tree)
        if called(node) in {"enqueue", "register"} and node.args
        and isinstance(node.args[0], ast.Constant) and "." in str(node.args[0].value)
    ]  # fmt: skip

    assert dotted == []


def test_no_generated_module_is_in_git() -> None:
    assert tracked("*_pb2.py", "*_pb2_grpc.py", "*_pb2.pyi") == []


def test_the_platform_does_not_know_the_example() -> None:
    word = re.compile(r"\bdigits\b", re.IGNORECASE)
    files = tracked("services", "libs", "deploy")

    assert [file for file in files if word.search((ROOT / file).read_text(errors="ignore"))] == []


def test_files_stay_readable_in_one_sitting() -> None:
    files = [file for file in tracked("*.py") if "/migrations/" not in file and "tests/" not in file]

    assert [file for file in files if len((ROOT / file).read_text().splitlines()) > 400] == []


def test_the_slipway_namespace_has_no_init() -> None:
    assert tracked("libs/slipway/slipway/__init__.py") == []


def test_helpers_of_tests_and_examples_have_names_of_their_own() -> None:
    """They share one `sys.path` in a session of all tests: of two of one name, one would get the other."""
    helpers = [
        file
        for file in tracked(
            "tests/*.py",
            "services/*/tests/*.py",
            "libs/*/tests/*.py",
            "deploy/local/tests/*.py",
            "examples/*.py",
        )
        if not Path(file).name.startswith(("test_", "conftest", "__init__"))
    ]
    places = {
        name: [file for file in helpers if Path(file).name == name]
        for name in {Path(f).name for f in helpers}
    }

    assert [files for files in places.values() if len(files) > 1] == []


@pytest.mark.xdist_group("kept-together")
def test_groups_of_tests_are_kept_together(request: pytest.FixtureRequest) -> None:
    """A pytest that xdist does not know yet ignores groups silently, and platforms start twice."""
    if os.environ.get("PYTEST_XDIST_WORKER"):
        assert request.node.nodeid.endswith("@kept-together")
