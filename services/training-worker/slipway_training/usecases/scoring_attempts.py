"""What workers do with scoring jobs."""

import logging
import shutil
from typing import Any

from prometheus_client import Counter, Gauge
from slipway_runtime.errors import SlipwayError

from slipway_training.domain import ScoringJob, State
from slipway_training.store import ScoringStore
from slipway_training.usecases.bench import Bench
from slipway_training.usecases.lease import Heartbeat
from slipway_training.usecases.scoring_attempt import ScoringAttempt
from slipway_training.usecases.scoring_jobs import part_key, parts_prefix
from slipway_training.usecases.worker import Ending, Meters, Worker

log = logging.getLogger(__name__)

METERS = Meters(
    Counter("slipway_training_scoring_attempts_total", "Attempts at scoring jobs that ended", ["outcome"]),
    Counter("slipway_training_scoring_resent_total", "Scoring jobs that the sweeper sent again"),
    Gauge("slipway_training_scoring_jobs", "Scoring jobs by state, as the sweeper counted them", ["state"]),
)


class ScoringAttempts(Worker[ScoringJob]):
    """The worker's verbs over scoring jobs.

    Args:
        bench: What attempts work with.
        worked: What all workers need: `enqueue`, `lease_s`, `resend_s`.
    """

    rows = ScoringStore
    task = "score"
    meters = METERS

    def __init__(self, *, bench: Bench, **worked: Any) -> None:
        super().__init__(database=bench.database, host=bench.host, **worked)
        self._bench = bench

    def _work(self, job: ScoringJob, heartbeat: Heartbeat) -> Ending:
        return ScoringAttempt(self._bench, job, heartbeat).run()

    def _close(self, id: str) -> None:
        """Drop what is no part of a result: work folders, and objects that dead attempts left."""
        with self._database.transaction() as connection:
            store = ScoringStore(connection)
            job = store.get(id)
            kept = {part_key(id, part) for part in store.parts(id)}
        if not job.state.ended:
            return
        shutil.rmtree(self._bench.work_dir / "scoring" / id, ignore_errors=True)
        kept = kept if job.state is State.SUCCEEDED else set()
        objects = self._bench.objects
        try:
            objects.delete(key for key in objects.list(parts_prefix(id)) if key not in kept)
        except SlipwayError as error:
            log.warning("objects of %s are not dropped yet: %s", job.name, error)
            return
        with self._database.transaction() as connection:
            store = ScoringStore(connection)
            if not kept:
                store.drop_parts(id)
            store.close(id)
