"""Errands: a snapshot's commit is made, whatever dies meanwhile, exactly once.

Each step is written down before the next, and each call to ingestion is the same when it is repeated: the
upload by a request_id of the snapshot and its head, the commit by one of the snapshot alone. A commit is
asked for on the head that was read; if the branch has moved, nothing was committed, and the labels are laid
over the new head. Errors are told apart: those that pass are waited out, the others end the snapshot.
"""

import logging

from opentelemetry import propagate, trace
from prometheus_client import Counter
from slipway_runtime import telemetry
from slipway_runtime.db import Database
from slipway_runtime.errors import (
    Aborted,
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    SlipwayError,
    Unavailable,
)

from slipway_labeling.clients import Ingestion
from slipway_labeling.domain.snapshots import Errand, FencedError, error_text, rows_of
from slipway_labeling.store.snapshots import SnapshotStore

log = logging.getLogger(__name__)

SNAPSHOTS = Counter("slipway_labeling_snapshots_total", "Snapshots that ended.", ["state"])
AT_A_TIME = 20
ROUNDS = 5  # of one attempt over a branch that moves
MAX_WAIT_S = 30.0
MAX_FAILURES = 20  # of errors that need not pass
PASSING = (Unavailable, DeadlineExceeded, Cancelled)
LASTING = (NotFound, InvalidArgument, FailedPrecondition, ResourceExhausted)


class Errands:
    """Makes the commits of snapshots.

    Args:
        database: The service's own.
        ingestion: Where commits are made.
        lease_s: How long an attempt that was cut off keeps the snapshot.
        retry_s: First wait after an error; doubled each time, up to half a minute.
    """

    def __init__(self, *, database: Database, ingestion: Ingestion, lease_s: float, retry_s: float) -> None:
        self._database = database
        self._ingestion = ingestion
        self._lease_s = lease_s
        self._retry_s = retry_s

    def sweep(self) -> None:
        """Make an attempt at each snapshot that waits for one; the sweeper calls it."""
        with self._database.transaction() as connection:
            due = SnapshotStore(connection).due(AT_A_TIME)
        for id in due:
            self.run(id)

    def run(self, id: str) -> None:
        """Make one attempt at a snapshot."""
        with self._database.transaction() as connection:
            errand = SnapshotStore(connection).begin(id, self._lease_s)
        if errand is None:
            return
        context = propagate.extract({"traceparent": errand.traceparent})
        with telemetry.tracer.start_as_current_span(
            "snapshot", context=context, kind=trace.SpanKind.INTERNAL
        ) as span:
            span.set_attributes({"slipway.snapshot": id, "slipway.attempt": errand.attempt})
            self._attempt(errand)

    def _attempt(self, errand: Errand) -> None:
        try:
            for left in reversed(range(ROUNDS)):
                moved = self._round(errand, last=not left)
                if moved is None:
                    return
                errand = moved
        except FencedError as error:
            log.warning("%s", error)
        except SlipwayError as error:
            self._give_up(errand, error)

    def _round(self, errand: Errand, *, last: bool) -> Errand | None:
        """Commit on one head; return the errand with no head when the branch has moved.

        Raises:
            Aborted: The branch has moved, and this was the last round.
        """
        base = errand.base or self._ingestion.head(errand.dataset, errand.spec.branch)
        self._note(errand, base=base, upload=errand.upload, moves=errand.moves)
        with self._database.transaction() as connection:
            chosen = SnapshotStore(connection).chosen(errand.id)
        rows, gone = rows_of(chosen, self._ingestion.rows(base, [one.key for one in chosen]))
        if not rows:
            where = f"branch {errand.spec.branch!r} of {errand.dataset}"
            message = (
                f"{where} has none of the {len(gone)} labelled examples with the bytes that were labelled"
            )
            raise FailedPrecondition("DATASET_NOT_FOUND", message)
        upload = errand.upload or self._ingestion.upload(
            errand.dataset, rows, f"{errand.request_id}-{errand.moves}"
        )
        self._note(errand, base=base, upload=upload, moves=errand.moves)
        try:
            commit = self._commit(errand, base, upload)
        except Aborted:
            moved = self._note(errand, base="", upload="", moves=errand.moves + 1)
            if last:
                raise
            return moved
        with self._database.transaction() as connection:
            SnapshotStore(connection).succeed(errand, commit, gone)
        SNAPSHOTS.labels("SUCCEEDED").inc()
        return None

    def _commit(self, errand: Errand, base: str, upload: str) -> str:
        return self._ingestion.commit(
            errand.dataset,
            errand.spec.branch,
            [upload],
            errand.spec.message,
            errand.request_id,
            on_behalf_of=errand.creator,
            expected_head=base,
        )

    def _note(self, errand: Errand, *, base: str, upload: str, moves: int) -> Errand:
        with self._database.transaction() as connection:
            SnapshotStore(connection).note(errand, self._lease_s, base=base, upload=upload, moves=moves)
        return Errand(**{**vars(errand), "base": base, "upload": upload, "moves": moves})

    def _give_up(self, errand: Errand, error: SlipwayError) -> None:
        """End the snapshot, or let it wait for what may pass."""
        lasting = isinstance(error, LASTING) or (
            not isinstance(error, PASSING) and errand.failures >= MAX_FAILURES
        )
        try:
            with self._database.transaction() as connection:
                if lasting:
                    SnapshotStore(connection).fail(errand, error_text(error))
                else:
                    wait_s = min(self._retry_s * 2 ** min(errand.failures, 10), MAX_WAIT_S)
                    SnapshotStore(connection).put_off(errand, error_text(error), wait_s)
        except FencedError as fenced:
            log.warning("%s", fenced)
            return
        log.warning("snapshot %s, attempt %d: %s", errand.id, errand.attempt, error)
        if lasting:
            SNAPSHOTS.labels("FAILED").inc()
