"""Uploads: bytes in, inspected one by one, packed, durable before the answer.

A pack is stored before its row, and the upload's row comes last: a crash anywhere leaves objects that nothing
names, never a name without its bytes.
"""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from slipway_runtime.db import Database, once
from slipway_runtime.errors import NotFound
from sqlalchemy import Connection

from slipway_ingestion.domain import Upload, name_part
from slipway_ingestion.store import Store
from slipway_ingestion.usecases.content import Content
from slipway_ingestion.usecases.datasets import dataset_of
from slipway_ingestion.usecases.intake import Intake, Intakes, Item


@dataclass(frozen=True)
class Header:
    """Where an upload goes."""

    parent: str
    request_id: str
    label_source: str


class Uploads:
    """The verbs over uploads."""

    def __init__(self, *, database: Database, content: Content, intakes: Intakes) -> None:
        self._database = database
        self._content = content
        self._intakes = intakes

    def receive(self, header: Header, items: Iterable[Item]) -> Upload:
        """Take items; those that are refused are named, the rest is durable when this returns.

        Raises:
            NotFound: There is no such data set.
            ResourceExhausted: The upload exceeds a limit as a whole (UPLOAD_TOO_LARGE).
        """
        (dataset,) = name_part(header.parent, "datasets", field_name="header.parent")
        with self._database.transaction() as connection:
            dataset_of(Store(connection), dataset)
        intake = self._intakes.open(dataset, header.label_source)
        for item in items:
            intake.take(item)
        intake.flush()
        with self._database.transaction() as connection:
            Store(connection).share()
            return once(
                connection,
                request_id=header.request_id,
                method="UploadExamples",
                request=intake.fingerprint(header.parent, header.label_source),
                answer=Upload,
                effect=lambda: self._keep(connection, dataset, intake),
            )

    def _keep(self, connection: Connection, dataset: str, intake: Intake) -> Upload:
        rows = intake.rows(connection)
        listed = self._content.keep_rows(rows, intake.cost)
        intake.count()
        upload = Upload(
            dataset=dataset,
            id=uuid.uuid4().hex,
            rows=listed,
            accepted_count=len(rows),
            accepted_bytes=sum(row.size for row in rows),
            new_bytes=intake.new_bytes,
            new_objects=intake.cost.objects,
            refused=tuple(intake.refused),
            refused_count=intake.refused_count,
            create_time=datetime.now(UTC),
        )
        return Store(connection).add_upload(upload)

    def get(self, name: str) -> Upload:
        """Return one upload."""
        dataset, id = name_part(name, "datasets", "uploads")
        with self._database.transaction() as connection:
            return upload_of(Store(connection), dataset, id)


def upload_of(store: Store, dataset: str, id: str) -> Upload:
    """Return an upload, or refuse.

    Raises:
        NotFound: There is none of that name.
    """
    found = store.upload(dataset, id)
    if found is None:
        dataset_of(store, dataset)
        raise NotFound("UPLOAD_NOT_FOUND", f"data set {dataset!r} has no upload {id!r}; upload again")
    return found
