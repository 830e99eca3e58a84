"""Ranges, metaranges, row lists and packs in the object store, with what was read lately in memory.

All of them are named by the digest of what they hold, so what is cached never goes stale; it is forgotten
when something was erased.
"""

import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable

from blake3 import blake3
from slipway_runtime.errors import SlipwayError
from slipway_runtime.objects import ObjectStore

from slipway_ingestion.domain import Row
from slipway_ingestion.engine import packs, ranges
from slipway_ingestion.engine.ranges import Metarange, RangeRef
from slipway_ingestion.store import StoredBlob


class Cost:
    """What one write added to the store."""

    def __init__(self) -> None:
        self.objects = 0
        self.bytes = 0

    def add(self, size: int) -> None:
        """Count one new object."""
        self.objects += 1
        self.bytes += size


class Cache:
    """The bytes read last, up to a limit."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._size = 0
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, bytes] = OrderedDict()

    def get(self, key: str) -> bytes | None:
        """Return what is kept under the key, or None."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: str, data: bytes) -> None:
        """Keep the bytes; the ones used longest ago go."""
        with self._lock:
            if key in self._kept or len(data) > self._limit:
                return
            self._kept[key] = data
            self._size += len(data)
            while self._size > self._limit:
                self._size -= len(self._kept.popitem(last=False)[1])

    def clear(self) -> None:
        """Keep nothing."""
        with self._lock:
            self._kept.clear()
            self._size = 0


class DamagedRowsError(SlipwayError):
    """Stored rows do not have their digest; the text names the object, which a copy must replace."""

    def __init__(self, message: str) -> None:
        super().__init__("INTERNAL", f"{message}; restore the object from a copy")


class Content:
    """What commits and uploads are made of."""

    def __init__(self, *, objects: ObjectStore, cache_bytes: int) -> None:
        self._objects = objects
        self._cache = Cache(cache_bytes)

    def keep_pack(self, pack: packs.Pack) -> None:
        """Store a pack; durable when this returns."""
        self._objects.put(f"packs/{pack.digest}", pack.data)

    def keep_rows(self, rows: list[Row], cost: Cost) -> str:
        """Store the rows of an upload; return their digest."""
        data = ranges.encode(rows)
        digest = blake3(data).hexdigest()
        if self._objects.put_if_absent(f"uploads/{digest}", data):
            cost.add(len(data))
        return digest

    def rows_of_upload(self, digest: str) -> list[Row]:
        """Return the rows of an upload.

        Raises:
            DamagedRowsError: What is stored is not what was.
        """
        data = self._get(f"uploads/{digest}")
        if blake3(data).hexdigest() != digest:
            raise DamagedRowsError(f"the rows of upload object {digest} are damaged")
        return ranges.decode(data)

    def keep_range(self, ref: RangeRef, rows: list[Row], cost: Cost) -> None:
        """Store a range unless it is there."""
        data = ranges.encode(rows)
        if self._objects.put_if_absent(f"ranges/{ref.stored}", data):
            cost.add(len(data))

    def rows(self, ref: RangeRef) -> list[Row]:
        """Return the rows of a range; checked when they come from the store.

        Raises:
            DamagedRowsError: What is stored is not what was.
        """
        key = f"ranges/{ref.stored}"
        kept = self._cache.get(key)
        if kept is not None:
            return ranges.decode(kept)
        data = self._objects.get(key)
        rows = ranges.decode(data)
        if ranges.digest_of(rows) != ref.stored:
            raise DamagedRowsError(f"range {ref.stored} is damaged")
        self._cache.put(key, data)
        return rows

    def keep_metarange(self, metarange: Metarange, cost: Cost) -> str:
        """Store a metarange unless it is there; return its digest."""
        data = metarange.encode()
        if self._objects.put_if_absent(f"metaranges/{metarange.digest}", data):
            cost.add(len(data))
        return metarange.digest

    def metarange(self, digest: str, redacted: str = "") -> Metarange:
        """Return a metarange; `redacted` names the object that lists what erasures left of it, if any."""
        return Metarange.decode(self._get(f"redacted/{redacted}" if redacted else f"metaranges/{digest}"))

    def keep_redacted(self, metarange: Metarange) -> str:
        """Store what erasures left of a metarange; return what names it."""
        data = metarange.encode()
        name = blake3(data).hexdigest()
        self._objects.put(f"redacted/{name}", data)
        return name

    def digests(self, kind: str) -> list[str]:
        """Return what names the objects of a kind: `packs` or `uploads`."""
        return [key.partition("/")[2] for key in self._objects.list(f"{kind}/")]

    def pack(self, digest: str) -> bytes:
        """Return the bytes of a pack."""
        return self._objects.get(f"packs/{digest}")

    def delete(self, objects: Iterable[str]) -> None:
        """Delete objects by their keys, and forget what is in memory; those that are gone are no error."""
        self._objects.delete(objects)
        self.forget()

    def forget(self) -> None:
        """Forget what is in memory."""
        self._cache.clear()

    def blobs(self, places: Collection[StoredBlob]) -> dict[str, bytes]:
        """Return verified bytes by blob digest."""
        known = {place.pack: place.pack_size for place in places}
        return packs.read_blobs(
            [packs.Place(place.digest, place.pack, place.start, place.size) for place in places],
            whole=lambda pack: self._get(f"packs/{pack}"),
            part=lambda pack, offset, size: self._part(f"packs/{pack}", offset, size),
            pack_size=lambda pack: known[pack],
        )

    def _part(self, key: str, offset: int, size: int) -> bytes:
        kept = self._cache.get(key)
        if kept is not None:
            return kept[offset : offset + size]
        return self._objects.get(key, offset=offset, length=size)

    def _get(self, key: str) -> bytes:
        data = self._cache.get(key)
        if data is None:
            data = self._objects.get(key)
            self._cache.put(key, data)
        return data
