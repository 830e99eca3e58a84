"""Every field is one that the API knows, and of the type it wants."""

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import kubernetes_validate
from pydantic import ValidationError

from .objects import Finding, Manifest, Objects, where

KUBERNETES = "1.37"
_ISTIO = {
    "networking.istio.io/v1": (
        "networking.v1",
        ("Gateway", "VirtualService", "DestinationRule", "ServiceEntry"),
    ),
    "security.istio.io/v1": (
        "security.v1",
        ("AuthorizationPolicy", "PeerAuthentication", "RequestAuthentication"),
    ),
    "telemetry.istio.io/v1": ("telemetry.v1", ("Telemetry",)),
}
_UNCHECKED = {"EnvoyFilter"}  # its patches are free-form Envoy configuration


def check(objects: Objects) -> Iterator[Finding]:
    """Yield a finding for each object that the API server would refuse, or prune in silence."""
    for manifest in objects.all:
        text = json.dumps(manifest, sort_keys=True)
        for field, problem in _problems(text):
            yield Finding(where(manifest), field, problem)


@lru_cache(maxsize=4096)
def _problems(text: str) -> tuple[tuple[str, str], ...]:
    manifest = json.loads(text)
    if ".istio.io/" in manifest["apiVersion"]:
        return tuple(_istio(manifest))
    try:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        path = ".".join(str(part) for part in error.path)
        return ((path or "(top)", str(error.message)),)
    except kubernetes_validate.SchemaNotFoundError:
        return (("kind", f"{manifest['apiVersion']} has no {manifest['kind']}"),)
    return ()


def _istio(manifest: Manifest) -> Iterator[tuple[str, str]]:
    if manifest["kind"] in _UNCHECKED:
        return
    module, kinds = _ISTIO.get(manifest["apiVersion"], ("", ()))
    if manifest["kind"] not in kinds:
        yield "kind", f"{manifest['apiVersion']} has no {manifest['kind']} that we know"
        return
    model = getattr(_models(module), manifest["kind"])
    try:
        read = model.model_validate(manifest, extra="forbid")
    except ValidationError as error:
        for detail in error.errors():
            path = ".".join(str(part) for part in detail["loc"])
            yield path, f"{detail['msg']} ({detail['input']!r})"
        return
    written = read.model_dump(by_alias=True, exclude_unset=True, mode="json")
    yield from _lost(manifest.get("spec"), written.get("spec"), "spec")


@lru_cache
def _models(module: str) -> Any:
    import importlib

    return importlib.import_module(f"cloudcoil.models.istio.{module}")


def _lost(given: Any, kept: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield what the round trip through the typed model dropped."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for key, value in given.items():
            if key not in kept:
                yield f"{path}.{key}", "is no field of this kind: it would be pruned"
            else:
                yield from _lost(value, kept[key], f"{path}.{key}")
    elif isinstance(given, list) and isinstance(kept, list):
        for index, (one, other) in enumerate(zip(given, kept, strict=False)):
            yield from _lost(one, other, f"{path}[{index}]")
