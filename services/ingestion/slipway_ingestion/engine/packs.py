"""Packs: many small blobs in one object, because one object per small file is what makes stores slow."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from blake3 import blake3

WHOLE_PACK_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Place:
    """Where a blob's bytes are."""

    blob: str
    pack: str
    offset: int
    size: int


@dataclass(frozen=True)
class Pack:
    """A pack that is ready to be stored: its bytes, named by their digest, and where each blob is in it."""

    digest: str
    data: bytes
    places: tuple[Place, ...]


class Packer:
    """Collects blobs until a pack is full."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._blobs: dict[str, bytes] = {}
        self._size = 0

    def add(self, digest: str, data: bytes) -> None:
        """Take a blob; one that is in hand already costs nothing."""
        if digest not in self._blobs:
            self._blobs[digest] = data
            self._size += len(data)

    @property
    def full(self) -> bool:
        """Say whether the pack should be stored now."""
        return self._size >= self._limit

    @property
    def digests(self) -> list[str]:
        """The blobs in hand."""
        return list(self._blobs)

    def take(self, known: Iterable[str]) -> Pack | None:
        """Return what is in hand, less what is stored already, and begin anew."""
        stored = set(known)
        fresh = {digest: data for digest, data in self._blobs.items() if digest not in stored}
        self._blobs, self._size = {}, 0
        return packed(fresh)


def packed(blobs: Mapping[str, bytes]) -> Pack | None:
    """Return blobs by digest as one pack; None when there is none."""
    if not blobs:
        return None
    data = b"".join(blobs.values())
    name = blake3(data).hexdigest()
    places, offset = [], 0
    for digest, blob in blobs.items():
        places.append(Place(digest, name, offset, len(blob)))
        offset += len(blob)
    return Pack(name, data, tuple(places))


def cut_out(data: bytes, places: Iterable[Place], gone: Collection[str]) -> Pack | None:
    """Return a pack's bytes as a pack without some of its blobs; None when no other is left.

    Raises:
        DamagedBlobError: A blob that is to stay does not have its digest.
    """
    kept = [place for place in places if place.blob not in gone]
    blobs = {place.blob: data[place.offset : place.offset + place.size] for place in kept}
    for digest, blob in blobs.items():
        if blake3(blob).hexdigest() != digest:
            raise DamagedBlobError(f"blob {digest} in pack {kept[0].pack} is damaged")
    return packed(blobs)


class DamagedBlobError(Exception):
    """Stored bytes that do not have their digest."""


def read_blobs(
    places: Iterable[Place],
    whole: Callable[[str], bytes],
    part: Callable[[str, int, int], bytes],
    pack_size: Callable[[str], int],
) -> dict[str, bytes]:
    """Return blobs by digest, each verified; a pack of which much is wanted is fetched once, whole.

    Raises:
        DamagedBlobError: Stored bytes do not have their digest.
    """
    by_pack: dict[str, list[Place]] = {}
    for place in places:
        by_pack.setdefault(place.pack, []).append(place)
    blobs: dict[str, bytes] = {}
    for pack, wanted in by_pack.items():
        share = sum(place.size for place in wanted) / max(pack_size(pack), 1)
        data = whole(pack) if share >= WHOLE_PACK_SHARE or len(wanted) > 8 else b""
        for place in wanted:
            end = place.offset + place.size
            blob = data[place.offset : end] if data else part(pack, place.offset, place.size)
            if blake3(blob).hexdigest() != place.blob:
                raise DamagedBlobError(f"blob {place.blob} in pack {pack} is damaged")
            blobs[place.blob] = blob
    return blobs
