"""Rows of ingestion in and out; returns domain objects."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from slipway_ingestion.domain import (
    Branch,
    Commit,
    Dataset,
    Refused,
    SplitPolicy,
    Statistics,
    Upload,
)

_ERASING = "hashtextextended('ingestion.erasing', 0)"
_COMMITS = (
    "SELECT c.*, coalesce(r.erased_count, 0) AS erased_count, coalesce(r.erased_bytes, 0) AS erased_bytes, "
    "d.erasure_revision FROM commits c JOIN datasets d ON d.id = c.dataset "
    "LEFT JOIN redactions r ON r.dataset = c.dataset AND r.content = c.content "
)


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """Where a blob is and what it was seen to be."""

    digest: str
    pack: str
    start: int
    size: int
    pack_size: int


class Store:
    """Ingestion's tables on one connection, within the caller's transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def _rows(self, statement: str, *json_fields: str, **values: Any) -> Sequence[Row[Any]]:
        clause = text(statement)
        if json_fields:
            clause = clause.bindparams(*(bindparam(field, type_=JSONB) for field in json_fields))
        result = self._connection.execute(clause, values)
        return result.all() if result.returns_rows else ()

    def share(self) -> None:
        """Keep erasures out until the end of the transaction: what is stored stays until then."""
        self._rows(f"SELECT pg_advisory_xact_lock_shared({_ERASING})")

    def exclude(self) -> None:
        """Be alone until the end of the transaction: nobody stores, nobody commits."""
        self._rows(f"SELECT pg_advisory_xact_lock({_ERASING})")

    # Data sets and branches

    def add_dataset(
        self, id: str, display_name: str, description: str, policy: SplitPolicy, creator: str
    ) -> Dataset | None:
        """Return the new data set, or None when the id is taken."""
        rows = self._rows(
            "INSERT INTO datasets (id, display_name, description, policy, creator) "
            "VALUES (:id, :display_name, :description, :policy, :creator) ON CONFLICT DO NOTHING RETURNING *",
            "policy",
            id=id,
            display_name=display_name,
            description=description,
            policy=asdict(policy),
            creator=creator,
        )
        return _dataset(rows[0]) if rows else None

    def dataset(self, id: str, *, lock: bool = False) -> Dataset | None:
        """Return one data set, locked until the end of the transaction when asked."""
        rows = self._rows(f"SELECT * FROM datasets WHERE id = :id{' FOR UPDATE' if lock else ''}", id=id)
        return _dataset(rows[0]) if rows else None

    def datasets(self, after: str, limit: int) -> list[Dataset]:
        """Return data sets by id."""
        statement = "SELECT * FROM datasets WHERE id > :after ORDER BY id LIMIT :limit"
        return [_dataset(row) for row in self._rows(statement, after=after, limit=limit)]

    def update_dataset(self, id: str, display_name: str, description: str) -> Dataset:
        """Change a data set."""
        rows = self._rows(
            "UPDATE datasets SET display_name = :display_name, description = :description, "
            "revision = revision + 1, update_time = clock_timestamp() WHERE id = :id RETURNING *",
            id=id,
            display_name=display_name,
            description=description,
        )
        return _dataset(rows[0])

    def add_branch(self, dataset: str, id: str, commit: str) -> Branch | None:
        """Return the new branch, or None when the id is taken."""
        rows = self._rows(
            "INSERT INTO branches (dataset, id, commit) VALUES (:dataset, :id, :commit) "
            "ON CONFLICT DO NOTHING RETURNING *",
            dataset=dataset,
            id=id,
            commit=commit,
        )
        return _branch(rows[0]) if rows else None

    def branch(self, dataset: str, id: str, *, lock: bool = False) -> Branch | None:
        """Return one branch, locked until the end of the transaction when asked."""
        rows = self._rows(
            f"SELECT * FROM branches WHERE dataset = :dataset AND id = :id{' FOR UPDATE' if lock else ''}",
            dataset=dataset,
            id=id,
        )
        return _branch(rows[0]) if rows else None

    def branches(self, dataset: str, after: str, limit: int) -> list[Branch]:
        """Return branches by id."""
        statement = "SELECT * FROM branches WHERE dataset = :dataset AND id > :after ORDER BY id LIMIT :limit"
        return [_branch(row) for row in self._rows(statement, dataset=dataset, after=after, limit=limit)]

    def move_branch(self, branch: Branch, commit: str) -> Branch:
        """Point a locked branch at another commit."""
        rows = self._rows(
            "UPDATE branches SET commit = :commit, revision = revision + 1, update_time = clock_timestamp() "
            "WHERE dataset = :dataset AND id = :id RETURNING *",
            dataset=branch.dataset,
            id=branch.id,
            commit=commit,
        )
        return _branch(rows[0])

    # Commits

    def add_commit(self, commit: Commit) -> None:
        """Keep a commit; one of the same digest is the same."""
        self._rows(
            "INSERT INTO commits (dataset, digest, parent, author, message, create_time, content, "
            "example_count, total_bytes, new_objects, new_bytes) VALUES (:dataset, :digest, :parent, "
            ":author, :message, :create_time, :content, :example_count, :total_bytes, :new_objects, "
            ":new_bytes) ON CONFLICT DO NOTHING",
            **asdict(commit),
        )

    def commits_like(self, dataset: str, prefix: str, limit: int = 2) -> list[Commit]:
        """Return commits whose digest begins so."""
        statement = f"{_COMMITS}WHERE c.dataset = :dataset AND c.digest LIKE :like LIMIT :limit"
        rows = self._rows(statement, dataset=dataset, like=f"{prefix}%", limit=limit)
        return [_commit(row) for row in rows]

    def commits_on(self, commit: Commit, after: str, limit: int) -> list[Commit]:
        """Return the commits, past the digest `after`, whose parent a commit is."""
        rows = self._rows(
            f"{_COMMITS}WHERE c.dataset = :dataset AND c.parent = :parent AND c.digest > :after "
            "ORDER BY c.digest LIMIT :limit",
            dataset=commit.dataset,
            parent=commit.digest,
            after=after,
            limit=limit,
        )
        return [_commit(row) for row in rows]

    def history(self, dataset: str, start: str, limit: int) -> list[Commit]:
        """Return a commit and those before it, newest first."""
        rows = self._rows(
            "WITH RECURSIVE chain AS (SELECT c.*, 1 AS depth FROM commits c "
            "WHERE c.dataset = :dataset AND c.digest = :start UNION ALL "
            "SELECT c.*, chain.depth + 1 FROM commits c JOIN chain "
            "ON c.dataset = chain.dataset AND c.digest = chain.parent WHERE chain.depth < :limit) "
            f"{_COMMITS.replace('FROM commits', 'FROM chain')}ORDER BY depth",
            dataset=dataset,
            start=start,
            limit=limit,
        )
        return [_commit(row) for row in rows]

    def statistics(self, dataset: str, content: str) -> Statistics | None:
        """Return kept statistics, or None."""
        statement = "SELECT value FROM statistics WHERE dataset = :dataset AND content = :content"
        rows = self._rows(statement, dataset=dataset, content=content)
        return Statistics(**rows[0].value) if rows else None

    def keep_statistics(self, dataset: str, content: str, value: dict[str, Any]) -> None:
        """Keep statistics: they are a function of the content and the split policy."""
        self._rows(
            "INSERT INTO statistics VALUES (:dataset, :content, :value) ON CONFLICT DO NOTHING",
            "value",
            dataset=dataset,
            content=content,
            value=value,
        )

    # Uploads and blobs

    def add_upload(self, upload: Upload) -> Upload:
        """Keep an upload."""
        values = {**upload.__dict__, "refused": [asdict(refused) for refused in upload.refused]}
        self._rows(
            "INSERT INTO uploads (dataset, id, rows, accepted_count, accepted_bytes, new_bytes, new_objects, "
            "refused, refused_count, create_time) VALUES (:dataset, :id, :rows, :accepted_count, "
            ":accepted_bytes, :new_bytes, :new_objects, :refused, :refused_count, :create_time)",
            "refused",
            **values,
        )
        return upload

    def upload(self, dataset: str, id: str) -> Upload | None:
        """Return one upload, or None."""
        rows = self._rows(
            "SELECT * FROM uploads WHERE dataset = :dataset AND id = :id", dataset=dataset, id=id
        )
        if not rows:
            return None
        values = dict(rows[0]._mapping)
        return Upload(**{**values, "refused": tuple(Refused(**item) for item in values["refused"])})

    def stored(self, digests: Iterable[str]) -> dict[str, StoredBlob]:
        """Return where blobs are, by digest; those not stored are left out."""
        rows = self._rows(
            "SELECT b.digest, b.pack, b.start, b.size, p.size AS pack_size FROM blobs b "
            "JOIN packs p ON p.digest = b.pack WHERE b.digest = ANY(:digests)",
            digests=list(digests),
        )
        return {
            row.digest: StoredBlob(row.digest, row.pack, row.start, row.size, row.pack_size) for row in rows
        }

    def add_pack(self, digest: str, size: int, places: Sequence[tuple[str, int, int]]) -> set[str]:
        """Keep a pack and its blobs (digest, offset, size); return those that no other pack has."""
        self._rows(
            "INSERT INTO packs VALUES (:digest, :size) ON CONFLICT DO NOTHING", digest=digest, size=size
        )
        rows = self._rows(
            "INSERT INTO blobs (digest, pack, start, size) SELECT d, :pack, o, s FROM unnest("
            "CAST(:digests AS text[]), CAST(:starts AS bigint[]), CAST(:sizes AS bigint[])) AS u(d, o, s) "
            "ORDER BY d ON CONFLICT DO NOTHING RETURNING digest",
            pack=digest,
            digests=[place[0] for place in places],
            starts=[place[1] for place in places],
            sizes=[place[2] for place in places],
        )
        return {str(row.digest) for row in rows}

    def hold_blobs(self, dataset: str, seen: Sequence[tuple[str, str, int, int]]) -> None:
        """Say that a data set holds blobs (digest, media type, width, height)."""
        self._rows(
            "INSERT INTO dataset_blobs SELECT :dataset, * FROM unnest(CAST(:digests AS text[]), "
            "CAST(:types AS text[]), CAST(:widths AS int[]), CAST(:heights AS int[])) ON CONFLICT DO NOTHING",
            dataset=dataset,
            digests=[item[0] for item in seen],
            types=[item[1] for item in seen],
            widths=[item[2] for item in seen],
            heights=[item[3] for item in seen],
        )

    def held(self, dataset: str, digest: str) -> tuple[str, int, int, int] | None:
        """Return media type, width, height and size of a blob that the data set holds, or None."""
        rows = self._rows(
            "SELECT d.media_type, d.width, d.height, b.size FROM dataset_blobs d "
            "JOIN blobs b ON b.digest = d.blob WHERE d.dataset = :dataset AND d.blob = :digest",
            dataset=dataset,
            digest=digest,
        )
        return tuple(rows[0]) if rows else None  # type: ignore[return-value]


def _dataset(row: Row[Any]) -> Dataset:
    return Dataset(
        id=row.id,
        display_name=row.display_name,
        description=row.description,
        policy=SplitPolicy(**row.policy),
        create_time=row.create_time,
        update_time=row.update_time,
        etag=str(row.revision),
        creator=row.creator,
    )


def _branch(row: Row[Any]) -> Branch:
    return Branch(row.dataset, row.id, row.commit, str(row.revision), row.update_time)


def _commit(row: Row[Any]) -> Commit:
    fields = Commit.__dataclass_fields__
    return Commit(**{name: value for name, value in row._mapping.items() if name in fields})
