"""Errands: an import's commit is made, whatever dies meanwhile, exactly once.

The rows were chosen when the import was asked for, and ingestion answers a request_id of the import's id
once: an attempt that died after the commit is repeated to the same answer. Errors are told apart: those that
pass are waited out, the others end the import.
"""

import logging
from collections.abc import Iterator

from opentelemetry import propagate, trace
from prometheus_client import Counter
from slipway_runtime import telemetry
from slipway_runtime.db import Database
from slipway_runtime.errors import (
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    SlipwayError,
    Unavailable,
)

from slipway_monitoring.clients import Ingestion, PredictedItem
from slipway_monitoring.domain.captures import Errand, FencedError, error_text
from slipway_monitoring.engine.pictures import png
from slipway_monitoring.store.captures import CaptureImportStore

log = logging.getLogger(__name__)

IMPORTS = Counter(
    "slipway_monitoring_capture_imports_total", "Imports of captured inputs that ended.", ["state"]
)
AT_A_TIME = 20
PART = 100  # rows read at a time
RETRY_S, MAX_WAIT_S = 1.0, 30.0
MAX_FAILURES = 20  # of errors that need not pass
PASSING = (Unavailable, DeadlineExceeded, Cancelled)
LASTING = (NotFound, InvalidArgument, FailedPrecondition, ResourceExhausted)


class Errands:
    """Makes the commits of imports.

    Args:
        database: The service's own.
        ingestion: Where commits are made.
        lease_s: How long an attempt that was cut off keeps the import.
    """

    def __init__(self, *, database: Database, ingestion: Ingestion, lease_s: float) -> None:
        self._database = database
        self._ingestion = ingestion
        self._lease_s = lease_s

    def sweep(self) -> None:
        """Make an attempt at each import that waits for one; the sweeper calls it."""
        with self._database.transaction() as connection:
            due = CaptureImportStore(connection).due(AT_A_TIME)
        for id in due:
            self.run(id)

    def run(self, id: str) -> None:
        """Make one attempt at an import."""
        with self._database.transaction() as connection:
            errand = CaptureImportStore(connection).begin(id, self._lease_s)
        if errand is None:
            return
        context = propagate.extract({"traceparent": errand.traceparent})
        with telemetry.tracer.start_as_current_span(
            "capture import", context=context, kind=trace.SpanKind.INTERNAL
        ) as span:
            span.set_attributes({"slipway.capture_import": id, "slipway.attempt": errand.attempt})
            try:
                self._attempt(errand)
            except FencedError as error:
                log.warning("%s", error)
            except SlipwayError as error:
                self._give_up(errand, error)

    def _attempt(self, errand: Errand) -> None:
        """Send the rows and end the import.

        Raises:
            FencedError: Another attempt has the import, or it has ended.
        """
        answer = self._ingestion.import_predictions(
            errand.spec.dataset,
            errand.spec.branch,
            errand.message,
            f"capture-import-{errand.id}",
            self._items(errand),
            on_behalf_of=errand.creator,
        )
        if answer.refused_count:
            log.warning("capture import %s: %s", errand.id, answer.refusal)
        with self._database.transaction() as connection:
            CaptureImportStore(connection).succeed(
                errand, answer.commit, answer.imported_count, answer.refusal
            )
        IMPORTS.labels("SUCCEEDED").inc()

    def _items(self, errand: Errand) -> Iterator[PredictedItem]:
        after = ("", -1)
        while True:
            with self._database.transaction() as connection:
                part = CaptureImportStore(connection).chosen(errand, after, PART, self._lease_s)
            for one in part:
                yield PredictedItem(one.key, png(one.image), one.attributes(errand.spec))
            if len(part) < PART:
                return
            after = (part[-1].prediction_id, part[-1].row)

    def _give_up(self, errand: Errand, error: SlipwayError) -> None:
        """End the import, or let it wait for what may pass."""
        lasting = isinstance(error, LASTING) or (
            not isinstance(error, PASSING) and errand.failures >= MAX_FAILURES
        )
        try:
            with self._database.transaction() as connection:
                store = CaptureImportStore(connection)
                if lasting:
                    store.fail(errand, error_text(error))
                else:
                    wait_s = min(RETRY_S * 2 ** min(errand.failures, 10), MAX_WAIT_S)
                    store.put_off(errand, error_text(error), wait_s)
        except FencedError as fenced:
            log.warning("%s", fenced)
            return
        log.warning("capture import %s, attempt %d: %s", errand.id, errand.attempt, error)
        if lasting:
            IMPORTS.labels("FAILED").inc()
