"""Blobs and uploads as an erasure takes them apart."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from slipway_ingestion.engine.packs import Pack, Place


class RemovalStore:
    """What of packs and uploads is left, on one connection, within the caller's transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def _rows(self, statement: str, **values: Any) -> Sequence[Row[Any]]:
        result = self._connection.execute(text(statement), values)
        return result.all() if result.returns_rows else ()

    def let_go(self, dataset: str, blobs: Collection[str]) -> list[str]:
        """Let a data set hold blobs no more; return those that it held."""
        rows = self._rows(
            "DELETE FROM dataset_blobs WHERE dataset = :dataset AND blob = ANY(:blobs) RETURNING blob",
            dataset=dataset,
            blobs=list(blobs),
        )
        return [str(row.blob) for row in rows]

    def unheld(self, blobs: Collection[str]) -> dict[str, list[str]]:
        """Return those of the blobs that no data set holds, by pack."""
        rows = self._rows(
            "SELECT b.pack, b.digest FROM blobs b WHERE b.digest = ANY(:blobs) AND NOT EXISTS "
            "(SELECT 1 FROM dataset_blobs d WHERE d.blob = b.digest) ORDER BY b.pack, b.digest",
            blobs=list(blobs),
        )
        packs: dict[str, list[str]] = {}
        for row in rows:
            packs.setdefault(row.pack, []).append(row.digest)
        return packs

    def places(self, pack: str) -> list[Place]:
        """Return where each blob of a pack is."""
        rows = self._rows("SELECT * FROM blobs WHERE pack = :pack ORDER BY start", pack=pack)
        return [Place(row.digest, row.pack, row.start, row.size) for row in rows]

    def replace_pack(self, old: str, gone: Collection[str], new: Pack | None) -> None:
        """Point blobs at a new pack, if any is left; drop the old one and the blobs that are gone."""
        if new is not None:
            self._rows(
                "INSERT INTO packs VALUES (:new, :size) ON CONFLICT DO NOTHING",
                new=new.digest,
                size=len(new.data),
            )
            self._rows(
                "UPDATE blobs SET pack = :new, start = u.o FROM unnest(CAST(:digests AS text[]), "
                "CAST(:starts AS bigint[])) AS u(d, o) WHERE blobs.digest = u.d",
                new=new.digest,
                digests=[place.blob for place in new.places],
                starts=[place.offset for place in new.places],
            )
        self._rows("DELETE FROM blobs WHERE digest = ANY(:gone)", gone=list(gone))
        self._rows("DELETE FROM packs WHERE digest = :old", old=old)

    def count(self, dataset: str, id: str, deleted: int, kept: int) -> None:
        """Count blobs that an erasure deleted, and those that other data sets keep."""
        self._rows(
            "UPDATE erasures SET deleted_blob_count = deleted_blob_count + :deleted, "
            "kept_blob_count = kept_blob_count + :kept WHERE dataset = :dataset AND id = :id",
            dataset=dataset,
            id=id,
            deleted=deleted,
            kept=kept,
        )

    def uploads(self, dataset: str) -> list[str]:
        """Return the row lists of a data set's uploads."""
        rows = self._rows("SELECT DISTINCT rows FROM uploads WHERE dataset = :dataset", dataset=dataset)
        return [str(row.rows) for row in rows]

    def replace_rows(self, dataset: str, old: str, new: str) -> None:
        """Let the uploads of a data set that have one row list have another."""
        self._rows(
            "UPDATE uploads SET rows = :new WHERE dataset = :dataset AND rows = :old",
            dataset=dataset,
            old=old,
            new=new,
        )

    def named(self, kind: str, digests: Collection[str]) -> set[str]:
        """Return those of the packs or row lists of uploads that a row names."""
        statement = {
            "packs": "SELECT digest FROM packs WHERE digest = ANY(:digests)",
            "uploads": "SELECT DISTINCT rows AS digest FROM uploads WHERE rows = ANY(:digests)",
        }[kind]
        return {str(row.digest) for row in self._rows(statement, digests=list(digests))}

    def refusals(self, dataset: str, key: str) -> list[tuple[str, list[dict[str, str]]]]:
        """Return the uploads that refused an item of that key, with all that each refused."""
        rows = self._rows(
            "SELECT id, refused FROM uploads WHERE dataset = :dataset "
            "AND refused @> jsonb_build_array(jsonb_build_object('key', CAST(:key AS text)))",
            dataset=dataset,
            key=key,
        )
        return [(row.id, row.refused) for row in rows]

    def keep_refusals(self, dataset: str, id: str, refused: list[dict[str, str]]) -> None:
        """Replace what an upload refused."""
        statement = text("UPDATE uploads SET refused = :refused WHERE dataset = :dataset AND id = :id")
        values = {"dataset": dataset, "id": id, "refused": refused}
        self._connection.execute(statement.bindparams(bindparam("refused", type_=JSONB)), values)

    def forget_answers(self, key: str) -> None:
        """Take a key out of what uploads and imports of the last days were answered."""
        self._rows(
            "UPDATE idempotency SET answer = convert_to(jsonb_set(a.value, '{refused}', (SELECT "
            "coalesce(jsonb_agg(r), '[]') FROM jsonb_array_elements(a.value -> 'refused') AS r "
            "WHERE r ->> 'key' <> :key))::text, 'UTF8') FROM (SELECT caller, request_id, "
            "convert_from(answer, 'UTF8')::jsonb AS value FROM idempotency WHERE answer IS NOT NULL "
            "AND method IN ('UploadExamples', 'ImportPredictions')) AS a WHERE a.caller = idempotency.caller "
            "AND a.request_id = idempotency.request_id AND a.value -> 'refused' "
            "@> jsonb_build_array(jsonb_build_object('key', CAST(:key AS text)))",
            key=key,
        )
