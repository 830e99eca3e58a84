"""Celery entries: ids in, one use case each."""

from slipway_runtime.queue import Queue

from slipway_pipelines.usecases.attempts import Attempts


def register(queue: Queue, attempts: Attempts) -> None:
    """Make `pipelines.step` an attempt at the step whose id it carries."""
    queue.register("step", attempts.run)
