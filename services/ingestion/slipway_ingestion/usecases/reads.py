"""Commits as they are read: by page, compared, counted, streamed; what was erased is in none of it."""

from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from prometheus_client import Counter
from slipway_runtime.db import Database, PageToken, page_of, page_size
from slipway_runtime.errors import InvalidArgument, NotFound, SlipwayError

from slipway_ingestion.domain import Change, Row, SplitPolicy, Statistics, as_json, check_split
from slipway_ingestion.engine.packs import DamagedBlobError
from slipway_ingestion.store import Store
from slipway_ingestion.usecases.content import Content
from slipway_ingestion.usecases.views import View, Views

DAMAGED = Counter("slipway_ingestion_damaged_blobs_total", "Stored blobs that were found damaged.")
READ_ROWS = 256
READ_BYTES = 2 << 20
MAX_KEYS = 1000


class DataLossError(SlipwayError):
    """Stored bytes are damaged."""


@dataclass(frozen=True)
class ExampleFilter:
    """Which examples a listing shows; empty fields match all."""

    split: str = ""
    label: str = ""
    key_prefix: str = ""


@dataclass(frozen=True)
class DiffPage:
    """A page of differences, and how much had to be read for it."""

    changes: Sequence[Change]
    next_token: str
    ranges_read: int
    ranges_total: int


class Reads:
    """The verbs that look into commits."""

    def __init__(self, *, database: Database, content: Content, views: Views) -> None:
        self._database = database
        self._content = content
        self._views = views

    def examples(
        self, parent: str, which: ExampleFilter, size: int, token: str
    ) -> tuple[Sequence[Row], str, SplitPolicy]:
        """Return a page of examples by key, the next token, and the policy that gives their splits."""
        check_split(which.split)
        limit = page_size(size)
        tokens = PageToken(("examples", parent, which.split, which.label, which.key_prefix))
        after = tokens.decode(token)
        view = self._views.open(parent, "parent")
        policy = view.dataset.policy
        page: list[Row] = []
        for row in view.rows_after(str(after[0]) if after else "", which.key_prefix):
            if _matches(row, which, policy):
                page.append(row)
            if len(page) > limit:
                break
        sent = page_of(page, limit)
        return sent, tokens.encode(sent[-1].key) if len(page) > len(sent) else "", policy

    def diff(self, base: str, target: str, size: int, token: str) -> tuple[DiffPage, SplitPolicy]:
        """Return a page of differences by key; ranges that both commits have are not read."""
        limit, tokens = page_size(size), PageToken(("diff", base, target))
        after = tokens.decode(token)
        sides = [self._views.open(base, "base"), self._views.open(target, "target")]
        old, new = (side.dataset for side in sides)
        if old.id != new.id:
            raise InvalidArgument.field("target", f"is of {new.name}, not of {old.name}")
        before, later, ranges_read = _apart(*sides)
        start = str(after[0]) if after else ""
        keys = sorted(
            key for key in before.keys() | later.keys() if key > start and before.get(key) != later.get(key)
        )
        changes = page_of([Change(key, before.get(key), later.get(key)) for key in keys[: limit + 1]], limit)
        next_token = tokens.encode(changes[-1].key) if len(keys) > len(changes) else ""
        total = sum(len(side.metarange.ranges) for side in sides)
        return DiffPage(changes, next_token, ranges_read, total), old.policy

    def statistics(self, name: str) -> Statistics:
        """Return what a commit holds, in numbers; kept per content until something is erased."""
        view = self._views.open(name, "name")
        dataset, content = view.dataset.id, view.commit.content
        with self._database.transaction() as connection:
            kept = Store(connection).statistics(dataset, content)
        if kept is not None:
            return kept
        counted = _count(view.rows_after(), view.dataset.policy)
        with self._database.transaction() as connection:
            store = Store(connection)
            store.share()
            if self._views.tombstones(connection, dataset).revision == view.tombstones.revision:
                store.keep_statistics(dataset, content, as_json(counted))
        return counted

    def read(
        self, name: str, split: str, keys: Sequence[str], *, rows_only: bool
    ) -> Iterator[list[tuple[Row, str, bytes]]]:
        """Yield batches of (row, split, bytes) in key order; every blob is verified as it is read.

        What is erased while the stream goes on is left out of its later batches.

        Raises:
            DataLossError: A stored blob is damaged; the text names it.
        """
        check_split(split)
        if len(keys) > MAX_KEYS:
            raise InvalidArgument.field("keys", f"names {len(keys)}; at most {MAX_KEYS}: ask in parts")
        view = self._views.open(name, "commit")
        policy, wanted = view.dataset.policy, set(keys)
        rows = view.rows_at(wanted) if wanted else view.rows_after()
        chosen = (row for row in rows if not split or policy.split(row.split_group) == split)
        for batch in _batches(chosen):
            view.refresh()
            left = view.tombstones.visible(batch)
            blobs = {} if rows_only else self._blobs(view, left)
            yield [
                (row, policy.split(row.split_group), blobs.get(row.blob, b""))
                for row in view.tombstones.visible(left)
            ]

    def _blobs(self, view: View, rows: Sequence[Row]) -> dict[str, bytes]:
        """Return verified bytes by digest; those that are missing were erased, as the view then knows."""
        try:
            blobs = self._stored(rows)
        except NotFound:  # a pack was rewritten meanwhile: its blobs have other places now
            view.refresh()
            return self._stored(view.tombstones.visible(list(rows)))
        if any(row.blob not in blobs for row in rows):
            view.refresh()
        return blobs

    def _stored(self, rows: Iterable[Row]) -> dict[str, bytes]:
        digests = {row.blob for row in rows}
        with self._database.transaction() as connection:
            places = Store(connection).stored(digests)
        try:
            return self._content.blobs(places.values())
        except DamagedBlobError as error:
            DAMAGED.inc()
            raise DataLossError("INTERNAL", f"{error}; upload it again") from error


def _apart(old: View, new: View) -> tuple[dict[str, Row], dict[str, Row], int]:
    """Return the rows by key of the ranges that only one side has, and how many ranges were read."""
    shared = {ref.stored for ref in old.metarange.ranges} & {ref.stored for ref in new.metarange.ranges}
    read = [[ref for ref in view.metarange.ranges if ref.stored not in shared] for view in (old, new)]
    before, later = (
        {row.key: row for ref in refs for row in view.rows(ref)}
        for view, refs in zip((old, new), read, strict=True)
    )
    return before, later, sum(map(len, read))


def _matches(row: Row, which: ExampleFilter, policy: SplitPolicy) -> bool:
    return (
        (not which.label or row.label == which.label)
        and row.key.startswith(which.key_prefix)
        and (not which.split or policy.split(row.split_group) == which.split)
    )


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += row.size
        if len(batch) >= READ_ROWS or size >= READ_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _count(rows: Iterable[Row], policy: SplitPolicy) -> Statistics:
    labels, splits, types, sources, images = (Tally[str]() for _ in range(5))
    sizes: list[int] = []
    blobs: set[str] = set()
    for row in rows:
        labels[row.label] += 1
        splits[policy.split(row.split_group)] += 1
        types[row.media_type] += 1
        sources[row.label_source] += 1
        if row.width:
            images[f"{row.width}x{row.height}"] += 1
        sizes.append(row.size)
        blobs.add(row.blob)
    return Statistics(
        example_count=len(sizes),
        label_counts=dict(labels),
        split_counts=dict(splits),
        media_type_counts=dict(types),
        label_source_counts=dict(sources),
        image_size_counts=dict(images),
        total_bytes=sum(sizes),
        size_bytes_quantiles=[min(sizes), int(median(sizes)), max(sizes)] if sizes else [],
        duplicate_count=len(sizes) - len(blobs),
    )
