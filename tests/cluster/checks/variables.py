"""Every environment variable is a field of the service's Settings, with a value that they take."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .objects import Finding, Manifest, Objects, Pod

_SERVICES = Path(__file__).resolve().parents[3] / "services"
PACKAGES = {path.parent.parent.name: path.parent.name for path in _SERVICES.glob("*/slipway_*/main.py")}
_PREFIX = "SLIPWAY_"
_SECRETS = {
    "SLIPWAY_DATABASE_URL": "postgresql+psycopg://s:w@h:5432/d",
    "SLIPWAY_BROKER_URL": "redis://h:6379/0",
}


def check(objects: Objects) -> Iterator[Finding]:
    """Yield a finding for each variable that nobody reads, is missing, or has a wrong value."""
    for pod in objects.pods():
        for path, container in pod.containers():
            service = str(container["image"]).rpartition("/")[2].partition(":")[0].removeprefix("slipway-")
            if service in PACKAGES:
                yield from _container(objects, pod, path, container, service)
    yield from _model_pods(objects)


def _container(objects: Objects, pod: Pod, path: str, container: Manifest, service: str) -> Iterator[Finding]:
    try:
        settings = _settings(service)
    except ImportError as error:
        yield Finding(pod.where, f"{path}.image", f"the service has no Settings ({error})")
        return
    values = dict(given(objects, pod, container))
    fields = {_PREFIX + name.upper() for name in settings.model_fields}
    for name in values:
        if name.startswith(_PREFIX) and name not in fields:
            yield Finding(
                pod.where, f"{path}.env.{name}", f"is no field of {PACKAGES[service]}.config.Settings"
            )
    try:
        settings.from_env({name: value for name, value in values.items() if name in fields})
    except Exception as error:
        yield Finding(pod.where, f"{path}.env", f"the Settings refuse it: {error}")


def given(objects: Objects, pod: Pod, container: Manifest) -> Iterator[tuple[str, str]]:
    """Yield name and value of each variable of a container; of a secret one, what stands for it."""
    for source in container.get("envFrom") or []:
        found = objects.find("ConfigMap", pod.namespace, (source.get("configMapRef") or {}).get("name", ""))
        yield from ((found or {}).get("data") or {}).items()
    for variable in container.get("env") or []:
        secret = "valueFrom" in variable
        value = _SECRETS.get(variable["name"], "secret") if secret else variable.get("value", "")
        yield variable["name"], str(value)


def addresses(objects: Objects, pod: Pod, container: Manifest) -> Iterator[tuple[str, str]]:
    """Yield name and value of each variable as `given` does, and of those that are left to the Settings."""
    told = dict(given(objects, pod, container))
    yield from told.items()
    service = str(container["image"]).rpartition("/")[2].partition(":")[0].removeprefix("slipway-")
    if service in PACKAGES:
        for field, info in _settings(service).model_fields.items():
            if _PREFIX + field.upper() not in told and isinstance(info.default, str):
                yield _PREFIX + field.upper(), info.default


def _model_pods(objects: Objects) -> Iterator[Finding]:
    """Check the variables that rollout gives to model pods."""
    settings = objects.find("ConfigMap", "slipway", "rollout-models")
    if settings is None:
        yield Finding(
            "ConfigMap slipway/rollout-models", "metadata.name", "is missing: rollout starts no pods"
        )
        return
    try:
        fields = {_PREFIX + name.upper() for name in _settings("inference").model_fields}
    except ImportError as error:
        yield Finding("ConfigMap slipway/rollout-models", "data", f"inference has no Settings ({error})")
        return
    for pair in settings["data"].get("SLIPWAY_MODEL_ENVIRONMENT", "").split(","):
        name = pair.partition("=")[0].strip()
        if name and name not in fields:
            field = "data.SLIPWAY_MODEL_ENVIRONMENT"
            problem = f"{name} is no field of slipway_inference.config.Settings"
            yield Finding("ConfigMap slipway/rollout-models", field, problem)


def _settings(service: str) -> Any:
    return importlib.import_module(f"{PACKAGES[service]}.config").Settings
