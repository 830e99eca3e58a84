"""The route in the mesh as it stands: reading it, telling our writes from others', changing weights.

Every route that we write carries the digest of its own spec and a serial number, in the same write. A
spec that does not match its digest was edited by somebody else, and one with an older serial than the
row's was put back by somebody else. A newer serial is our own write whose row was never committed. So a
kill at any moment cannot confuse them.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Manifest = dict[str, Any]
Patch = list[dict[str, Any]]

DIGEST = "slipway.dev/route-digest"
SERIAL = "slipway.dev/route-serial"
SPLIT = "split"
STICKY = "sticky-"


@dataclass(frozen=True)
class Route:
    """A VirtualService as read: `digest` is of its spec, `intact` says that it stands as we wrote it."""

    manifest: Manifest
    digest: str
    intact: bool
    serial: int
    weights: dict[str, int]


def stamped(manifest: Manifest, serial: int) -> Manifest:
    """Return the VirtualService with the digest of its spec and the number of this write."""
    notes = {DIGEST: digest(manifest["spec"]), SERIAL: str(serial)}
    return {**manifest, "metadata": {**manifest["metadata"], "annotations": notes}}


def digest(spec: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the canonical JSON of a spec, hex, 32 characters."""
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def read(manifest: Manifest) -> Route:
    """Return what a VirtualService says; weights are those of the route named `split`."""
    notes = manifest["metadata"].get("annotations") or {}
    found = digest(manifest.get("spec") or {})
    serial = notes.get(SERIAL, "0")
    return Route(
        manifest=manifest,
        digest=found,
        intact=notes.get(DIGEST) == found,
        serial=int(serial) if serial.isdecimal() else 0,
        weights=_weights(manifest),
    )


def _weights(manifest: Manifest) -> dict[str, int]:
    for route in (manifest.get("spec") or {}).get("http") or []:
        if route.get("name") == SPLIT:
            listed = route.get("route") or []
            alone = 100 if len(listed) == 1 else 0
            return {str(d["destination"].get("subset", "")): int(d.get("weight", alone)) for d in listed}
    return {}


def is_foreign(route: Route, serial: int) -> bool:
    """Return whether somebody else wrote this route, our own last committed write being `serial`."""
    return not route.intact or route.serial < serial


def differs(route: Route, wanted: Mapping[str, int]) -> str:
    """Return in words how a route that somebody else wrote differs from the weights we know."""
    found, known = _said(route.weights), _said(wanted)
    if found != known:
        return f"weights there: {found}; here: {known}"
    return "something else than the weights"


def _said(weights: Mapping[str, int]) -> str:
    return ", ".join(f"{subset}={weight}" for subset, weight in sorted(weights.items()) if weight) or "none"


def patch_to(current: Manifest, wanted: Manifest) -> Patch:
    """Return the JSON patch (RFC 6902) from the object as read to the one wanted; empty when equal.

    It tests the resourceVersion, so it takes effect on exactly what was read. When only weights of the split
    and the buckets that follow from them differ, it tests the routes' names too and replaces just these.
    """
    changes = _spec_changes(current, wanted)
    if not changes and read(current).intact:
        return []
    test = {"op": "test", "path": "/metadata/resourceVersion"}
    return [{**test, "value": current["metadata"]["resourceVersion"]}, *changes, *_notes(current, wanted)]


def _spec_changes(current: Manifest, wanted: Manifest) -> Patch:
    old, new = current.get("spec"), wanted["spec"]
    if old == new:
        return []
    weights = _weight_changes(old, new) if isinstance(old, dict) else None
    return [{"op": "replace", "path": "/spec", "value": new}] if weights is None else weights


def _weight_changes(old: Manifest, new: Manifest) -> Patch | None:
    """Return the operations when nothing but weights and buckets differ, or None."""
    before, after = old.get("http") or [], new.get("http") or []
    if len(before) != len(after) or _without_weights(old) != _without_weights(new):
        return None
    changes: Patch = []
    for index, (was, will) in enumerate(zip(before, after, strict=True)):
        if was != will:
            path = f"/spec/http/{index}"
            changes.append({"op": "test", "path": f"{path}/name", "value": will["name"]})
            changes += _bucket_change(path, will) if _is_sticky(will) else _split_changes(path, was, will)
    return changes


def _bucket_change(path: str, will: Manifest) -> Patch:
    return [{"op": "replace", "path": f"{path}/match", "value": will["match"]}]


def _split_changes(path: str, was: Manifest, will: Manifest) -> Patch:
    changes: Patch = []
    for position, (one, other) in enumerate(zip(was["route"], will["route"], strict=True)):
        if one.get("weight") != other["weight"]:
            verb = "replace" if "weight" in one else "add"
            where = f"{path}/route/{position}/weight"
            changes.append({"op": verb, "path": where, "value": other["weight"]})
    return changes


def _is_sticky(route: Manifest) -> bool:
    return str(route.get("name", "")).startswith(STICKY)


def _without_weights(spec: Manifest) -> Manifest:
    routes = []
    for route in spec.get("http") or []:
        if _is_sticky(route):
            route = {**route, "match": None}
        elif route.get("name") == SPLIT:
            bare = [{k: v for k, v in d.items() if k != "weight"} for d in route.get("route") or []]
            route = {**route, "route": bare}
        routes.append(route)
    return {**spec, "http": routes}


def _notes(current: Manifest, wanted: Manifest) -> Patch:
    notes = wanted["metadata"].get("annotations")
    if not notes:
        return []
    if not current["metadata"].get("annotations"):
        return [{"op": "add", "path": "/metadata/annotations", "value": notes}]
    escaped = {key: key.replace("~", "~0").replace("/", "~1") for key in notes}
    return [
        {"op": "add", "path": f"/metadata/annotations/{escaped[key]}", "value": value}
        for key, value in notes.items()
    ]
