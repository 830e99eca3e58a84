"""Imports of captured inputs: asked for and read."""

import uuid

from opentelemetry import propagate
from slipway_runtime.db import Database, Repeat
from slipway_runtime.errors import NotFound
from slipway_runtime.identity import current_caller
from sqlalchemy import Connection

from slipway_monitoring.clients import Ingestion
from slipway_monitoring.domain.captures import CaptureImport, ImportSpec, check_import, nothing_captured
from slipway_monitoring.domain.names import capture_import_of
from slipway_monitoring.store.captures import CaptureImportStore
from slipway_monitoring.usecases.sources import monitored


class CaptureImports:
    """The verbs over imports.

    Args:
        database: The service's own.
        ingestion: Asked whether the data set is there.
    """

    def __init__(self, *, database: Database, ingestion: Ingestion) -> None:
        self._database = database
        self._ingestion = ingestion

    def create(self, asked: ImportSpec, repeat: Repeat) -> CaptureImport:
        """Keep an import with the rows that it takes, PENDING; from here on it cannot be lost.

        Raises:
            NotFound: No event of the endpoint came (MONITOR_NOT_FOUND), or there is no such data set
                (DATASET_NOT_FOUND).
            FailedPrecondition: No image is kept of what is asked for (NOTHING_CAPTURED).
            Unavailable: Ingestion cannot be reached.
        """
        spec = check_import(asked)
        self._ingestion.check_dataset(spec.dataset)
        with self._database.transaction() as connection:
            return repeat.once(connection, CaptureImport, lambda: _add(connection, spec))

    def get(self, name: str) -> CaptureImport:
        """Return one import.

        Raises:
            NotFound: There is no such import (CAPTURE_IMPORT_NOT_FOUND).
        """
        with self._database.transaction() as connection:
            return existing_import(connection, name)


def existing_import(connection: Connection, name: str) -> CaptureImport:
    """Return the import of a name.

    Raises:
        NotFound: There is none (CAPTURE_IMPORT_NOT_FOUND).
    """
    found = CaptureImportStore(connection).get(capture_import_of(name))
    if found is None:
        raise NotFound.of("CAPTURE_IMPORT_NOT_FOUND", "capture import", name)
    return found


def _add(connection: Connection, spec: ImportSpec) -> CaptureImport:
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    endpoint = monitored(connection, spec.endpoint)
    store, id = CaptureImportStore(connection), uuid.uuid4().hex
    made = store.add(id, spec, current_caller().subject, carrier.get("traceparent", ""))
    if not store.choose(id, endpoint, spec):
        raise nothing_captured(spec.endpoint)
    return made
