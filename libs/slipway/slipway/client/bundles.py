"""A version's bundle brought here: its files in memory, each verified by its digest."""

import json
from collections.abc import Mapping
from typing import Any

from blake3 import blake3
from slipway.client.errors import SlipwayError
from slipway.registry.v1 import registry_pb2 as reg

MANIFEST = "manifest.json"


def download_bundle(registry: Any, name: str) -> dict[str, bytes]:
    """Return the files of `bundles/{digest}` by name.

    Raises:
        SlipwayError: There is no such bundle, or what came is not what its digests say (DATA_LOSS).
    """
    files: dict[str, bytearray] = {}
    current = bytearray()
    for part in registry.DownloadBundle(reg.DownloadBundleRequest(name=name), timeout=600):
        if part.HasField("file"):
            current = files.setdefault(part.file.name, bytearray())
        else:
            current += part.chunk
    whole = {file: bytes(data) for file, data in files.items()}
    verify_bundle(name, whole)
    return whole


def verify_bundle(name: str, files: Mapping[str, bytes]) -> None:
    """Refuse files that are not those of the bundle's name.

    The manifest names each file's BLAKE3; the bundle's digest is the BLAKE3 of the canonical JSON (sorted
    keys, no spaces) of the manifest's `files`.

    Raises:
        SlipwayError: A file is missing, unnamed or damaged (DATA_LOSS); the text names it.
    """
    if MANIFEST not in files:
        raise _damaged(f"{name} came without {MANIFEST}")
    try:
        listed = dict(json.loads(files[MANIFEST])["files"])
        canonical = json.dumps(listed, sort_keys=True, separators=(",", ":")).encode()
        digests = {file: str(facts["blake3"]) for file, facts in listed.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(f"{name}: its {MANIFEST} cannot be read ({error})") from error
    if f"bundles/{blake3(canonical).hexdigest()}" != name:
        raise _damaged(f"{name}: its {MANIFEST} has another digest")
    for file in sorted(digests.keys() | (files.keys() - {MANIFEST})):
        if file not in files or file not in digests:
            where = "is missing" if file not in files else f"is not named in {MANIFEST}"
            raise _damaged(f"{name}: {file} {where}")
        if blake3(files[file]).hexdigest() != digests[file]:
            raise _damaged(f"{name}: {file} is not what its digest says")


def _damaged(text: str) -> SlipwayError:
    return SlipwayError("DATA_LOSS", "DAMAGED_BUNDLE", f"{text}; download it again")


__all__ = ["download_bundle", "verify_bundle"]
