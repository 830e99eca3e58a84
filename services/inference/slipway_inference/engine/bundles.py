"""Bundles on this machine: every file has the digest that the manifest says, or the bundle is not there."""

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3

from slipway_inference.domain import BundleRefused, Signature

NEEDED = ("signature.json", "golden.npz")


@dataclass(frozen=True)
class BundleOnDisk:
    """A verified bundle."""

    folder: Path
    digest: str
    signature: Signature
    classes: tuple[str, ...]
    engines: tuple[str, ...]


def digest_of_files(files: dict[str, Any]) -> str:
    """Return the digest that names a bundle: BLAKE3 of its canonical file list."""
    return blake3(json.dumps(files, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def open_bundle(folder: Path) -> BundleOnDisk:
    """Return a bundle, verified file by file.

    Raises:
        BundleRefused: A file is missing, surplus or damaged, or the bundle is not one.
    """
    manifest = _json(folder / "manifest.json")
    files = manifest.get("files")
    if not isinstance(files, dict):
        raise BundleRefused(f"{folder.name}: manifest.json lists no files")
    for name, entry in files.items():
        path = folder / name
        if "/" in name or not path.is_file():
            raise BundleRefused(f"{folder.name}: file {name!r} is missing")
        wanted = entry.get("blake3") if isinstance(entry, dict) else None
        if blake3().update_mmap(path).hexdigest() != wanted:
            raise BundleRefused(f"{folder.name}: file {name!r} is damaged; fetch the bundle again")
    if surplus := {path.name for path in folder.iterdir()} - {"manifest.json", *files}:
        raise BundleRefused(f"{folder.name}: no digest covers {', '.join(sorted(surplus))}; take it out")
    if missing := [name for name in NEEDED if name not in files]:
        raise BundleRefused(f"{folder.name}: {', '.join(missing)} is not in the bundle")
    document = _json(folder / "signature.json")
    return BundleOnDisk(
        folder=folder,
        digest=digest_of_files(files),
        signature=Signature.from_json(document),
        classes=tuple(map(str, document.get("classes") or ())),
        engines=tuple(map(str, manifest.get("engines") or ("onnx",))),
    )


def keep(cache: Path, digest: str, parts: Iterable[tuple[str, bytes]]) -> BundleOnDisk:
    """Put a bundle into the cache as a whole or not at all; one that is there and verifies is used.

    Args:
        cache: Folder of bundles by digest.
        digest: That names the bundle.
        parts: (file, next bytes of it), asked for only when the bundle is not there.

    Raises:
        BundleRefused: What came is not the bundle of that digest.
    """
    target = cache / digest
    if target.is_dir():
        try:
            return open_bundle(target)
        except BundleRefused:
            shutil.rmtree(target)
    cache.mkdir(parents=True, exist_ok=True)
    filling = _lock(cache, fcntl.LOCK_SH)
    temporary = Path(tempfile.mkdtemp(prefix=".bundle-", dir=cache))
    try:
        for name, data in parts:
            if "/" in name or name in ("", ".", ".."):
                raise BundleRefused(f"bundle {digest[:12]}: file name {name!r}")
            with (temporary / name).open("ab") as file:
                file.write(data)
        found = open_bundle(temporary)
        if found.digest != digest:
            raise BundleRefused(f"bundle {digest[:12]}: what came has the digest {found.digest[:12]}")
        os.replace(temporary, target)
        return open_bundle(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(filling)


def clear_leftovers(cache: Path) -> None:
    """Remove what killed fronts left half done in the cache, unless another front fills it now."""
    if not cache.is_dir():
        return
    try:
        alone = _lock(cache, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    for path in cache.glob(".bundle-*"):
        shutil.rmtree(path, ignore_errors=True)
    os.close(alone)


def _lock(cache: Path, kind: int) -> int:
    """Return the open folder, locked: the kernel frees it when its holder closes it or dies (flock(2))."""
    lock = os.open(cache, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, kind)
    except OSError:
        os.close(lock)
        raise
    return lock


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BundleRefused(f"{path.parent.name}: {path.name} cannot be read ({error})") from error
    if not isinstance(value, dict):
        raise BundleRefused(f"{path.parent.name}: {path.name} is no object")
    return value
