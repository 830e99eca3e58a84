"""Items on their way in: inspected one by one, packed, their bytes durable before anything names them."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from blake3 import blake3
from prometheus_client import Counter
from slipway_runtime.db import Database
from slipway_runtime.errors import ResourceExhausted
from sqlalchemy import Connection

from slipway_ingestion.domain import (
    MAX_ATTRIBUTES,
    MAX_KEY_BYTES,
    MAX_TEXT,
    REFUSED_LISTED,
    Refused,
    Row,
    key_trouble,
)
from slipway_ingestion.engine.inspect import RefusalError, inspect
from slipway_ingestion.engine.packs import Pack, Packer, cut_out
from slipway_ingestion.store import RemovalStore, Store
from slipway_ingestion.usecases.content import Content, Cost
from slipway_ingestion.usecases.views import Views

MAX_ROWS_TEXT = 512 << 20
ITEMS = Counter("slipway_ingestion_items_total", "Uploaded items.", ["result"])


@dataclass(frozen=True)
class Item:
    """One example as it arrives: bytes, or the digest of a blob, or neither (then only the label changes)."""

    row: Row
    data: bytes | None
    blob: str


@dataclass(frozen=True)
class Limits:
    """What an upload may not exceed."""

    item_bytes: int
    items: int
    bytes: int
    pack_bytes: int


class Intakes:
    """Opens intakes.

    Args:
        database: Of this service.
        content: Where packs go.
        views: What was erased.
        limits: Of each intake.
    """

    def __init__(self, *, database: Database, content: Content, views: Views, limits: Limits) -> None:
        self._parts = (database, content, views, limits)

    def open(self, dataset: str, label_source: str, trouble: Callable[[str], str] = key_trouble) -> "Intake":
        """Return an intake for a data set; `trouble` says what is wrong with a key, or nothing."""
        return Intake(*self._parts, dataset, label_source, trouble)


class Intake:
    """Items on their way in; holds no more than a pack of bytes and the rows, which are bounded too."""

    def __init__(
        self,
        database: Database,
        content: Content,
        views: Views,
        limits: Limits,
        dataset: str,
        label_source: str,
        trouble: Callable[[str], str],
    ) -> None:
        self._database = database
        self._content = content
        self._views = views
        self._limits = limits
        self._dataset = dataset
        self._label_source = label_source
        self._trouble = trouble
        self._packer = Packer(limits.pack_bytes)
        self._seen: list[tuple[str, str, int, int]] = []
        self._rows: dict[str, Row] = {}
        self.refused: list[Refused] = []
        self.refused_count = 0
        self._items = 0
        self._bytes = 0
        self._text = 0
        self.new_bytes = 0
        self.cost = Cost()
        self._hasher = blake3()

    def take(self, item: Item) -> None:
        """Take or refuse one item."""
        self._items += 1
        self._bytes += len(item.data or b"")
        self._text += _text_size(item.row)
        self._check_limits()
        self._hash(item)
        try:
            row = self._checked(item)
        except RefusalError as refusal:
            self._refuse(item.row.key, refusal)
            return
        self._rows[row.key] = row
        if self._packer.full:
            self.flush()

    def rows(self, connection: Connection) -> list[Row]:
        """Return the rows taken, by key, less those that were erased; after `flush`.

        Args:
            connection: A transaction that shares the store, so that nothing is erased before its end.
        """
        tombstones = self._views.tombstones(connection, self._dataset)
        for key in [key for key, row in self._rows.items() if tombstones.hide(row)]:
            row = self._rows.pop(key)
            self._refuse(key, self._erased(key, tombstones.erasure(row.key, row.blob)))
        return [self._rows[key] for key in sorted(self._rows)]

    def count(self) -> None:
        """Count what was taken and refused."""
        ITEMS.labels("accepted").inc(len(self._rows))
        ITEMS.labels("refused").inc(self.refused_count)

    def fingerprint(self, *header: str) -> bytes:
        """Return bytes that stand for the whole content: of the header's texts and all items."""
        return "\0".join([*header, self._hasher.hexdigest()]).encode()

    def _erased(self, key: str, erasure: str) -> RefusalError:
        name = f"datasets/{self._dataset}/erasures/{erasure}"
        return RefusalError("ERASED", f"{key}: the example was erased by request ({name}); leave it out")

    def _refuse(self, key: str, refusal: RefusalError) -> None:
        self.refused_count += 1
        if len(self.refused) < REFUSED_LISTED:
            self.refused.append(Refused(key[:MAX_KEY_BYTES], refusal.reason, str(refusal)))

    def _checked(self, item: Item) -> Row:
        row = item.row
        trouble = self._trouble(row.key)
        if trouble:
            raise RefusalError("INVALID_KEY", f"{row.key[:80]!r}: {trouble}")
        if row.key in self._rows:
            raise RefusalError("DUPLICATE_KEY", f"{row.key}: the key came before in this upload; rename one")
        texts = [row.label, row.label_source, row.group, *(text for pair in row.attributes for text in pair)]
        if len(row.attributes) > MAX_ATTRIBUTES or any(
            len(text) > MAX_TEXT or "\0" in text for text in texts
        ):
            raise RefusalError(
                "INVALID_TEXT", f"{row.key}: a label, group or attribute is too long or has NUL"
            )
        if row.label and not row.label_source:
            row = replace(row, label_source=self._label_source or "imports/unnamed")
        return self._with_content(row, item)

    def _with_content(self, row: Row, item: Item) -> Row:
        if item.data is None:
            return self._with_held(row, item.blob) if item.blob else row
        size = len(item.data)
        if size > self._limits.item_bytes:
            limit = self._limits.item_bytes
            raise RefusalError("ITEM_TOO_LARGE", f"{row.key}: {size} bytes; at most {limit}; make it smaller")
        content = inspect(row.key, item.data)
        digest = blake3(item.data).hexdigest()
        self._packer.add(digest, item.data)
        self._seen.append((digest, content.media_type, content.width, content.height))
        return replace(
            row,
            blob=digest,
            size=size,
            media_type=content.media_type,
            width=content.width,
            height=content.height,
        )

    def _with_held(self, row: Row, blob: str) -> Row:
        self.flush()
        with self._database.transaction() as connection:
            held = Store(connection).held(self._dataset, blob)
            erasure = self._views.tombstones(connection, self._dataset).erasure("", blob)
        if erasure:
            raise self._erased(row.key, erasure)
        if held is None:
            message = f"{row.key}: data set {self._dataset!r} holds no blob {blob[:80]!r}; send the bytes"
            raise RefusalError("BLOB_NOT_FOUND", message)
        media_type, width, height, size = held
        return replace(row, blob=blob, size=size, media_type=media_type, width=width, height=height)

    def flush(self) -> None:
        """Store the pack in hand and the rows that name it, less what was erased.

        One transaction that shares the store: what was found stored cannot be deleted before it is held.
        """
        if not self._seen:
            return
        seen, self._seen = self._seen, []
        with self._database.transaction() as connection:
            store = Store(connection)
            store.share()
            tombstones = self._views.tombstones(connection, self._dataset)
            erased = {digest for digest, *_ in seen if tombstones.erasure("", digest)}
            pack = self._packer.take({*store.stored(self._packer.digests), *erased})
            if pack is not None:
                pack = self._kept(connection, pack)
            store.hold_blobs(self._dataset, [one for one in seen if one[0] not in erased])
        if pack is not None:
            self.cost.add(len(pack.data))
            self.new_bytes += len(pack.data)

    def _kept(self, connection: Connection, pack: Pack) -> Pack | None:
        """Store a pack; without the blobs that another upload was faster with: none may be in two packs."""
        self._content.keep_pack(pack)
        places = [(place.blob, place.offset, place.size) for place in pack.places]
        late = {place.blob for place in pack.places} - Store(connection).add_pack(
            pack.digest, len(pack.data), places
        )
        if not late:
            return pack
        less = cut_out(pack.data, pack.places, late)
        if less is not None:
            self._content.keep_pack(less)
        RemovalStore(connection).replace_pack(pack.digest, [], less)
        return less

    def _hash(self, item: Item) -> None:
        parts = [item.row.key, item.row.label, item.row.label_source, item.row.group, item.blob]
        parts += [text for pair in item.row.attributes for text in pair]
        self._hasher.update("\0".join(parts).encode(errors="surrogatepass"))
        self._hasher.update(blake3(item.data or b"").digest())

    def _check_limits(self) -> None:
        limits = self._limits
        if self._items > limits.items or self._bytes > limits.bytes:
            raise ResourceExhausted(
                "UPLOAD_TOO_LARGE",
                f"the upload has more than {limits.items:,} items or {limits.bytes:,} bytes; split it",
            )
        if self._text > MAX_ROWS_TEXT:
            raise ResourceExhausted(
                "UPLOAD_TOO_LARGE",
                f"keys, labels and attributes have more than {MAX_ROWS_TEXT:,} characters; split the upload",
            )


def _text_size(row: Row) -> int:
    pairs = sum(len(name) + len(value) for name, value in row.attributes)
    return len(row.key) + len(row.label) + len(row.label_source) + len(row.group) + pairs
