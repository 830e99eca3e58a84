"""Data sets, rows, commits: what they are, how a row is split, and what a name may be."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from blake3 import blake3
from slipway_runtime.errors import InvalidArgument

MAX_KEY_BYTES = 512
MAX_TEXT = 4_000
MAX_ATTRIBUTES = 64
REFUSED_LISTED = 1000
SPLITS = ("train", "validation", "test")
_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_HEX = re.compile(r"[0-9a-f]{8,64}")
_PREDICTION = re.compile(r"predictions/[A-Za-z0-9_-]{1,128}\.[0-9]{1,9}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class SplitPolicy:
    """Shares of the splits, in per cent; the salt is mixed into the hash."""

    train: int = 80
    validation: int = 10
    test: int = 10
    salt: str = ""

    def split(self, group: str) -> str:
        """Return the split of a group: a function of its hash alone, so that it never moves."""
        digest = blake3(f"{self.salt}\0{group}".encode()).digest(length=8)
        point = int.from_bytes(digest, "big") % 10_000
        if point < self.train * 100:
            return "train"
        return "validation" if point < (self.train + self.validation) * 100 else "test"


@dataclass(frozen=True)
class Dataset:
    """A named set of examples with history."""

    id: str
    display_name: str
    description: str
    policy: SplitPolicy
    create_time: datetime
    update_time: datetime
    etag: str
    creator: str

    @property
    def name(self) -> str:
        """Resource name."""
        return f"datasets/{self.id}"


@dataclass(frozen=True)
class Branch:
    """A pointer to a commit that moves."""

    dataset: str
    id: str
    commit: str
    etag: str
    update_time: datetime

    @property
    def name(self) -> str:
        """Resource name."""
        return f"datasets/{self.dataset}/branches/{self.id}"


@dataclass(frozen=True, slots=True)
class Row:
    """One example of a commit; everything in it is covered by its range's digest."""

    key: str
    blob: str = ""
    size: int = 0
    media_type: str = ""
    width: int = 0
    height: int = 0
    label: str = ""
    label_source: str = ""
    group: str = ""
    attributes: tuple[tuple[str, str], ...] = ()

    @property
    def split_group(self) -> str:
        """What the split hashes."""
        return self.group or self.key


@dataclass(frozen=True)
class Refused:
    """An item that was not taken."""

    key: str
    reason: str
    message: str


@dataclass(frozen=True)
class Upload:
    """Bytes and labels that wait for a commit to name them; `rows` is the object that lists them."""

    dataset: str
    id: str
    rows: str
    accepted_count: int
    accepted_bytes: int
    new_bytes: int
    new_objects: int
    refused: tuple[Refused, ...]
    refused_count: int
    create_time: datetime

    @property
    def name(self) -> str:
        """Resource name."""
        return f"datasets/{self.dataset}/uploads/{self.id}"


@dataclass(frozen=True)
class Commit:
    """An immutable state of a data set; `content` is the digest of its metarange."""

    dataset: str
    digest: str
    parent: str
    author: str
    message: str
    create_time: datetime
    content: str
    example_count: int
    total_bytes: int
    new_objects: int
    new_bytes: int
    erased_count: int = 0
    erased_bytes: int = 0
    erasure_revision: int = 0

    @property
    def name(self) -> str:
        """Resource name."""
        return f"datasets/{self.dataset}/commits/{self.digest}"

    @property
    def parent_name(self) -> str:
        """Resource name of the commit before it; empty for the first."""
        return f"datasets/{self.dataset}/commits/{self.parent}" if self.parent else ""


@dataclass(frozen=True)
class PredictionImport:
    """What became of predicted inputs; `commit` is the resource name of the commit that holds them."""

    commit: str
    imported_count: int
    repeated_count: int
    refused: tuple[Refused, ...]
    refused_count: int


@dataclass(frozen=True)
class Erasure:
    """A request to remove an example, and what became of it; `number` is 0 until all is removed."""

    dataset: str
    id: str
    sequence: int
    reason: str
    creator: str
    create_time: datetime
    finish_time: datetime | None
    number: int
    commit_count: int
    deleted_blob_count: int
    kept_blob_count: int
    error: str

    @property
    def name(self) -> str:
        """Resource name."""
        return f"datasets/{self.dataset}/erasures/{self.id}"


@dataclass(frozen=True)
class Target:
    """What an erasure removes, in clear: kept only until it is removed."""

    key: str
    blobs: frozenset[str]

    def hits(self, row: Row) -> bool:
        """Say whether a row is to go."""
        return row.blob in self.blobs or (bool(self.key) and row.key == self.key)


def key_mark(salt: bytes, key: str) -> bytes:
    """Return what a data set remembers of an erased key: a salted hash."""
    return blake3(b"key\0" + key.encode(), key=blake3(salt).digest()).digest(length=16)


def blob_mark(salt: bytes, digest: str) -> bytes:
    """Return what a data set remembers of an erased blob: a salted hash."""
    return blake3(b"blob\0" + digest.encode(), key=blake3(salt).digest()).digest(length=16)


@dataclass(frozen=True)
class Tombstones:
    """What was erased from a data set: marks, each with the id of its erasure."""

    salt: bytes
    revision: int
    marks: Mapping[bytes, str]

    def erasure(self, key: str, blob: str) -> str:
        """Return the id of the erasure that an example falls under; empty when there is none."""
        if not self.marks:
            return ""
        found = self.marks.get(key_mark(self.salt, key), "") if key else ""
        return found or (self.marks.get(blob_mark(self.salt, blob), "") if blob else "")

    def hide(self, row: Row) -> bool:
        """Say whether a row was erased."""
        return bool(self.marks) and bool(self.erasure(row.key, row.blob))

    def visible(self, rows: list[Row]) -> list[Row]:
        """Return the rows that were not erased."""
        return [row for row in rows if not self.hide(row)] if self.marks else rows


@dataclass(frozen=True)
class Change:
    """One difference between two commits."""

    key: str
    before: Row | None
    after: Row | None


@dataclass
class Statistics:
    """What a commit holds, in numbers."""

    example_count: int = 0
    label_counts: dict[str, int] = field(default_factory=dict)
    split_counts: dict[str, int] = field(default_factory=dict)
    media_type_counts: dict[str, int] = field(default_factory=dict)
    label_source_counts: dict[str, int] = field(default_factory=dict)
    image_size_counts: dict[str, int] = field(default_factory=dict)
    total_bytes: int = 0
    size_bytes_quantiles: list[int] = field(default_factory=list)
    duplicate_count: int = 0


def check_id(field_name: str, value: str) -> str:
    """Return the id, checked.

    Raises:
        InvalidArgument: It is no lower-case name of at most 63 characters.
    """
    if not _ID.fullmatch(value):
        rule = "use a-z, 0-9 and hyphens, 1 to 63 of them, no hyphen at the ends"
        raise InvalidArgument.field(field_name, f"is {value!r}; {rule}")
    return value


def check_text(field_name: str, value: str, *, needed: bool = False) -> str:
    """Return the text, checked for length and presence."""
    if len(value) > MAX_TEXT or "\0" in value:
        raise InvalidArgument.field(field_name, f"has {len(value)} characters; at most {MAX_TEXT}, no NUL")
    if needed and not value.strip():
        raise InvalidArgument.field(field_name, "is empty; say why, for those who read the history")
    return value


def key_trouble(key: str) -> str:
    """Return what is wrong with an example's key, or nothing."""
    if not key:
        return "the key is empty; give each example one"
    if len(key.encode()) > MAX_KEY_BYTES:
        return f"the key has {len(key.encode())} bytes; at most {MAX_KEY_BYTES}"
    if _CONTROL.search(key):
        return "the key has control characters; take them out"
    if key.startswith("/") or ".." in key.split("/"):
        return "the key is an absolute path or has '..'; write it relative"
    return ""


def prediction_key_trouble(key: str) -> str:
    """Return what is wrong with the key of a predicted input, or nothing."""
    if _PREDICTION.fullmatch(key):
        return ""
    return "the key names no predicted row; write predictions/{prediction id}.{row}"


def prediction_of(name: str) -> str:
    """Return the name of a predicted row, checked."""
    if not _PREDICTION.fullmatch(name):
        raise InvalidArgument.field("name", f"is {name[:200]!r}; write predictions/{{prediction id}}.{{row}}")
    return name


def check_policy(policy: SplitPolicy | None) -> SplitPolicy:
    """Return the policy, checked; none means 80/10/10."""
    if policy is None:
        return SplitPolicy()
    shares = (policy.train, policy.validation, policy.test)
    if min(shares) < 0 or sum(shares) != 100:
        total = " + ".join(map(str, shares))
        raise InvalidArgument.field("dataset.split_policy", f"is {total}; none below 0, 100 together")
    check_text("dataset.split_policy.salt", policy.salt)
    return policy


def name_part(name: str, *collections: str, field_name: str = "name") -> tuple[str, ...]:
    """Return the ids of a resource name such as `datasets/{id}/commits/{digest}`.

    Raises:
        InvalidArgument: The name has another form.
    """
    parts = name.split("/")
    if len(parts) != 2 * len(collections) or tuple(parts[::2]) != collections or not all(parts[1::2]):
        wanted = "/".join(f"{collection}/{{id}}" for collection in collections)
        raise InvalidArgument.field(field_name, f"is {name!r}; write {wanted}")
    return tuple(parts[1::2])


def check_digest(field_name: str, digest: str) -> str:
    """Return a commit's digest or a prefix of 8 or more of its characters, checked."""
    if not _HEX.fullmatch(digest):
        raise InvalidArgument.field(field_name, f"is {digest!r}; write 8 to 64 hexadecimal characters")
    return digest


def check_blob(field_name: str, digest: str) -> str:
    """Return a blob's digest, checked."""
    if len(digest) != 64 or not _HEX.fullmatch(digest):
        raise InvalidArgument.field(field_name, f"is {digest[:80]!r}; write its 64 hexadecimal characters")
    return digest


def check_split(split: str) -> str:
    """Return the name of a split, or nothing for all of them."""
    if split and split not in SPLITS:
        raise InvalidArgument.field("split", f"is {split!r}; there are {', '.join(SPLITS)}")
    return split


def attributes_of(values: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return attributes in their one order."""
    return tuple(sorted(values.items()))


def as_json(statistics: Statistics) -> dict[str, Any]:
    """Return the statistics as a JSON object."""
    return dict(statistics.__dict__)
