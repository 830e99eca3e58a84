"""Packed folders of user code: what is refused, what is the same folder, and how one is unpacked.

A tar member can write outside its folder by name or through a link (CVE-2007-4559); so names are checked
and only plain files are taken. The digest covers paths and bytes, not tar's times, owners or order.
"""

import io
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from blake3 import blake3

MAX_ARCHIVE_BYTES = 10 << 20
MAX_UNPACKED_BYTES = 64 << 20
MAX_FILES = 1000
MAX_PATH_LENGTH = 200


class ArchiveRefusedError(ValueError):
    """The archive is not taken; the text names the member, what is wrong, and what to do."""


@dataclass(frozen=True)
class Folder:
    """What an archive holds: bytes by path."""

    files: dict[str, bytes]

    def digest(self) -> str:
        """Return the BLAKE3 over paths and bytes, in path order."""
        hasher = blake3()
        for path, data in sorted(self.files.items()):
            for part in (path.encode(), data):
                hasher.update(len(part).to_bytes(8, "big") + part)
        return hasher.hexdigest()

    def pack(self) -> bytes:
        """Return the canonical archive: sorted, without times and owners."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for path, data in sorted(self.files.items()):
                member = tarfile.TarInfo(path)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        return packed.getvalue()

    def unpack(self, folder: Path) -> None:
        """Write the files below a folder."""
        for path, data in self.files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)


def read_gzip(data: bytes) -> Folder:
    """Return what a tar.gz holds.

    Raises:
        ArchiveRefusedError: it is damaged, too large, or has a member that may not be there.
    """
    if len(data) > MAX_ARCHIVE_BYTES:
        raise ArchiveRefusedError(f"the archive has {len(data)} bytes; at most {MAX_ARCHIVE_BYTES} are taken")
    decompressor = zlib.decompressobj(wbits=31)
    try:
        unpacked = decompressor.decompress(data, MAX_UNPACKED_BYTES)
    except zlib.error as error:
        raise ArchiveRefusedError(f"the archive is no gzip ({error}); send a tar.gz") from error
    if decompressor.unconsumed_tail:
        raise ArchiveRefusedError(
            f"the archive unpacks to more than {MAX_UNPACKED_BYTES} bytes; leave data out"
        )
    if not decompressor.eof:
        raise ArchiveRefusedError("the archive ends in the middle; send it whole")
    return read(unpacked)


def read(data: bytes) -> Folder:
    """Return what a plain tar holds.

    Raises:
        ArchiveRefusedError: it is damaged or has a member that may not be there.
    """
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for member in archive:
                path = _checked(member)
                if member.isdir():
                    continue
                if path in files:
                    raise ArchiveRefusedError(f"'{path}' comes twice in the archive; send it once")
                if any(str(parent) in files for parent in PurePosixPath(path).parents):
                    raise ArchiveRefusedError(f"'{path}' lies in what is a file as well; rename one")
                if len(files) == MAX_FILES:
                    raise ArchiveRefusedError(f"the archive has more than {MAX_FILES} files; leave data out")
                content = archive.extractfile(member)
                files[path] = content.read() if content else b""
    except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
        if isinstance(error, ArchiveRefusedError):
            raise
        raise ArchiveRefusedError(f"the archive is damaged ({error}); pack it again") from error
    if not files:
        raise ArchiveRefusedError("the archive holds no file; pack the folder")
    return Folder(files)


def _checked(member: tarfile.TarInfo) -> str:
    name = member.name
    if member.issym() or member.islnk():
        raise ArchiveRefusedError(f"'{name}' is a link; pack the file itself")
    if member.issparse():  # a few bytes of archive may stand for any number of zeros
        raise ArchiveRefusedError(f"'{name}' is a sparse file; pack it plainly")
    if not (member.isreg() or member.isdir()):
        raise ArchiveRefusedError(f"'{name}' is neither a file nor a folder; leave it out")
    path = PurePosixPath(name)
    if path.is_absolute() or name.startswith("\\") or ":" in name.split("/")[0]:
        raise ArchiveRefusedError(f"'{name}' is an absolute path; pack paths relative to the folder")
    if ".." in path.parts or "\\" in name or any(ord(c) < 32 for c in name):
        raise ArchiveRefusedError(
            f"'{name}' leaves the folder or has odd characters; pack plain relative paths"
        )
    if len(name.encode()) > MAX_PATH_LENGTH:
        raise ArchiveRefusedError(f"'{name[:40]}…' is longer than {MAX_PATH_LENGTH} bytes; shorten it")
    return str(path)
