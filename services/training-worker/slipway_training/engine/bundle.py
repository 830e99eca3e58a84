"""A bundle on a worker's disk: the files that scoring needs, verified, whole or not there at all."""

import json
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from blake3 import blake3

from slipway_training.engine.data import move_into_place

FILES = ("manifest.json", "model.onnx", "signature.json", "golden.npz")


class DamagedBundleError(OSError):
    """Bytes that arrived are not those of the digest; fetching the bundle again may help."""


def unpack(folder: Path, digest: str, parts: Iterable[tuple[str, bytes]]) -> None:
    """Write a bundle's files below `folder` unless they are there; `parts` are (file, next bytes of it).

    Raises:
        DamagedBundleError: a file is missing, or differs from its digest.
    """
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".bundle-", dir=folder.parent))
    try:
        for name, data in parts:
            if name in FILES:
                with open(temporary / name, "ab") as file:
                    file.write(data)
        _verify(temporary, digest)
        move_into_place(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def classes(folder: Path) -> tuple[str, ...]:
    """Return the classes in the order of the probabilities."""
    return tuple(json.loads((folder / "signature.json").read_text())["classes"])


def _verify(folder: Path, digest: str) -> None:
    """The name is the digest of the manifest's listing, and the listing has each file's."""
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise DamagedBundleError(f"bundles/{digest} arrived without {', '.join(missing)}")
    listing = json.loads((folder / "manifest.json").read_text())["files"]
    canonical = json.dumps(listing, sort_keys=True, separators=(",", ":")).encode()
    if blake3(canonical).hexdigest() != digest:
        raise DamagedBundleError(f"bundles/{digest} arrived with the listing of another bundle")
    for name in FILES[1:]:
        if blake3((folder / name).read_bytes()).hexdigest() != listing[name]["blake3"]:
            raise DamagedBundleError(f"bundles/{digest}: {name} arrived damaged")
