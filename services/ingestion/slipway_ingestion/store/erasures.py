"""Erasures, what they hide, what they have left to remove."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, text

from slipway_ingestion.domain import Erasure, Target, Tombstones

_FIELDS = tuple(Erasure.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class Doomed:
    """An object that an erasure is to delete unless something names it again."""

    object: str

    @property
    def kind(self) -> str:
        """`packs`, `ranges`, `metaranges`, `redacted` or `uploads`."""
        return self.object.partition("/")[0]

    @property
    def digest(self) -> str:
        """What names it within its kind."""
        return self.object.partition("/")[2]


class ErasureStore:
    """The tables of erasures on one connection, within the caller's transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def _rows(self, statement: str, **values: Any) -> Sequence[Row[Any]]:
        result = self._connection.execute(text(statement), values)
        return result.all() if result.returns_rows else ()

    # What readers need

    def tombstones(self, dataset: str, known: Tombstones | None) -> Tombstones:
        """Return what was erased from a data set: `known` where that is still so."""
        rows = self._rows("SELECT salt, erasure_revision FROM datasets WHERE id = :id", id=dataset)
        salt, revision = (bytes(rows[0].salt), int(rows[0].erasure_revision)) if rows else (b"", 0)
        if known is not None and known.revision == revision:
            return known
        found = self._rows("SELECT mark, erasure FROM tombstones WHERE dataset = :dataset", dataset=dataset)
        return Tombstones(salt, revision, {bytes(row.mark): row.erasure for row in found})

    def metarange(self, dataset: str, content: str) -> str:
        """Return the object that lists what is left of a content; empty where nothing was erased from it."""
        rows = self._rows(
            "SELECT object FROM redactions WHERE dataset = :dataset AND content = :content",
            dataset=dataset,
            content=content,
        )
        return str(rows[0].object) if rows else ""

    def going(self, dataset: str) -> list[str]:
        """Return the keys that are hidden but not yet removed."""
        rows = self._rows(
            "SELECT key FROM erasures WHERE dataset = :dataset AND number IS NULL AND key <> ''",
            dataset=dataset,
        )
        return [str(row.key) for row in rows]

    # Erasures

    def add(self, dataset: str, id: str, reason: str, creator: str, target: Target) -> Erasure:
        """Keep a new erasure."""
        rows = self._rows(
            "INSERT INTO erasures (dataset, id, reason, creator, key, blobs) "
            "VALUES (:dataset, :id, :reason, :creator, :key, '{}') RETURNING *",
            dataset=dataset,
            id=id,
            reason=reason,
            creator=creator,
            key=target.key,
        )
        return _erasure(rows[0])

    def hide(self, dataset: str, id: str, marks: Iterable[bytes], blobs: Iterable[str]) -> None:
        """Hide what has one of the marks from now on; `blobs` are what is to be removed, in clear."""
        self._rows(
            "INSERT INTO tombstones SELECT :dataset, m, :id FROM unnest(CAST(:marks AS bytea[])) AS u(m) "
            "ON CONFLICT DO NOTHING",
            dataset=dataset,
            id=id,
            marks=list(marks),
        )
        self._rows(
            "UPDATE erasures SET blobs = ARRAY(SELECT DISTINCT unnest(blobs || CAST(:blobs AS text[])) "
            "ORDER BY 1) WHERE dataset = :dataset AND id = :id",
            dataset=dataset,
            id=id,
            blobs=list(blobs),
        )
        self._rows("DELETE FROM statistics WHERE dataset = :dataset", dataset=dataset)
        self.touch(dataset)

    def touch(self, dataset: str) -> None:
        """Make every process look again at what was erased, and forget what it has in memory."""
        statement = "UPDATE datasets SET erasure_revision = erasure_revision + 1 WHERE id = :dataset"
        self._rows(statement, dataset=dataset)

    def erasure(self, dataset: str, id: str) -> Erasure | None:
        """Return one erasure, or None."""
        rows = self._rows(
            "SELECT * FROM erasures WHERE dataset = :dataset AND id = :id", dataset=dataset, id=id
        )
        return _erasure(rows[0]) if rows else None

    def asked(self, dataset: str, after: int, limit: int) -> list[Erasure]:
        """Return erasures of a data set (`-`: of all) in the order asked for, past a sequence."""
        rows = self._rows(
            "SELECT * FROM erasures WHERE (:dataset = '-' OR dataset = :dataset) AND sequence > :after "
            "ORDER BY sequence LIMIT :limit",
            dataset=dataset,
            after=after,
            limit=limit,
        )
        return [_erasure(row) for row in rows]

    def ended(self, dataset: str, after: int, limit: int) -> list[Erasure]:
        """Return erasures of a data set (`-`: of all) that ended, by number, past a number."""
        rows = self._rows(
            "SELECT * FROM erasures WHERE (:dataset = '-' OR dataset = :dataset) AND number > :after "
            "ORDER BY number LIMIT :limit",
            dataset=dataset,
            after=after,
            limit=limit,
        )
        return [_erasure(row) for row in rows]

    def commits_of(self, erasure: Erasure, after: str, limit: int) -> list[str]:
        """Return digests, past `after`, of the commits that contained the example."""
        rows = self._rows(
            "SELECT c.digest FROM erased_contents e JOIN commits c ON c.dataset = e.dataset "
            "AND c.content = e.content WHERE e.dataset = :dataset AND e.erasure = :id AND c.digest > :after "
            "ORDER BY c.digest LIMIT :limit",
            dataset=erasure.dataset,
            id=erasure.id,
            after=after,
            limit=limit,
        )
        return [str(row.digest) for row in rows]

    # What removes

    def due(self, limit: int) -> list[tuple[str, str]]:
        """Return (data set, id) of erasures that have something left to do."""
        rows = self._rows(
            "SELECT dataset, id FROM erasures WHERE number IS NULL AND due_time <= clock_timestamp() "
            "ORDER BY sequence LIMIT :limit",
            limit=limit,
        )
        return [(row.dataset, row.id) for row in rows]

    def target(self, dataset: str, id: str) -> Target:
        """Return what an erasure that has not ended removes."""
        (row,) = self._rows(
            "SELECT key, blobs FROM erasures WHERE dataset = :dataset AND id = :id", dataset=dataset, id=id
        )
        return Target(row.key, frozenset(row.blobs))

    def put_off(self, dataset: str, id: str, error: str, longest_s: float) -> None:
        """Note why an attempt ended early; the next one waits, twice as long each time."""
        self._rows(
            "UPDATE erasures SET error = :error, failures = failures + 1, due_time = clock_timestamp() "
            "+ make_interval(secs => least(power(2, least(failures, 20)), :longest_s)) "
            "WHERE dataset = :dataset AND id = :id",
            dataset=dataset,
            id=id,
            error=error,
            longest_s=longest_s,
        )

    def heads(self, dataset: str) -> list[str]:
        """Return the contents of the branches' heads."""
        rows = self._rows(
            "SELECT c.content FROM branches b JOIN commits c ON c.dataset = b.dataset "
            "AND c.digest = b.commit WHERE b.dataset = :dataset ORDER BY b.id",
            dataset=dataset,
        )
        return [str(row.content) for row in rows]

    def contents(self, dataset: str) -> list[str]:
        """Return the contents of all commits of a data set."""
        rows = self._rows("SELECT DISTINCT content FROM commits WHERE dataset = :dataset", dataset=dataset)
        return [str(row.content) for row in rows]

    def redact(self, dataset: str, id: str, content: str, old: str, new: str, lost: tuple[int, int]) -> bool:
        """Let `new` list what is left of a content, less by `lost` (examples, bytes) than in `old`.

        False says that another process has put something else in the place of `old`.
        """
        values = {"dataset": dataset, "content": content, "new": new, "count": lost[0], "bytes": lost[1]}
        if old:
            done = self._rows(
                "UPDATE redactions SET object = :new, erased_count = erased_count + :count, erased_bytes = "
                "erased_bytes + :bytes WHERE dataset = :dataset AND content = :content AND object = :old "
                "RETURNING 1",
                old=old,
                **values,
            )
        else:
            done = self._rows(
                "INSERT INTO redactions VALUES (:dataset, :content, :new, :count, :bytes) "
                "ON CONFLICT DO NOTHING RETURNING 1",
                **values,
            )
        self._rows(
            "INSERT INTO erased_contents VALUES (:dataset, :id, :content) ON CONFLICT DO NOTHING",
            dataset=dataset,
            id=id,
            content=content,
        )
        return bool(done)

    def doom(self, dataset: str, id: str, objects: Iterable[str]) -> None:
        """Note objects to delete."""
        self._rows(
            "INSERT INTO doomed SELECT o, :dataset, :id FROM unnest(CAST(:objects AS text[])) AS u(o) "
            "ON CONFLICT DO NOTHING",
            dataset=dataset,
            id=id,
            objects=list(objects),
        )

    def doomed(self, dataset: str, id: str) -> list[Doomed]:
        """Return the objects that an erasure has left to delete."""
        statement = "SELECT object FROM doomed WHERE dataset = :dataset AND erasure = :id ORDER BY object"
        return [Doomed(row.object) for row in self._rows(statement, dataset=dataset, id=id)]

    def spare(self, dataset: str, id: str, objects: Collection[str]) -> None:
        """Drop notes of objects that are deleted, or that something names again."""
        self._rows(
            "DELETE FROM doomed WHERE dataset = :dataset AND erasure = :id AND object = ANY(:objects)",
            dataset=dataset,
            id=id,
            objects=list(objects),
        )

    def named(self, doomed: Doomed) -> bool:
        """Say whether a row names an object; ranges are named by metaranges alone, not by rows."""
        statement = {
            "packs": "SELECT 1 FROM packs WHERE digest = :digest",
            "uploads": "SELECT 1 FROM uploads WHERE rows = :digest LIMIT 1",
            "redacted": "SELECT 1 FROM redactions WHERE object = :digest LIMIT 1",
            "metaranges": "SELECT 1 FROM commits c WHERE c.content = :digest AND NOT EXISTS (SELECT 1 FROM "
            "redactions r WHERE r.dataset = c.dataset AND r.content = c.content) LIMIT 1",
        }[doomed.kind]
        return bool(self._rows(statement, digest=doomed.digest))

    def holders(self, dataset: str, blobs: Collection[str]) -> list[str]:
        """Return the other data sets that hold one of the blobs."""
        rows = self._rows(
            "SELECT DISTINCT dataset FROM dataset_blobs WHERE blob = ANY(:blobs) AND dataset <> :dataset",
            dataset=dataset,
            blobs=list(blobs),
        )
        return [str(row.dataset) for row in rows]

    def finish(self, dataset: str, id: str) -> Erasure:
        """End an erasure: it keeps nothing in clear from now on."""
        rows = self._rows(
            "UPDATE erasures SET number = (SELECT coalesce(max(number), 0) + 1 FROM erasures), "
            "finish_time = clock_timestamp(), key = '', blobs = '{}', error = '', commit_count = "
            "(SELECT count(*) FROM erased_contents e JOIN commits c ON c.dataset = e.dataset "
            "AND c.content = e.content WHERE e.dataset = :dataset AND e.erasure = :id) "
            "WHERE dataset = :dataset AND id = :id RETURNING *",
            dataset=dataset,
            id=id,
        )
        return _erasure(rows[0])


def _erasure(row: Row[Any]) -> Erasure:
    values = {name: value for name, value in row._mapping.items() if name in _FIELDS}
    return Erasure(**{**values, "number": row.number or 0})
