"""Erasures: asked for, looked up, and what they hide. ADR-0007 says what is kept and why."""

import builtins
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from slipway_runtime.db import Database, PageToken, once, page_size
from slipway_runtime.errors import AlreadyExists, InvalidArgument, NotFound
from slipway_runtime.identity import current_caller, require_role
from sqlalchemy import Connection

from slipway_ingestion.domain import (
    Erasure,
    Row,
    Target,
    Tombstones,
    blob_mark,
    check_blob,
    check_text,
    key_mark,
    key_trouble,
    name_part,
)
from slipway_ingestion.store import ErasureStore, RemovalStore, Store
from slipway_ingestion.usecases.content import Content
from slipway_ingestion.usecases.datasets import MAIN, Repeat, dataset_of
from slipway_ingestion.usecases.views import Views

MAX_CHECKED = 1000
MAY_ERASE = frozenset({"admin", "engineer"})


@dataclass(frozen=True)
class NewErasure:
    """What a caller wants erased: a key or a blob."""

    parent: str
    key: str
    blob: str
    reason: str


@dataclass(frozen=True)
class _Found:
    """What a key was found to hold: blobs (None: nothing is left), or the erasure that took it."""

    blobs: frozenset[str] | None
    erasure: str = ""


class Erasures:
    """The verbs over erasures.

    Args:
        database: Of this service.
        content: Where examples are looked for.
        views: What was erased before.
        wake: Makes the removal begin at once.
    """

    def __init__(
        self, *, database: Database, content: Content, views: Views, wake: Callable[[], None]
    ) -> None:
        self._database = database
        self._content = content
        self._views = views
        self._wake = wake

    def create(self, new: NewErasure, repeat: Repeat) -> Erasure:
        """Hide an example from here on, everywhere in the data set; the removal follows.

        Raises:
            PermissionDenied: The caller is neither engineer nor admin.
            NotFound: No commit or upload has it (EXAMPLE_NOT_FOUND).
            AlreadyExists: It was erased before (ERASED).
        """
        require_role(current_caller(), MAY_ERASE)
        dataset = _checked(new)
        with self._database.transaction() as connection:
            dataset_of(Store(connection), dataset)
        found = self._find(dataset, new.key) if new.key else _Found(frozenset({new.blob}))
        with self._database.transaction() as connection:
            Store(connection).exclude()
            erasure = once(
                connection,
                request_id=repeat.request_id,
                method="CreateErasure",
                request=repeat.request,
                answer=Erasure,
                effect=lambda: self._hide(connection, dataset, new, found),
            )
        self._wake()
        return erasure

    def _hide(self, connection: Connection, dataset: str, new: NewErasure, found: "_Found") -> Erasure:
        store, tombstones = ErasureStore(connection), self._views.tombstones(connection, dataset)
        before = tombstones.erasure(new.key, new.blob) or found.erasure
        if before:
            name = f"datasets/{dataset}/erasures/{before}"
            message = f"the example was erased already, by {name}; there is nothing left to erase"
            raise AlreadyExists("ERASED", message, metadata={"erasure": name})
        if found.blobs is None or (new.blob and Store(connection).held(dataset, new.blob) is None):
            raise self._not_found(connection, dataset, new)
        target = Target(new.key, found.blobs)
        made = store.add(dataset, uuid.uuid4().hex, new.reason, current_caller().subject, target)
        store.hide(dataset, made.id, marks(tombstones, target), target.blobs)
        return made

    def _find(self, dataset: str, key: str) -> "_Found":
        """Return the blob of the first example found that has the key and was not erased."""
        erasure = ""
        for row in Search(self._database, self._content).rows(dataset, key):
            with self._database.transaction() as connection:
                erasure = self._views.tombstones(connection, dataset).erasure(key, row.blob)
            if not erasure:
                return _Found(frozenset({row.blob} - {""}))
        return _Found(None, erasure)

    def _not_found(self, connection: Connection, dataset: str, new: NewErasure) -> NotFound:
        if new.blob:
            return NotFound.of("EXAMPLE_NOT_FOUND", f"blob in data set {dataset!r} of digest", new.blob)
        branch = Store(connection).branch(dataset, MAIN)
        known: list[str] = []
        if branch is not None:
            view = self._views.open(f"datasets/{dataset}/commits/{branch.commit}", "name")
            refs = [ref for ref in view.metarange.ranges if ref.last_key >= new.key][:1]
            known = [row.key for ref in refs or view.metarange.ranges[-1:] for row in view.rows(ref)]
        return NotFound.of("EXAMPLE_NOT_FOUND", f"example in data set {dataset!r} of key", new.key, known)

    def get(self, name: str) -> Erasure:
        """Return one erasure."""
        dataset, id = name_part(name, "datasets", "erasures")
        with self._database.transaction() as connection:
            return erasure_of(connection, dataset, id)

    def list(
        self, parent: str, after_number: int | None, size: int, token: str
    ) -> tuple[Sequence[Erasure], str]:
        """Return a page of erasures: all as asked for, or those that ended past a number."""
        (dataset,) = name_part(parent, "datasets", field_name="parent")
        limit = page_size(size)
        tokens = PageToken(("erasures", parent, str(after_number)), (int,))
        after = tokens.decode(token)
        with self._database.transaction() as connection:
            if dataset != "-":
                dataset_of(Store(connection), dataset)
            store = ErasureStore(connection)
            if after_number is None:
                rows = store.asked(dataset, after[0] if after else 0, limit + 1)
            else:
                rows = store.ended(dataset, after[0] if after else after_number, limit + 1)
        if len(rows) <= limit:
            return rows, ""
        last = rows[limit - 1]
        return rows[:limit], tokens.encode(last.sequence if after_number is None else last.number)

    def check(self, parent: str, examples: Sequence[tuple[str, str]]) -> builtins.list[tuple[int, str]]:
        """Return place and erasure of those of the examples (key, blob) that were erased."""
        (dataset,) = name_part(parent, "datasets", field_name="parent")
        if len(examples) > MAX_CHECKED:
            raise InvalidArgument.field(
                "examples", f"names {len(examples)}; at most {MAX_CHECKED}: ask in parts"
            )
        with self._database.transaction() as connection:
            dataset_of(Store(connection), dataset)
            tombstones = self._views.tombstones(connection, dataset)
        found = ((place, tombstones.erasure(*example)) for place, example in enumerate(examples))
        return [(place, f"datasets/{dataset}/erasures/{id}") for place, id in found if id]


class Search:
    """Looks for examples by key in all commits and uploads of a data set, the branches' heads first."""

    def __init__(self, database: Database, content: Content) -> None:
        self._database = database
        self._content = content

    def rows(self, dataset: str, key: str) -> Iterator[Row]:
        """Yield the rows that have the key, erased ones too, each range looked at once."""
        seen: set[str] = set()
        for content in self._contents(dataset):
            with self._database.transaction() as connection:
                redacted = ErasureStore(connection).metarange(dataset, content)
            for ref in self._content.metarange(content, redacted).at({key}):
                if ref.stored not in seen:
                    seen.add(ref.stored)
                    yield from (row for row in self._content.rows(ref) if row.key == key)
        with self._database.transaction() as connection:
            uploads = RemovalStore(connection).uploads(dataset)
        for upload in uploads:
            yield from (row for row in self._content.rows_of_upload(upload) if row.key == key)

    def _contents(self, dataset: str) -> list[str]:
        with self._database.transaction() as connection:
            store = ErasureStore(connection)
            return list(dict.fromkeys([*store.heads(dataset), *store.contents(dataset)]))


def marks(tombstones: Tombstones, target: Target) -> list[bytes]:
    """Return what a data set remembers of what is erased."""
    salt = tombstones.salt
    keys = [key_mark(salt, target.key)] if target.key else []
    return [*keys, *(blob_mark(salt, blob) for blob in sorted(target.blobs))]


def erasure_of(connection: Connection, dataset: str, id: str) -> Erasure:
    """Return an erasure, or refuse.

    Raises:
        NotFound: There is none of that name.
    """
    found = ErasureStore(connection).erasure(dataset, id)
    if found is None:
        dataset_of(Store(connection), dataset)
        raise NotFound("ERASURE_NOT_FOUND", f"data set {dataset!r} has no erasure {id!r}; list its erasures")
    return found


def _checked(new: NewErasure) -> str:
    """Return the data set's id; refuse what names no example or gives no reason."""
    (dataset,) = name_part(new.parent, "datasets", field_name="parent")
    if not new.key and not new.blob:
        raise InvalidArgument.field("example", "is missing; name the key or the blob of what is to be erased")
    if new.blob:
        check_blob("blob", new.blob)
    elif key_trouble(new.key):
        raise InvalidArgument.field("key", f"is {new.key[:80]!r}: {key_trouble(new.key)}")
    check_text("reason", new.reason, needed=True)
    return dataset
