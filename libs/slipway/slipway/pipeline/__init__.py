"""How a user writes a pipeline: a graph of steps in one Python file.

::

    from slipway.pipeline import Context, pipeline, sensor, step

    @step(retries=2)
    def started(context: Context, commit: str, seed: int) -> str:
        job = context.client.submit_training(..., request_id=context.request_id)
        return job.name

    @sensor(poll_s=5, timeout_s=3600)
    def trained(context: Context, job: str) -> str | None:
        ...  # the version's name; None while there is none

    @pipeline(schedule="0 3 * * 1", time_zone="Europe/Zurich")
    def retrain(commit: str = "datasets/flowers", seeds: list = [1, 2, 3]):
        jobs = started.map(seeds, commit=commit)
        versions = trained.map(jobs)

The graph is read out of the pipeline's function without running it; each step runs in a process of its own.
"""

from slipway.pipeline.context import Context
from slipway.pipeline.declarations import Declared, Failed, Skipped, pipeline, sensor, step

__all__ = ["Context", "Declared", "Failed", "Skipped", "pipeline", "sensor", "step"]
