"""Dockerfile and skaffold.yaml: what is built is what is deployed, and what is synced is there."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement

from .objects import Finding, Objects
from .variables import PACKAGES

Module = dict[str, Any]
_VERSION = "skaffold/v4beta13"
_OURS = re.compile(r"slipway-[a-z-]+")
_TOP = {
    "apiVersion", "kind", "metadata", "requires", "build", "test", "manifests", "render", "deploy",
    "portForward", "resourceSelector", "profiles", "customActions", "verify",
}  # fmt: skip


def check(root: Path, objects: Objects) -> Iterator[Finding]:
    """Yield a finding for each thing that would not build, or would be built and not used."""
    yield from _dockerfile(root)
    modules = list(yaml.load_all((root / "skaffold.yaml").read_text(), Loader=yaml.CSafeLoader))
    for module in modules:
        yield from _module(root, module)
    yield from _requires(modules)
    yield from _images(modules, objects)
    yield from _forwarded(modules, objects)
    yield from _requirements(root)


def _place(module: Module) -> str:
    return f"skaffold.yaml {(module.get('metadata') or {}).get('name', '?')}"


@lru_cache
def _linted(dockerfile: str) -> tuple[str, ...]:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [str(hadolint), "--no-color", "-"],
        input=dockerfile,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    return tuple(done.stdout.splitlines())


def _dockerfile(root: Path) -> Iterator[Finding]:
    text = (root / "Dockerfile").read_text()
    for line in _linted(text):
        yield Finding("Dockerfile", line.partition(":")[2].partition(" ")[0], line)
    stages = re.split(r"(?m)^FROM ", text)[1:]
    for stage in stages:
        name = re.search(r" AS (\S+)", stage)
        runs = re.search(r"(?m)^ENTRYPOINT", stage)
        user = re.search(r"(?m)^USER (\S+)", stage)
        if runs and (user is None or user[1].startswith(("0", "root"))):
            yield Finding("Dockerfile", f"stage {name[1] if name else '?'}", "USER is root")
    for source in re.findall(r"(?m)^COPY (?!--from)(?:--\S+ )*(\S+) ", text):
        if "${" not in source and not (root / source).exists():
            yield Finding("Dockerfile", f"COPY {source}", "there is no such path")


def _module(root: Path, module: Module) -> Iterator[Finding]:
    place = _place(module)
    if module.get("apiVersion") != _VERSION:
        yield Finding(place, "apiVersion", f"{module.get('apiVersion')!r} is not {_VERSION}")
    for key in sorted(set(module) - _TOP):
        yield Finding(place, key, "is no field of skaffold's Config")
    for artifact in (module.get("build") or {}).get("artifacts") or []:
        yield from _artifact(root, module, artifact)
    profiles = module.get("profiles") or []
    if not any(profile["name"] == "dev" for profile in profiles):
        yield Finding(place, "profiles", "has no profile 'dev'")
    for path in _overlays(module):
        if not (root / path / "kustomization.yaml").exists():
            yield Finding(place, "manifests.kustomize.paths", f"there is no kustomization in {path!r}")


def _overlays(module: Module) -> list[str]:
    paths = list(((module.get("manifests") or {}).get("kustomize") or {}).get("paths") or [])
    where = "/manifests/kustomize/paths"
    return paths + [patch["value"] for patch in _patches(module) if patch["path"].startswith(where)]


def _patches(module: Module) -> list[Module]:
    return [patch for profile in module.get("profiles") or [] for patch in profile.get("patches") or []]


def _artifact(root: Path, module: Module, artifact: Module) -> Iterator[Finding]:
    place, docker = _place(module), artifact["docker"]
    service = docker["buildArgs"].get("SERVICE", "")
    if "inputDigest" not in (module["build"].get("tagPolicy") or {}):
        yield Finding(place, "build.tagPolicy", "is not inputDigest: all would be built again")
    stages = re.findall(r"(?m)^FROM \S+ AS (\S+)", (root / docker["dockerfile"]).read_text())
    targets = [docker.get("target", "")]
    targets += [p["value"] for p in _patches(module) if p["path"].endswith("/docker/target")]
    for target in targets:
        if target not in stages:
            yield Finding(place, "docker.target", f"the Dockerfile has no stage {target!r}")
    if artifact["image"] != f"slipway-{service}":
        yield Finding(
            place, "artifacts.image", f"{artifact['image']!r} is not built from SERVICE={service!r}"
        )
    if docker["buildArgs"].get("PACKAGE") != PACKAGES.get(service):
        yield Finding(place, "docker.buildArgs.PACKAGE", f"is not the package of {service!r}")
    synced = [p["value"] for p in _patches(module) if p["path"].endswith("/sync")]
    for rule in (rule for value in synced for rule in value["manual"]):
        folder = rule["src"].partition("*")[0]
        if not (root / folder).is_dir():
            yield Finding(place, "sync.manual.src", f"there is no folder {folder!r}")
        if not rule["src"].startswith(rule.get("strip", "")):
            yield Finding(place, "sync.manual.strip", f"{rule['strip']!r} does not begin {rule['src']!r}")


def _requires(modules: list[Module]) -> Iterator[Finding]:
    names = {module["metadata"]["name"] for module in modules}
    required = {name for module in modules for r in module.get("requires") or [] for name in r["configs"]}
    for name in sorted(required - names):
        yield Finding("skaffold.yaml", "requires", f"there is no module {name!r}")
    for name in sorted(names - required - {"slipway"}):
        yield Finding("skaffold.yaml", "requires", f"nothing requires the module {name!r}")


def _images(modules: list[Module], objects: Objects) -> Iterator[Finding]:
    built = {a["image"] for m in modules for a in (m.get("build") or {}).get("artifacts") or []}
    used: dict[str, str] = {}
    for pod in objects.pods():
        for path, container in pod.containers():
            if _OURS.fullmatch(container["image"]):
                used[container["image"]] = f"{pod.where}: {path}.image"
    models = objects.find("ConfigMap", "slipway", "rollout-models")
    if models is not None:
        used[models["data"]["SLIPWAY_MODEL_IMAGE"]] = "ConfigMap slipway/rollout-models: SLIPWAY_MODEL_IMAGE"
    for image in sorted(set(used) - built):
        place, _, field = used[image].partition(": ")
        yield Finding(place, field, f"nothing builds {image!r}")
    for image in sorted(built - set(used)):
        yield Finding("skaffold.yaml", "artifacts.image", f"nothing runs {image!r}")


def _forwarded(modules: list[Module], objects: Objects) -> Iterator[Finding]:
    for module in modules:
        for forward in module.get("portForward") or []:
            service = objects.find("Service", forward["namespace"], forward["resourceName"])
            ports = [port["port"] for port in (service or {"spec": {"ports": []}})["spec"]["ports"]]
            if forward["port"] not in ports:
                name = f"{forward['namespace']}/{forward['resourceName']}"
                yield Finding(
                    _place(module), "portForward", f"there is no Service {name} with port {forward['port']}"
                )


def check_synced(root: Path, objects: Objects) -> Iterator[Finding]:
    """Yield a finding for each container that development copies files into, and cannot, or never ends."""
    modules = yaml.load_all((root / "skaffold.yaml").read_text(), Loader=yaml.CSafeLoader)
    synced = {
        module["build"]["artifacts"][0]["image"]
        for module in modules
        if any(patch["path"].endswith("/sync") for patch in _patches(module))
    }
    for pod in objects.pods():
        for path, container in pod.containers():
            if container["image"] not in synced:
                continue
            if path.startswith("initContainers"):
                if "service" not in "".join(container.get("command") or []):
                    problem = "is not said: development's entry point waits for changes and never ends"
                    yield Finding(pod.where, f"{path}.command", problem)
            elif container["securityContext"].get("readOnlyRootFilesystem") is not False:
                problem = "is not false: files are synced into it"
                yield Finding(pod.where, f"{path}.securityContext.readOnlyRootFilesystem", problem)


def _requirements(root: Path) -> Iterator[Finding]:
    """Compare what the image installs with what the packages say that they need."""
    script = "deploy/docker/requirements.py"
    text = (root / script).read_text()
    for service in PACKAGES:
        needed = _needed(root, f"services/{service}", frozenset())
        for name in sorted(needed - _installed(text, root.resolve(), service)):
            yield Finding(script, service, f"leaves {name!r} out, which the service imports")


_seen: dict[tuple[str, str], frozenset[str]] = {}


def _installed(script: str, root: Path, service: str) -> frozenset[str]:
    """Return what the script prints; it is asked once, since faults in it are planted in its text."""
    if (script, service) not in _seen:
        command = [sys.executable, "-c", script, service]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=200, check=True)
        _seen[script, service] = frozenset(done.stdout.split())
    return _seen[script, service]


def _needed(root: Path, folder: str, extras: frozenset[str]) -> set[str]:
    project = tomllib.loads((root / folder / "pyproject.toml").read_text())["project"]
    listed = list(project.get("dependencies", []))
    for extra in extras:
        listed += project["optional-dependencies"][extra]
    needed: set[str] = set()
    for text in listed:
        requirement = Requirement(text)
        home = f"libs/{requirement.name.removeprefix('slipway-')}"
        if requirement.name.startswith("slipway"):
            needed |= _needed(root, home, frozenset(requirement.extras))
        else:
            needed.add(text)
    return needed
