"""The local cache of blobs: content-addressed files, each verified when it comes and when it is used."""

import os
import tempfile
from pathlib import Path

from blake3 import blake3
from slipway.client.errors import SlipwayError


def default_cache() -> Path:
    """Return `$XDG_CACHE_HOME/slipway/blobs` (XDG Base Directory Specification; default `~/.cache`)."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(home) if home.startswith("/") else Path.home() / ".cache") / "slipway" / "blobs"


class BlobCache:
    """Blobs by their BLAKE3 digest, one read-only file each. Processes may share it.

    Args:
        folder: Made when the first blob comes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, digest: str) -> bytes | None:
        """Return the blob, or None. A file that no longer is what its name says is removed."""
        path = self._path(digest)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        if blake3(data).hexdigest() == digest:
            return data
        path.unlink(missing_ok=True)
        return None

    def put(self, digest: str, data: bytes) -> None:
        """Keep a blob, whole or not at all.

        Raises:
            SlipwayError: These are not the bytes of the digest; nothing is kept.
        """
        if blake3(data).hexdigest() != digest:
            text = f"the bytes that came for blob {digest[:12]} are not its own; read it again"
            raise SlipwayError("DATA_LOSS", "DAMAGED_BLOB", text)
        path = self._path(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                os.fchmod(descriptor, 0o444)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def _path(self, digest: str) -> Path:
        if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            raise SlipwayError("DATA_LOSS", "DAMAGED_BLOB", f"{digest[:80]!r} is no BLAKE3 digest")
        return self._folder / digest[:2] / digest[2:]
