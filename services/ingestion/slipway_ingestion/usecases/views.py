"""A data set as it is read now: what was erased from it, and what is left of its commits."""

import threading
from collections.abc import Iterator

from slipway_runtime.db import Database
from slipway_runtime.errors import NotFound
from sqlalchemy import Connection

from slipway_ingestion.domain import Commit, Dataset, Row, Tombstones
from slipway_ingestion.engine.ranges import Metarange, RangeRef
from slipway_ingestion.store import ErasureStore, Store
from slipway_ingestion.usecases.content import Content
from slipway_ingestion.usecases.datasets import commit_of, dataset_of


class Views:
    """Opens commits for reading.

    Args:
        database: Of this service.
        content: What commits are made of; forgotten whenever something was erased.
    """

    def __init__(self, *, database: Database, content: Content) -> None:
        self._database = database
        self._content = content
        self._lock = threading.Lock()
        self._known: dict[str, Tombstones] = {}

    def tombstones(self, connection: Connection, dataset: str) -> Tombstones:
        """Return what was erased from a data set, as of now."""
        known = self._known.get(dataset)
        found = ErasureStore(connection).tombstones(dataset, known)
        if known is not None and found.revision > known.revision:
            self._content.forget()
        with self._lock:
            self._known[dataset] = found
        return found

    def metarange(self, connection: Connection, commit: Commit) -> Metarange:
        """Return what is left of a commit's ranges; a list that was rewritten meanwhile is found again."""
        store = ErasureStore(connection)
        while True:
            redacted = store.metarange(commit.dataset, commit.content)
            try:
                return self._content.metarange(commit.content, redacted)
            except NotFound:
                if store.metarange(commit.dataset, commit.content) == redacted:
                    raise

    def open(self, name: str, field_name: str) -> "View":
        """Return a commit to read from.

        Raises:
            NotFound: There is none of that name.
        """
        with self._database.transaction() as connection:
            store = Store(connection)
            commit = commit_of(store, name, field_name)
            dataset = dataset_of(store, commit.dataset)
            metarange, hidden = self.metarange(connection, commit), self.tombstones(connection, dataset.id)
        return View(self, commit, dataset, metarange, hidden)

    def refresh(self, view: "View") -> None:
        """Let a view know what was erased since."""
        with self._database.transaction() as connection:
            view.tombstones = self.tombstones(connection, view.dataset.id)

    def rows(self, view: "View", ref: RangeRef) -> list[Row]:
        """Return what was not erased of a range; one that was rewritten meanwhile is found again."""
        try:
            rows = self._content.rows(ref)
        except NotFound:
            with self._database.transaction() as connection:
                view.tombstones = self.tombstones(connection, view.dataset.id)
                ranges = self.metarange(connection, view.commit).ranges
            rows = self._content.rows(next(new for new in ranges if new.digest == ref.digest))
        return view.tombstones.visible(rows)


class View:
    """One commit as it is read.

    Args:
        views: Where it was opened.
        commit: Which.
        dataset: Whose.
        metarange: What is left of its ranges.
        tombstones: What was erased, as far as the view knows.
    """

    def __init__(
        self, views: Views, commit: Commit, dataset: Dataset, metarange: Metarange, tombstones: Tombstones
    ) -> None:
        self._views = views
        self.commit = commit
        self.dataset = dataset
        self.metarange = metarange
        self.tombstones = tombstones

    def refresh(self) -> None:
        """Look again at what was erased."""
        self._views.refresh(self)

    def rows(self, ref: RangeRef) -> list[Row]:
        """Return the rows of one of the ranges."""
        return self._views.rows(self, ref)

    def rows_after(self, after: str = "", prefix: str = "") -> Iterator[Row]:
        """Yield rows past a key, from the ranges in which keys of that prefix may be."""
        for ref in self.metarange.ranges:
            if ref.last_key <= after or ref.last_key < prefix:
                continue
            if prefix and ref.first_key > prefix and not ref.first_key.startswith(prefix):
                return
            yield from (row for row in self.rows(ref) if row.key > after)

    def rows_at(self, keys: set[str]) -> Iterator[Row]:
        """Yield the rows that have one of the keys."""
        for ref in self.metarange.at(keys):
            yield from (row for row in self.rows(ref) if row.key in keys)
