"""Checks a bundle's files without loading any of them.

A pickle is a program (https://docs.python.org/3/library/pickle.html), so nothing here unpickles. Files are
told apart by what they begin with, not by their names; archives are looked into; and a pickle inside a
`model.pt2` may name nothing but what torch's `weights_only` loading allows.
"""

import json
import pickletools
import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from blake3 import blake3

REQUIRED = ("manifest.json", "model.onnx", "signature.json", "golden.npz", "evaluation.json")
ALLOWED = (*REQUIRED, "profile.json", "weights.safetensors", "model.pt2")
MAX_JSON_BYTES = 16 << 20
MAX_MEMBERS = 10_000
MAX_GOLDEN_BYTES = 256 << 20  # unpacked: whoever checks the golden answers holds them in memory
_PICKLED = (".pkl", ".pickle", ".pt")
_SAFE_GLOBALS: dict[str, set[str]] = {
    "torch._utils": {"_rebuild_tensor_v2", "_rebuild_parameter", "_rebuild_tensor"},
    "torch.storage": {"TypedStorage", "UntypedStorage"},
    "collections": {"OrderedDict"},
}
_TORCH_NAMES = {
    "Size", "device", "dtype", "bool", "uint8", "int8", "int16", "int32", "int64",
    "float16", "bfloat16", "float32", "float64", "complex64", "complex128",
}  # fmt: skip


class BundleError(Exception):
    """A bundle that is refused; the text names the file, what is wrong and what to do."""


@dataclass(frozen=True)
class ReadBundle:
    """What a checked bundle says of itself."""

    manifest: dict[str, Any]
    evaluation: dict[str, Any]
    digest: str


def check_name(name: str) -> str:
    """Return the name of a bundle's file.

    Raises:
        BundleError: It has a folder, or is none that a bundle holds.
    """
    if "/" in name or "\\" in name or name in ("", ".", "..") or "\0" in name:
        raise BundleError(f"file {name!r}: names in a bundle have no folders; send the plain name")
    if name not in ALLOWED:
        raise BundleError(f"file {name!r} does not belong in a bundle; it may hold {', '.join(ALLOWED)}")
    return name


def canonical(files: dict[str, dict[str, Any]]) -> bytes:
    """Return the bytes whose BLAKE3 names the bundle: the manifest's `files`, sorted, without spaces."""
    return json.dumps(files, sort_keys=True, separators=(",", ":")).encode()


def digest_of(path: Path) -> str:
    """Return the BLAKE3 of a file, as hexadecimal text."""
    return blake3(max_threads=1).update_mmap(path).hexdigest()


def read(folder: Path) -> ReadBundle:
    """Check every file of a received bundle and return what it says.

    Raises:
        BundleError: A file is missing, surplus, damaged, or holds what it must not hold.
    """
    present = {path.name for path in folder.iterdir()}
    missing = [name for name in REQUIRED if name not in present]
    if missing:
        raise BundleError(f"the bundle lacks {', '.join(missing)}; export it again")
    manifest = _json(folder / "manifest.json")
    files = manifest.get("files")
    if not isinstance(files, dict):
        raise BundleError("manifest.json: 'files' is not an object; export the bundle again")
    _check_listing(files, present - {"manifest.json"})
    for name, entry in files.items():
        _check_digest(folder / name, entry)
        _check_content(folder / name)
    evaluation = _json(folder / "evaluation.json")
    return ReadBundle(manifest, evaluation, blake3(canonical(files)).hexdigest())


def _check_listing(files: dict[str, Any], present: set[str]) -> None:
    for name in files:
        check_name(name)
    if set(files) != present:
        odd = ", ".join(sorted(set(files) ^ present))
        raise BundleError(f"manifest.json and the files sent differ in {odd}; export the bundle again")


def _check_digest(path: Path, entry: Any) -> None:
    wanted = entry.get("blake3") if isinstance(entry, dict) else None
    if digest_of(path) != wanted:
        raise BundleError(f"file {path.name!r}: its BLAKE3 is not the one of manifest.json; send it again")


def _check_content(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(64)
    if path.name in ("golden.npz", "model.pt2"):
        _check_archive(path)
    elif path.suffix == ".json":
        _json(path)
    elif path.name == "weights.safetensors":
        _check_safetensors(path, head)
    elif _looks_like_pickle(head) or zipfile.is_zipfile(path):
        raise BundleError(f"file {path.name!r} holds a pickle or an archive, which could run; it is refused")


def _check_archive(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        raise BundleError(f"file {path.name!r} is no zip archive; export the bundle again")
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > MAX_MEMBERS:
                raise BundleError(f"file {path.name!r} has {len(members)} members; at most {MAX_MEMBERS}")
            size = sum(member.file_size for member in members)
            if path.name == "golden.npz" and size > MAX_GOLDEN_BYTES:
                raise BundleError(
                    f"file {path.name!r} unpacks to {size} bytes; at most {MAX_GOLDEN_BYTES}: keep fewer rows"
                )
            for member in members:
                _check_place(path, member)
                _check_member(path, archive, member)
    except BundleError:
        raise
    except Exception as error:  # zipfile and each of its compressions have their own
        message = f"file {path.name!r} is a damaged archive ({error}); export the bundle again"
        raise BundleError(message) from error


def _check_place(path: Path, member: zipfile.ZipInfo) -> None:
    where = f"file {path.name!r}: member {member.filename!r}"
    name = member.filename.replace("\\", "/")
    if name.startswith("/") or ".." in name.split("/"):
        raise BundleError(f"{where} leaves its folder")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise BundleError(f"{where} is a link; it is refused")


def _check_member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    where = f"file {path.name!r}: member {member.filename!r}"
    with archive.open(member) as stream:
        head = stream.read(256)
    if path.name == "golden.npz":
        header = head.split(b"}", 1)[0]
        if not head.startswith(b"\x93NUMPY") or b"|O" in header:
            raise BundleError(f"{where} is no plain array (objects are pickles); save numbers only")
    elif head.startswith(b"PK\x03\x04"):
        raise BundleError(f"{where} is an archive in an archive; it is refused")
    else:
        with archive.open(member) as stream:
            # torch leaves an empty .pt where a program has no example inputs
            _check_pickle(where, stream, named=bool(head) and member.filename.endswith(_PICKLED))


def _check_pickle(where: str, stream: IO[bytes], *, named: bool) -> None:
    """Walk the opcodes; every global must be one that `weights_only` loading knows.

    What is not named as a pickle is walked as well: an unpickler runs what it meets until it fails. Raw
    weights fail within a few bytes, having called for nothing.
    """
    texts = 0
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name in ("GLOBAL", "INST"):
                module, _, name = str(argument).partition(" ")
                _check_global(where, module, name)
            elif opcode.name == "STACK_GLOBAL" and (named or texts >= 2):
                # the names may come from anywhere in its memory; weights_only loading knows no such opcode
                raise BundleError(f"{where} is a pickle that hides what it calls; it is refused")
            elif opcode.name.startswith("EXT") and named:
                raise BundleError(f"{where} is a pickle that uses extensions; it is refused")
            texts += isinstance(argument, str)
    except ValueError as error:
        if named:
            raise BundleError(f"{where} is a damaged pickle; it is refused") from error
        return
    if named and stream.read(1):
        raise BundleError(f"{where} goes on behind the end of its pickle; it is refused")


def _check_global(where: str, module: str, name: str) -> None:
    allowed = _SAFE_GLOBALS.get(module, set())
    tensor = module == "torch" and (name.endswith("Storage") or name in _TORCH_NAMES)
    if not (tensor or name in allowed):
        raise BundleError(f"{where} is a pickle that would call {module}.{name}; it was not run")


def _check_safetensors(path: Path, head: bytes) -> None:
    length = int.from_bytes(head[:8], "little")
    if len(head) < 9 or head[8:9] != b"{" or length + 8 > path.stat().st_size:
        raise BundleError(f"file {path.name!r} is no safetensors file; export the bundle again")


def _looks_like_pickle(head: bytes) -> bool:
    """Protocol 2 and later begin with PROTO; earlier ones with an opcode and a global or mark."""
    return (head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05") or head[:1] in (b"c", b"(")


def _json(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_JSON_BYTES:
        raise BundleError(f"file {path.name!r} has {path.stat().st_size} bytes; at most {MAX_JSON_BYTES}")
    try:
        value = json.loads(path.read_bytes())
        plain = json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise BundleError(f"file {path.name!r} is no JSON ({error}); export the bundle again") from error
    if b"\\u0000" in plain:  # PostgreSQL's jsonb holds no NUL, RFC 8259 no NaN
        raise BundleError(f"file {path.name!r} has text with a NUL; export the bundle again")
    if not isinstance(value, dict):
        raise BundleError(f"file {path.name!r} is no JSON object; export the bundle again")
    return value
