"""What an object must be before it is stored: the checks that a cluster's CRDs and policies make.

That of the weights is the ValidatingAdmissionPolicy that `deploy/k8s` ships: a cluster without it takes -5.
"""

import re
from collections.abc import Iterator
from typing import Any

Manifest = dict[str, Any]

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def troubles(manifest: Manifest) -> list[str]:
    """Return what is wrong with an object, by field; nothing when it may be stored."""
    name = manifest["metadata"].get("name", "")
    found = [] if _NAME.fullmatch(str(name)) else [f'metadata.name: Invalid value: "{name}": not a DNS label']
    checks = {
        "Deployment": _deployment,
        "Service": _service,
        "VirtualService": _virtual_service,
        "DestinationRule": _destination_rule,
    }
    spec = manifest.get("spec")
    if not isinstance(spec, dict):
        return [*found, "spec: Required value"]
    return [*found, *checks[manifest["kind"]](spec)]


def _deployment(spec: Manifest) -> Iterator[str]:
    replicas = spec.get("replicas", 1)
    if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
        yield f"spec.replicas: Invalid value: {replicas!r}: must be an integer of at least 0"
    selector = (spec.get("selector") or {}).get("matchLabels") or {}
    template = spec.get("template") or {}
    labels = (template.get("metadata") or {}).get("labels") or {}
    if not selector:
        yield "spec.selector: Required value"
    if any(labels.get(key) != value for key, value in selector.items()):
        yield "spec.template.metadata.labels: Invalid value: `selector` does not match template `labels`"
    if not (template.get("spec") or {}).get("containers"):
        yield "spec.template.spec.containers: Required value"


def _service(spec: Manifest) -> Iterator[str]:
    if not spec.get("ports"):
        yield "spec.ports: Required value"


def _virtual_service(spec: Manifest) -> Iterator[str]:
    if not spec.get("hosts"):
        yield "spec.hosts: Required value"
    for index, route in enumerate(spec.get("http") or []):
        weights = [destination.get("weight") for destination in route.get("route") or []]
        given = [weight for weight in weights if weight is not None]
        if any(not isinstance(weight, int) or isinstance(weight, bool) for weight in given):
            yield f"spec.http[{index}].route.weight: Invalid value: {given}: must be integers"
        elif any(weight < 0 for weight in given) or (len(weights) > 1 and sum(given) != 100):
            yield f"spec.http[{index}].route.weight: weights {given} must be at least 0 and sum to 100"


def _destination_rule(spec: Manifest) -> Iterator[str]:
    if not spec.get("host"):
        yield "spec.host: Required value"
    names = [subset.get("name") for subset in spec.get("subsets") or []]
    if len(names) != len(set(names)):
        yield f"spec.subsets: Duplicate value: {names}"
