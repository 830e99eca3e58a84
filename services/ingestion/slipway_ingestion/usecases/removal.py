"""Removal: what is stored of an erased example goes, whatever dies meanwhile.

The erasure's row comes first and hides the example; each step here is the same when it is repeated, and is
written down together with what it leaves to do. Objects are rewritten without the example before a row names
them, and the old ones are noted before they are deleted: a kill leaves an object that nothing names and that
holds nothing erased, or a note that the next attempt acts on.
"""

import logging

from prometheus_client import Counter
from slipway_runtime.db import Database
from slipway_runtime.errors import Aborted, SlipwayError
from sqlalchemy import Connection

from slipway_ingestion.domain import Row, Target
from slipway_ingestion.engine.packs import DamagedBlobError, cut_out
from slipway_ingestion.engine.ranges import Metarange, RangeRef, without
from slipway_ingestion.store import Doomed, ErasureStore, PredictionStore, RemovalStore, Store
from slipway_ingestion.usecases.content import Content, Cost
from slipway_ingestion.usecases.erasures import Search, marks

log = logging.getLogger(__name__)

ERASURES = Counter("slipway_ingestion_erasures_total", "Attempts to remove what was erased.", ["result"])
AT_A_TIME = 20
LONGEST_WAIT_S = 60.0


class Removal:
    """Removes what erasures hide.

    Args:
        database: Of this service.
        content: Where it is stored.
    """

    def __init__(self, *, database: Database, content: Content) -> None:
        self._database = database
        self._content = content

    def sweep(self) -> None:
        """Make an attempt at each erasure that has something left to do; the sweeper calls it."""
        with self._database.transaction() as connection:
            due = ErasureStore(connection).due(AT_A_TIME)
        for dataset, id in due:
            try:
                _Attempt(self._database, self._content, dataset, id).run()
                ERASURES.labels("succeeded").inc()
            except Exception as error:
                ERASURES.labels("put_off").inc()
                log.exception("erasure datasets/%s/erasures/%s is put off", dataset, id)
                known = isinstance(error, SlipwayError | DamagedBlobError)
                said = str(error) if known else "an unexpected error; the log names it"
                with self._database.transaction() as connection:
                    ErasureStore(connection).put_off(dataset, id, said, LONGEST_WAIT_S)


class _Attempt:
    """One attempt at one erasure."""

    def __init__(self, database: Database, content: Content, dataset: str, id: str) -> None:
        self._database = database
        self._content = content
        self._dataset = dataset
        self._id = id
        self._target = Target("", frozenset())
        self._clean: set[str] = set()  # stored ranges in which nothing is to go
        self._done: set[str] = set()  # contents of commits that were looked at

    def run(self) -> None:
        """Remove all, in an order that a repeat from the start may take again."""
        self._spread()
        while not self._settled():
            for content in self._contents_left():
                self._redact(content)
                self._done.add(content)
        self._redact_uploads()
        self._cut_blobs()
        self._doom_orphans()
        self._delete_objects()
        with self._database.transaction() as connection:
            Store(connection).exclude()
            store = ErasureStore(connection)
            store.finish(self._dataset, self._id)
            store.touch(self._dataset)
        self._content.forget()

    def _spread(self) -> None:
        """Hide every content that the key ever had."""
        with self._database.transaction() as connection:
            self._target = ErasureStore(connection).target(self._dataset, self._id)
        if not self._target.key:
            return
        found = Search(self._database, self._content).rows(self._dataset, self._target.key)
        blobs = frozenset(row.blob for row in found if row.blob) | self._target.blobs
        if blobs == self._target.blobs:
            return
        self._target = Target(self._target.key, blobs)
        with self._database.transaction() as connection:
            Store(connection).exclude()
            store = ErasureStore(connection)
            tombstones = store.tombstones(self._dataset, None)
            store.hide(self._dataset, self._id, marks(tombstones, self._target), blobs)

    def _contents_left(self) -> list[str]:
        with self._database.transaction() as connection:
            return [one for one in ErasureStore(connection).contents(self._dataset) if one not in self._done]

    def _settled(self) -> bool:
        """Say whether all commits are done, at a moment when none is being made."""
        with self._database.transaction() as connection:
            Store(connection).exclude()
            return set(ErasureStore(connection).contents(self._dataset)) <= self._done

    def _redact(self, content: str) -> None:
        """Take the example out of what one content lists."""
        with self._database.transaction() as connection:
            old = ErasureStore(connection).metarange(self._dataset, content)
        before = self._content.metarange(content, old)
        gone: list[Row] = []
        replaced: list[str] = []
        refs = [self._left_of(ref, gone, replaced) for ref in before.ranges]
        if not gone:
            return
        new = self._content.keep_redacted(Metarange(tuple(refs)))
        lost = len(gone), sum(row.size for row in gone)
        with self._database.transaction() as connection:
            store = ErasureStore(connection)
            if not store.redact(self._dataset, self._id, content, old, new, lost):
                raise Aborted("BRANCH_MOVED", f"content {content} was redacted by another process; again")
            store.doom(
                self._dataset, self._id, [*replaced, f"redacted/{old}" if old else f"metaranges/{content}"]
            )
            PredictionStore(connection).forget(self._dataset, [row.key for row in gone])

    def _left_of(self, ref: RangeRef, gone: list[Row], replaced: list[str]) -> RangeRef:
        if ref.stored in self._clean:
            return ref
        rows = self._content.rows(ref)
        left = [row for row in rows if not self._target.hits(row)]
        if len(left) == len(rows):
            self._clean.add(ref.stored)
            return ref
        gone += [row for row in rows if self._target.hits(row)]
        replaced.append(f"ranges/{ref.stored}")
        new = without(ref, left)
        self._content.keep_range(new, left, Cost())
        return new

    def _redact_uploads(self) -> None:
        """Take the example out of the uploads, and its key out of what they refused."""
        with self._database.transaction() as connection:
            uploads = RemovalStore(connection).uploads(self._dataset)
        for old in uploads:
            rows = self._content.rows_of_upload(old)
            left = [row for row in rows if not self._target.hits(row)]
            if len(left) == len(rows):
                continue
            new = self._content.keep_rows(left, Cost())
            with self._database.transaction() as connection:
                RemovalStore(connection).replace_rows(self._dataset, old, new)
                ErasureStore(connection).doom(self._dataset, self._id, [f"uploads/{old}"])
        if self._target.key:
            with self._database.transaction() as connection:
                _forget_refusals(RemovalStore(connection), self._dataset, self._target.key)

    def _cut_blobs(self) -> None:
        """Let the data set hold the blobs no more; those that none holds are cut out of their packs."""
        with self._database.transaction() as connection:
            Store(connection).exclude()
            removal = RemovalStore(connection)
            held = removal.let_go(self._dataset, self._target.blobs)
            deleted = 0
            for pack, gone in removal.unheld(held).items():
                self._cut(connection, pack, gone)
                deleted += len(gone)
            removal.count(self._dataset, self._id, deleted, len(held) - deleted)

    def _cut(self, connection: Connection, pack: str, gone: list[str]) -> None:
        removal = RemovalStore(connection)
        new = cut_out(self._content.pack(pack), removal.places(pack), gone)
        if new is not None:
            self._content.keep_pack(new)
        removal.replace_pack(pack, gone, new)
        ErasureStore(connection).doom(self._dataset, self._id, [f"packs/{pack}"])

    def _doom_orphans(self) -> None:
        """Note packs and row lists that no row names: what a killed upload left may hold the example.

        One that an upload is just about to name is spared: when objects are deleted, none is under way.
        """
        for kind in ("packs", "uploads"):
            digests = self._content.digests(kind)
            with self._database.transaction() as connection:
                orphans = set(digests) - RemovalStore(connection).named(kind, digests)
                ErasureStore(connection).doom(self._dataset, self._id, [f"{kind}/{one}" for one in orphans])

    def _delete_objects(self) -> None:
        """Delete what was replaced, unless something names it: other data sets may have equal content."""
        with self._database.transaction() as connection:
            Store(connection).exclude()
            store = ErasureStore(connection)
            doomed = store.doomed(self._dataset, self._id)
            needed = self._ranges_elsewhere(store)
            free = [one.object for one in doomed if not self._is_named(store, one, needed)]
            self._content.delete(free)
            store.spare(self._dataset, self._id, [one.object for one in doomed])

    def _is_named(self, store: ErasureStore, doomed: Doomed, ranges: set[str]) -> bool:
        return doomed.digest in ranges if doomed.kind == "ranges" else store.named(doomed)

    def _ranges_elsewhere(self, store: ErasureStore) -> set[str]:
        """Return the ranges of the other data sets that hold one of the blobs: no other has such a row."""
        found: set[str] = set()
        for dataset in store.holders(self._dataset, self._target.blobs):
            for content in store.contents(dataset):
                metarange = self._content.metarange(content, store.metarange(dataset, content))
                found |= {ref.stored for ref in metarange.ranges}
        return found


def _forget_refusals(removal: RemovalStore, dataset: str, key: str) -> None:
    for id, refused in removal.refusals(dataset, key):
        removal.keep_refusals(dataset, id, [item for item in refused if item["key"] != key])
    removal.forget_answers(key)
