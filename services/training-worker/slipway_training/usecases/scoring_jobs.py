"""What callers may do with scoring jobs, their scores among it."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from blake3 import blake3
from slipway_runtime.db import Database
from slipway_runtime.errors import Internal
from slipway_runtime.objects import ObjectStore

from slipway_training import domain
from slipway_training.clients import Ingestion, Registry
from slipway_training.domain import Part, ScoringJob, ScoringSpec, State
from slipway_training.engine import parts
from slipway_training.engine.parts import Scores
from slipway_training.store import ScoringStore
from slipway_training.usecases.leased_jobs import LeasedJobs


class ScoringJobs(LeasedJobs[ScoringJob]):
    """The verbs over scoring jobs.

    Args:
        objects: Where scores are kept.
        ingestion: Says whether a commit exists.
        registry: Says what a version is.
        part_size: Examples of one part of the scores.
        queued: What all jobs need: `database`, `enqueue`, `watch_interval_s`.
    """

    rows = ScoringStore
    job = ScoringJob
    task = "score"
    noun = "ScoringJob"

    def __init__(
        self,
        *,
        objects: ObjectStore,
        ingestion: Ingestion,
        registry: Registry,
        part_size: int,
        **queued: Any,
    ) -> None:
        super().__init__(**queued)
        self._objects = objects
        self._ingestion = ingestion
        self._registry = registry
        self._part_size = part_size

    def create(self, asked: ScoringSpec, request_id: str, content: bytes) -> ScoringJob:
        """Queue a job: committed PENDING, then sent.

        Raises:
            InvalidArgument: a field is refused.
            NotFound: the version, the champion or the dataset commit is not there.
        """
        spec = domain.checked_scoring(asked)
        version = self._registry.version(spec.model_version)
        spec = replace(
            spec,
            bundle=version.bundle,
            training_commit=version.dataset_commit,
            part_size=self._part_size,
        )
        if spec.champion_version:
            spec = replace(spec, champion_bundle=self._registry.version(spec.champion_version).bundle)
        spec = replace(spec, dataset_commit=self._ingestion.commit(spec.dataset_commit))
        return self._queue(request_id, content, spec=spec)

    def page(self, size: int, token: str, state: str, model_version: str) -> tuple[list[ScoringJob], str]:
        """Return a page of jobs, newest first, and the token of the next."""
        return self._page(size, token, state=state, model_version=model_version)

    def scores(self, name: str) -> Iterator[Scores]:
        """Yield the scores in key order, part by part.

        Raises:
            FailedPrecondition: the job has not succeeded (SCORES_NOT_READY).
        """
        job = self.get(name)
        if job.state is not State.SUCCEEDED:
            raise domain.scores_not_ready(job)
        return read_scores(self._database, self._objects, job.id)


def read_scores(database: Database, objects: ObjectStore, id: str) -> Iterator[Scores]:
    """Yield a job's parts in key order, each verified.

    Raises:
        Internal: a part's bytes are not those of its digest.
    """
    with database.transaction() as connection:
        listed = ScoringStore(connection).parts(id)
    for part in listed:
        data = objects.get(part_key(id, part))
        if blake3(data).hexdigest() != part.digest:
            raise Internal(
                "INTERNAL", f"part {part.number} of scoringJobs/{id} is damaged: run the job again"
            )
        yield parts.unpack(data)


def part_key(id: str, part: Part) -> str:
    """Return the object key of a part; its digest is in it, so that no attempt overwrites another's."""
    return f"{parts_prefix(id)}{part.number:06d}-{part.digest}.npz"


def parts_prefix(id: str) -> str:
    """Return what the keys of a job's parts begin with."""
    return f"training/scores/{id}/"
