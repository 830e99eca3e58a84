"""Ranges and metaranges: how a commit is cut so that its cost follows the change.

Rows in key order are cut into ranges after a key whose hash says so (content-defined chunking: Muthitacharoen
et al., LBFS, 2001), so that a change moves no boundary but those beside it. A metarange lists the ranges of a
commit. Digests are over canonical rows (deterministic CBOR, RFC 8949 section 4.2), files are Parquet.
"""

import io
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

import cbor2
import pyarrow as pa
import pyarrow.parquet as pq
from blake3 import blake3

from slipway_ingestion.domain import Row

MIN_ROWS = 32
MEAN_ROWS = 128
MAX_ROWS = 512

_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("blob", pa.string()),
        ("size", pa.int64()),
        ("media_type", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("label", pa.string()),
        ("label_source", pa.string()),
        ("group", pa.string()),
        ("attributes", pa.map_(pa.string(), pa.string())),
    ]
)
_FIELDS = tuple(_SCHEMA.names)


@dataclass(frozen=True, slots=True)
class RangeRef:
    """A range as its metarange lists it.

    Args:
        digest: Of the rows that the commit was made with.
        first_key: Of the rows that are left; empty when none is.
        last_key: Of the rows that are left; empty when none is.
        rows: How many are left.
        bytes: Of the examples that are left.
        left: Digest of the rows that are left, where some were erased; empty where all are there.
    """

    digest: str
    first_key: str
    last_key: str
    rows: int
    bytes: int
    left: str = ""

    @property
    def stored(self) -> str:
        """Digest of the rows as they are stored: what names the object and verifies it."""
        return self.left or self.digest


@dataclass(frozen=True)
class Metarange:
    """The ranges of one commit, in key order."""

    ranges: tuple[RangeRef, ...]

    @property
    def digest(self) -> str:
        """Digest of the content: equal for equal rows."""
        return blake3(b"".join(bytes.fromhex(ref.digest) for ref in self.ranges)).hexdigest()

    @property
    def rows(self) -> int:
        """Rows in all ranges."""
        return sum(ref.rows for ref in self.ranges)

    @property
    def total_bytes(self) -> int:
        """Bytes of the examples in all ranges."""
        return sum(ref.bytes for ref in self.ranges)

    def at(self, keys: Collection[str]) -> Iterator[RangeRef]:
        """Yield the ranges in which one of the keys may be."""
        ordered = sorted(keys)
        for ref in self.ranges:
            first = bisect_left(ordered, ref.first_key)
            if first < len(ordered) and ordered[first] <= ref.last_key:
                yield ref

    def encode(self) -> bytes:
        """Return the metarange as it is stored."""
        rows = [
            [r.digest, r.first_key, r.last_key, r.rows, r.bytes, *([r.left] if r.left else [])]
            for r in self.ranges
        ]
        return cbor2.dumps(rows, canonical=True)

    @classmethod
    def decode(cls, data: bytes) -> "Metarange":
        """Return a stored metarange."""
        return cls(tuple(RangeRef(*row) for row in cbor2.loads(data)))


def canonical(row: Row) -> bytes:
    """Return the bytes of a row that digests cover."""
    values = {name: getattr(row, name) for name in _FIELDS}
    return cbor2.dumps({**values, "attributes": dict(row.attributes)}, canonical=True)


def digest_of(rows: Iterable[Row]) -> str:
    """Return the digest of a range."""
    hasher = blake3()
    for row in rows:
        hasher.update(canonical(row))
    return hasher.hexdigest()


def encode(rows: list[Row]) -> bytes:
    """Return a range as a Parquet file."""
    columns = {name: [getattr(row, name) for row in rows] for name in _FIELDS}
    table = pa.Table.from_pydict(columns, schema=_SCHEMA)
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", write_statistics=False, store_schema=False)
    return sink.getvalue()


def decode(data: bytes) -> list[Row]:
    """Return the rows of a Parquet file."""
    table = pq.read_table(pa.BufferReader(data), schema=_SCHEMA)
    columns = [table.column(name).to_pylist() for name in _FIELDS[:-1]]
    attributes = [tuple(pairs or ()) for pairs in table.column("attributes").to_pylist()]
    return [Row(*values) for values in zip(*columns, attributes, strict=True)]


def ends_range(key: str, rows: int) -> bool:
    """Say whether a range of so many rows ends after this key."""
    if rows < MIN_ROWS:
        return False
    if rows >= MAX_ROWS:
        return True
    return int.from_bytes(blake3(key.encode()).digest(length=4), "big") % MEAN_ROWS == 0


Changes = dict[str, Row | None]


class Cutter:
    """Cuts rows that come in key order into ranges."""

    def __init__(self, keep: Callable[[RangeRef, list[Row]], None]) -> None:
        self._keep = keep
        self._pending: list[Row] = []
        self.ranges: list[RangeRef] = []

    @property
    def aligned(self) -> bool:
        """Say whether the last row ended a range."""
        return not self._pending

    def add(self, row: Row) -> None:
        """Take the next row."""
        self._pending.append(row)
        if ends_range(row.key, len(self._pending)):
            self.finish()

    def reuse(self, ref: RangeRef) -> None:
        """Take a whole range as it is."""
        self.ranges.append(ref)

    def finish(self) -> None:
        """End the range in hand."""
        if not self._pending:
            return
        rows, self._pending = self._pending, []
        size = sum(row.size for row in rows)
        ref = RangeRef(digest_of(rows), rows[0].key, rows[-1].key, len(rows), size)
        self._keep(ref, rows)
        self.ranges.append(ref)


def overlay(
    base: Metarange,
    changes: Changes,
    read: Callable[[RangeRef], list[Row]],
    keep: Callable[[RangeRef, list[Row]], None],
) -> Metarange:
    """Return the metarange of `base` with rows put in, replaced, or (None) taken out.

    Only ranges that a change falls into are read, and those after it until the cuts agree again; and those of
    which something was erased, since a new commit has no digest that covers what was erased.

    Args:
        base: What it was.
        changes: Row by key; None removes.
        read: Gives the rows of a range.
        keep: Stores a range that is new here.
    """
    keys = sorted(changes)
    cutter = Cutter(keep)
    position = 0
    for number, ref in enumerate(base.ranges):
        last = number == len(base.ranges) - 1
        end = position
        while end < len(keys) and (last or keys[end] <= ref.last_key):
            end += 1
        inside = keys[position:end]
        position = end
        if not inside and cutter.aligned and not ref.left:
            cutter.reuse(ref)
            continue
        for row in _merge(read(ref), {key: changes[key] for key in inside}):
            cutter.add(row)
    for row in _merge([], {key: changes[key] for key in keys[position:]}):
        cutter.add(row)
    cutter.finish()
    return Metarange(tuple(cutter.ranges))


def without(ref: RangeRef, rows: list[Row]) -> RangeRef:
    """Return how a metarange lists a range of which only these rows are left."""
    first, last = (rows[0].key, rows[-1].key) if rows else ("", "")
    return RangeRef(ref.digest, first, last, len(rows), sum(row.size for row in rows), digest_of(rows))


def _merge(rows: list[Row], changes: Changes) -> Iterator[Row]:
    merged = {row.key: row for row in rows}
    for key, row in changes.items():
        if row is None:
            merged.pop(key, None)
        else:
            merged[key] = row
    for key in sorted(merged):
        yield merged[key]
