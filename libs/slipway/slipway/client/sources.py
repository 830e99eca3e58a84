"""Examples from a user's disk: a folder per label, or a CSV or JSONL manifest."""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

from slipway.client.errors import SlipwayError

IMAGES = (".png", ".jpg", ".jpeg")
TEXTS = (".txt",)
MAX_BYTES = 16 << 20  # of one item, as the contract says
_COLUMNS = ("path", "key", "label", "label_source", "group")
_DERIVED = ("split", "blob")  # a checkout's manifest tells them; the platform finds them out itself


class Unsendable(Exception):
    """A file that stays here while the rest goes; `reason` is as the platform would give it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Item:
    """One example to upload; the file is read when its turn comes."""

    key: str
    data: bytes = b""
    path: Path | None = None
    label: str = ""
    label_source: str = ""
    group: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)

    def content(self) -> bytes:
        """Return the bytes.

        Raises:
            Unsendable: The file cannot be read, or is larger than a message may be.
        """
        try:
            size = len(self.data) if self.path is None else self.path.stat().st_size
            if size > MAX_BYTES:
                text = f"{self.key}: {size} bytes; at most {MAX_BYTES}; make it smaller"
                raise Unsendable("ITEM_TOO_LARGE", text)
            return self.data if self.path is None else self.path.read_bytes()
        except OSError as error:
            text = f"{self.key}: cannot be read ({error.strerror}); make it readable"
            raise Unsendable("UNREADABLE_FILE", text) from error


def read_source(source: Path) -> list[Item]:
    """Return what a folder (`FOLDER/<label>/*.png`) or a manifest (.csv, .jsonl) lists, by key.

    A folder with images gives its images, one without gives its texts; `left_out` names the rest.

    Raises:
        SlipwayError: It is neither, holds nothing, or names a file that is not there or lies outside.
    """
    if source.is_dir():
        items = list(_folder(source))
    elif source.suffix == ".csv" and source.exists():
        rows = csv.DictReader(StringIO(_text(source), newline=""))
        items = [_row(source, i + 2, row) for i, row in enumerate(rows)]
    elif source.suffix in {".jsonl", ".ndjson"} and source.exists():
        items = [_row(source, i + 1, _object(source, i + 1, line)) for i, line in _lines(source)]
    else:
        kinds = "a folder with one folder per label, or a manifest that ends in .csv or .jsonl"
        raise _refused(f"{source} is {'not one of these' if source.exists() else 'not there'}: name {kinds}")
    if not items:
        raise _refused(f"{source} holds no example; put PNG or JPEG files as {source}/<label>/<name>.png")
    return sorted(items, key=lambda item: item.key.encode())


def left_out(source: Path) -> list[str]:
    """Return the files of a folder that `read_source` does not take, by their name in it; hidden ones not."""
    if not source.is_dir():
        return []
    taken = _suffixes(source)
    return [
        path.relative_to(source).as_posix() for path in _files(source) if path.suffix.lower() not in taken
    ]


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def _suffixes(folder: Path) -> tuple[str, ...]:
    return IMAGES if any(path.suffix.lower() in IMAGES for path in _files(folder)) else TEXTS


def _folder(folder: Path) -> Iterator[Item]:
    taken = _suffixes(folder)
    for path in _files(folder):
        parts = path.relative_to(folder).parts
        if path.suffix.lower() in taken:
            label = parts[0] if len(parts) > 1 else ""
            yield Item(key="/".join(parts), path=path, label=label)


def _lines(source: Path) -> Iterator[tuple[int, str]]:
    for index, line in enumerate(_text(source).splitlines()):
        if line.strip():
            yield index, line


def _text(source: Path) -> str:
    try:
        return source.read_text(encoding="utf-8-sig")
    except ValueError as error:
        raise _refused(f"{source} is not UTF-8 text ({error}); save it as UTF-8") from error


def _object(source: Path, number: int, line: str) -> Mapping[str, object]:
    try:
        parsed = json.loads(line)
    except ValueError as error:
        raise _refused(f"{source}, line {number}: is not JSON ({error})") from error
    if not isinstance(parsed, dict):
        raise _refused(
            f"{source}, line {number}: is a JSON {type(parsed).__name__}; write one object per line"
        )
    return parsed


def _row(source: Path, number: int, row: Mapping[str, object]) -> Item:
    values = {str(key): "" if value is None else str(value) for key, value in row.items()}
    name = values.get("path", "")
    if not name:
        raise _refused(
            f"{source}, line {number}: has no path; columns are {', '.join(_COLUMNS)} and attributes"
        )
    root, path = source.parent.resolve(), (source.parent / name).resolve()
    if not path.is_relative_to(root):
        raise _refused(
            f"{source}, line {number}: {name!r} lies outside {source.parent}; keep files beside it"
        )
    if not path.is_file():
        raise _refused(f"{source}, line {number}: there is no file {name!r} in {source.parent}")
    return Item(
        key=values.get("key") or name,
        path=path,
        label=values.get("label", ""),
        label_source=values.get("label_source", ""),
        group=values.get("group", ""),
        attributes={k: v for k, v in values.items() if k not in (*_COLUMNS, *_DERIVED) and v},
    )


def _refused(message: str) -> SlipwayError:
    return SlipwayError("INVALID_ARGUMENT", "SOURCE_REFUSED", message)
