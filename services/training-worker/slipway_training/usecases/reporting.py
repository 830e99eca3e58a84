"""What becomes of a training process's events: rows, metric points, stored checkpoints, spans."""

import logging
import math
import time
from pathlib import Path

from opentelemetry.trace import Span
from slipway_runtime import telemetry
from slipway_runtime.db import Database
from slipway_runtime.errors import DeadlineExceeded, NotFound, Unavailable
from slipway_runtime.objects import ObjectStore

from slipway_training.clients import Point, Registry
from slipway_training.domain import Job, Progress
from slipway_training.engine import events
from slipway_training.store import Store

log = logging.getLogger(__name__)

SEND_S = 1.0
NOTE_S = 0.25
BATCH = 5000
AWAY = (Unavailable, DeadlineExceeded)


class Reporter:
    """Passes on what one attempt tells, fenced by its number.

    Args:
        job: With the attempt's number.
        database: For progress, steps and checkpoint names.
        registry: For metric points.
        objects: For checkpoints, so that another host may resume.
    """

    def __init__(self, *, job: Job, database: Database, registry: Registry, objects: ObjectStore) -> None:
        self._job = job
        self._database = database
        self._registry = registry
        self._objects = objects
        self._points: list[Point] = []
        self._sent_at = 0.0
        self._noted_at = 0.0
        self._progress = Progress()
        self._span: Span | None = None

    def stage(self, name: str) -> None:
        """Begin a stage: a span of its own, and the row says so."""
        self.end_span()
        self._span = telemetry.tracer.start_span(f"stage {name}")
        self._progress = Progress(**{**vars(self._progress), "stage": name})
        self._note_progress()

    def end_span(self) -> None:
        """End the stage in hand."""
        if self._span is not None:
            self._span.end()
            self._span = None

    def resumed(self, step: int, pid: int) -> None:
        """Note where the process began."""
        with self._database.transaction() as connection:
            Store(connection).note_attempt(
                self._job.id, self._job.attempt, start_step=step, last_step=step, pid=pid
            )

    def progress(self, event: events.Progress) -> None:
        """Note how far it is, a few times a second at most."""
        finite = {name: value for name, value in event.metrics.items() if math.isfinite(value)}
        self._progress = Progress(
            stage=self._progress.stage,
            step=event.step,
            total_steps=event.total_steps,
            epoch=event.epoch,
            metrics=finite,
        )
        if time.monotonic() - self._noted_at >= NOTE_S or event.step == event.total_steps:
            self._note_progress()

    def metrics(self, event: events.Metrics) -> None:
        """Keep points for the next batch."""
        self._points += [(key, event.step, value, time.time()) for key, value in event.values.items()]

    def tick(self) -> None:
        """Send what waits, when it is time; a registry that is away gets it later."""
        if self._points and time.monotonic() - self._sent_at >= SEND_S:
            self._sent_at = time.monotonic()
            try:
                self.flush()
            except AWAY as error:
                log.warning("%d metric points wait (%s)", len(self._points), error)

    def flush(self) -> None:
        """Send all points.

        Raises:
            Unavailable: the registry is away; the points are kept.
        """
        while self._points:
            batch = self._points[:BATCH]
            self._registry.log_metrics(self._job.run, self._job.attempt, batch)
            del self._points[: len(batch)]

    def saved(self, event: events.Saved) -> None:
        """Store a checkpoint; without it only this host could resume from there."""
        path = Path(event.path)
        try:
            self._objects.put(checkpoint_key(self._job.id, path.name), path.read_bytes())
            with self._database.transaction() as connection:
                store = Store(connection)
                old = store.add_checkpoint(self._job.id, self._job.attempt, path.name, event.step)
            self._objects.delete(checkpoint_key(self._job.id, name) for name in old)
        except (Unavailable, DeadlineExceeded, NotFound, FileNotFoundError) as error:
            log.warning("checkpoint %s is on this host alone (%s)", path.name, error)

    def _note_progress(self) -> None:
        with self._database.transaction() as connection:
            store = Store(connection)
            store.note(self._job.id, self._job.attempt, progress=self._progress)
            if self._progress.step:
                store.note_attempt(self._job.id, self._job.attempt, last_step=self._progress.step)
        self._noted_at = time.monotonic()


def checkpoint_key(job: str, name: str) -> str:
    """Return the object key of a checkpoint."""
    return f"training/checkpoints/{job}/{name}"
