"""Small bundles for the registry, which looks at files and runs none."""

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3
from slipway_registry.domain import BundleFile


def zipped(members: Mapping[str, bytes]) -> bytes:
    """Return a zip archive of the members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def arrays(**named: Any) -> bytes:
    """Return an .npz of the arrays."""
    buffer = io.BytesIO()
    np.savez(buffer, **named)
    return buffer.getvalue()


def parts(changed: Mapping[str, bytes] | None = None) -> dict[str, bytes]:
    """Return the files of a good bundle but for its manifest; `changed` replaces or adds."""
    evaluation = {"split": "test", "metrics": {"accuracy": 0.75}}
    good = {
        "model.onnx": b"\x08\x09 a graph",
        "golden.npz": arrays(x=np.arange(6.0)),
        "signature.json": b"{}",
        "evaluation.json": json.dumps(evaluation).encode(),
    }
    return {**good, **(changed or {})}


def with_manifest(files: Mapping[str, bytes], **facts: Any) -> tuple[str, dict[str, bytes]]:
    """Return the bundle's name and all of its files, the manifest among them."""
    listed = {name: {"blake3": blake3(data).hexdigest(), "size": len(data)} for name, data in files.items()}
    canonical = json.dumps(listed, sort_keys=True, separators=(",", ":")).encode()
    manifest = {"format": 1, "files": listed, "parity": {"max_abs_diff": 1e-6}, **facts}
    return f"bundles/{blake3(canonical).hexdigest()}", {
        **files,
        "manifest.json": json.dumps(manifest).encode(),
    }


def sent(files: Mapping[str, bytes]) -> Iterator[BundleFile | bytes]:
    """Yield the files as they arrive: a start, then pieces."""
    for name, data in files.items():
        yield BundleFile(name, len(data), "")
        for start in range(0, len(data), 1000):
            yield data[start : start + 1000]


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write files into a new folder and return it."""
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder
