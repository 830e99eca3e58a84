"""Commits: made of a head and changes, listed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import cbor2
from blake3 import blake3
from prometheus_client import Counter
from slipway_runtime.db import Database, PageToken, once, page_size
from slipway_runtime.errors import Aborted, InvalidArgument
from slipway_runtime.identity import current_caller
from sqlalchemy import Connection

from slipway_ingestion.domain import Branch, Commit, Row, Tombstones, check_text, name_part
from slipway_ingestion.engine.ranges import Changes, Metarange, overlay
from slipway_ingestion.store import ErasureStore, Store
from slipway_ingestion.usecases.content import Content, Cost
from slipway_ingestion.usecases.datasets import MAIN, Repeat, branch_of, commit_of, dataset_of
from slipway_ingestion.usecases.uploads import upload_of
from slipway_ingestion.usecases.views import Views

COMMITS = Counter("slipway_ingestion_commits_total", "Commits made.")
MAX_REMOVED = 1_000_000


@dataclass(frozen=True)
class NewCommit:
    """What a caller wants committed."""

    parent: str
    branch: str
    uploads: Sequence[str]
    remove_keys: Sequence[str]
    message: str
    expected_head: str


@dataclass(frozen=True)
class _Head:
    """What a commit is laid over."""

    branch: Branch
    commit: Commit
    metarange: Metarange
    tombstones: Tombstones
    going: Sequence[str]  # keys that erasures have not removed from it yet


class Commits:
    """The verbs over commits."""

    def __init__(self, *, database: Database, content: Content, views: Views) -> None:
        self._database = database
        self._content = content
        self._views = views

    def create(self, new: NewCommit, repeat: Repeat) -> Commit:
        """Lay uploads over the branch's head, and move the branch to what comes of it.

        Raises:
            Aborted: The head is not the expected one (BRANCH_MOVED).
            InvalidArgument: Nothing would change (EMPTY_COMMIT), or an item without bytes names a new key.
        """
        (dataset,) = name_part(new.parent, "datasets", field_name="parent")
        check_text("message", new.message, needed=True)
        if len(new.remove_keys) > MAX_REMOVED:
            raise InvalidArgument.field("remove_keys", f"names over {MAX_REMOVED:,} keys; use two commits")
        with self._database.transaction() as connection:
            Store(connection).share()
            commit = once(
                connection,
                request_id=repeat.request_id,
                method="CreateCommit",
                request=repeat.request,
                answer=Commit,
                effect=lambda: self._commit(connection, dataset, new),
            )
        COMMITS.inc()
        return commit

    def _commit(self, connection: Connection, dataset: str, new: NewCommit) -> Commit:
        store = Store(connection)
        dataset_of(store, dataset)
        head = self._head(connection, dataset, new.branch)
        if new.expected_head and commit_of(store, new.expected_head, "expected_head") != head.commit:
            where, now = head.branch.name, head.commit
            message = f"{where} is at {now.digest[:12]} now; look at what is new, then commit again"
            raise Aborted("BRANCH_MOVED", message, metadata={"head": now.name})
        made = self._made(connection, head, self._changes(store, head, new), new.message)
        if made is None:
            message = "the commit would change nothing; leave it out, or upload what is new"
            raise InvalidArgument("EMPTY_COMMIT", message)
        return made

    def take_in(
        self, connection: Connection, new: NewCommit, rows: Sequence[Row]
    ) -> tuple[Commit, list[str]]:
        """Add rows whose keys the branch lacks; return the commit that has all, and the keys added.

        Nothing to add leaves the branch where it is; its head is returned. Within the caller's transaction,
        which has shared the store.
        """
        (dataset,) = name_part(new.parent, "datasets", field_name="parent")
        head = self._head(connection, dataset, new.branch)
        there = {row.key for row in self._rows_at(head, {row.key for row in rows})}
        fresh: Changes = {row.key: row for row in rows if row.key not in there}
        made = self._made(connection, head, fresh, new.message) if fresh else None
        return made or head.commit, sorted(fresh)

    def _head(self, connection: Connection, dataset: str, branch: str) -> "_Head":
        """Return the branch, locked, so that of two writers the second sees the first."""
        store = Store(connection)
        found = branch_of(store, dataset, branch or MAIN, lock=True)
        commit = commit_of(store, f"datasets/{dataset}/commits/{found.commit}")
        metarange = self._views.metarange(connection, commit)
        going = ErasureStore(connection).going(dataset)
        return _Head(found, commit, metarange, self._views.tombstones(connection, dataset), going)

    def _made(self, connection: Connection, head: "_Head", changes: Changes, message: str) -> Commit | None:
        """Lay changes over the head and move the branch; None when that would change nothing."""
        cost = Cost()
        made = overlay(
            head.metarange,
            dict.fromkeys(head.going) | changes,
            read=lambda ref: head.tombstones.visible(self._content.rows(ref)),
            keep=lambda ref, rows: self._content.keep_range(ref, rows, cost),
        )
        if made.digest == head.commit.content:
            return None
        self._content.keep_metarange(made, cost)
        store, commit = Store(connection), _sealed(head.commit, made, message, cost)
        store.add_commit(commit)
        store.move_branch(head.branch, commit.digest)
        return commit

    def _changes(self, store: Store, head: "_Head", new: NewCommit) -> Changes:
        dataset, changes = head.commit.dataset, Changes()
        for name in new.uploads:
            owner, id = name_part(name, "datasets", "uploads", field_name="uploads")
            if owner != dataset:
                raise InvalidArgument.field("uploads", f"names {name!r}, which is of another data set")
            rows = self._content.rows_of_upload(upload_of(store, dataset, id).rows)
            changes |= {row.key: row for row in head.tombstones.visible(rows)}
        changes |= dict.fromkeys(new.remove_keys)
        bare = {key: row for key, row in changes.items() if row is not None and not row.blob}
        changes |= self._with_old_content(head, bare)
        return changes

    def _with_old_content(self, head: "_Head", bare: dict[str, Row]) -> dict[str, Row]:
        """Give rows that came without bytes those that the head has under their keys."""
        if not bare:
            return {}
        old = {row.key: row for row in self._rows_at(head, set(bare))}
        missing = sorted(set(bare) - set(old))
        if missing:
            raise InvalidArgument.field("uploads", f"key {missing[0]!r} is new and has no bytes; send them")
        return {
            key: replace(
                row,
                blob=old[key].blob,
                size=old[key].size,
                media_type=old[key].media_type,
                width=old[key].width,
                height=old[key].height,
            )
            for key, row in bare.items()
        }

    def _rows_at(self, head: "_Head", keys: set[str]) -> Iterator[Row]:
        for ref in head.metarange.at(keys):
            rows = head.tombstones.visible(self._content.rows(ref))
            yield from (row for row in rows if row.key in keys)

    def get(self, name: str) -> Commit:
        """Return one commit."""
        with self._database.transaction() as connection:
            return commit_of(Store(connection), name)

    def history(self, parent: str, start: str, size: int, token: str) -> tuple[Sequence[Commit], str]:
        """Return a page of history, newest first, from a branch or a commit."""
        (dataset,) = name_part(parent, "datasets", field_name="parent")
        limit, tokens = page_size(size), PageToken(("commits", parent, start))
        after = tokens.decode(token)
        with self._database.transaction() as connection:
            store = Store(connection)
            dataset_of(store, dataset)
            first = str(after[0]) if after else _start(store, dataset, start)
            rows = store.history(dataset, first, limit + 1)
        return rows[:limit], tokens.encode(rows[limit].digest) if len(rows) > limit else ""


def _start(store: Store, dataset: str, start: str) -> str:
    branch = store.branch(dataset, start or MAIN)
    if branch is not None:
        return branch.commit
    if len(start) >= 8 and all(c in "0123456789abcdef" for c in start):
        return commit_of(store, f"datasets/{dataset}/commits/{start}", "start").digest
    return branch_of(store, dataset, start).commit


def _sealed(head: Commit, made: Metarange, message: str, cost: Cost) -> Commit:
    """Return the commit whose digest covers content, parent, author, time and message."""
    now = datetime.now(UTC)
    author = current_caller().subject
    covered = [head.dataset, made.digest, head.digest, author, now.isoformat(), message]
    return Commit(
        dataset=head.dataset,
        digest=blake3(cbor2.dumps(covered, canonical=True)).hexdigest(),
        parent=head.digest,
        author=author,
        message=message,
        create_time=now,
        content=made.digest,
        example_count=made.rows,
        total_bytes=made.total_bytes,
        new_objects=cost.objects,
        new_bytes=cost.bytes,
        erasure_revision=head.erasure_revision,
    )
