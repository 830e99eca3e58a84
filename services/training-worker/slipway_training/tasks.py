"""Celery entries: ids in, one use case each."""

from slipway_runtime.queue import Queue

from slipway_training.usecases.attempts import Attempts
from slipway_training.usecases.scoring_attempts import ScoringAttempts


def register(queue: Queue, attempts: Attempts, scorings: ScoringAttempts) -> None:
    """Make `training.run` and `training.score` attempts at the job whose id they carry."""
    queue.register("run", attempts.run)
    queue.register("score", scorings.run)
