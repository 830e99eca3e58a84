"""What workers do with training jobs."""

import logging
import shutil
from typing import Any

from prometheus_client import Counter, Gauge
from slipway_runtime.errors import SlipwayError
from slipway_runtime.identity import Caller, acting_as

from slipway_training.domain import Job
from slipway_training.store import Store
from slipway_training.usecases.attempt import AttemptRun
from slipway_training.usecases.bench import Bench
from slipway_training.usecases.lease import Heartbeat
from slipway_training.usecases.reporting import checkpoint_key
from slipway_training.usecases.worker import FENCES, Ending, Meters, Worker

log = logging.getLogger(__name__)

METERS = Meters(
    Counter("slipway_training_attempts_total", "Attempts that ended", ["outcome"]),
    Counter("slipway_training_resent_total", "Jobs that the sweeper sent again"),
    Gauge("slipway_training_jobs", "Jobs by state, as the sweeper counted them", ["state"]),
)
KEEP_ALL_POINTS = 2**63 - 1


class Attempts(Worker[Job]):
    """The worker's verbs over training jobs.

    Args:
        bench: What attempts work with.
        worked: What all workers need: `enqueue`, `lease_s`, `resend_s`.
    """

    rows = Store
    task = "run"
    meters = METERS

    def __init__(self, *, bench: Bench, **worked: Any) -> None:
        super().__init__(database=bench.database, host=bench.host, **worked)
        self._bench = bench

    def _work(self, job: Job, heartbeat: Heartbeat) -> Ending:
        return AttemptRun(self._bench, job, heartbeat).run()

    def _close(self, id: str) -> None:
        """Tell the registry how an ended job's run ended, and drop what only a next attempt would need."""
        with self._database.transaction() as connection:
            store = Store(connection)
            job = store.get(id)
            names = store.checkpoints(id)
        if not job.state.ended:
            return
        shutil.rmtree(self._bench.work_dir / "attempts" / id, ignore_errors=True)
        try:
            if job.run:
                self._finish_run(job)
            self._bench.objects.delete(checkpoint_key(id, name) for name in names)
        except SlipwayError as error:
            log.warning("run %s is not closed yet: %s", job.run, error)
            return
        with self._database.transaction() as connection:
            Store(connection).close(id)

    def _finish_run(self, job: Job) -> None:
        try:
            with acting_as(Caller(job.creator, frozenset())):
                # an attempt may end before its process began: nobody finishes a run without its fence
                self._bench.registry.begin_attempt(job.run, job.attempt, KEEP_ALL_POINTS, "", {})
                self._bench.registry.finish_run(job, job.state, job.attempt, job.error)
        except SlipwayError as error:
            if error.reason not in FENCES:
                raise
