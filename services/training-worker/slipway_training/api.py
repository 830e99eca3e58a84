"""The servicer: to domain, call the use case, to proto."""

from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf.json_format import Error as JsonFormatError
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from slipway.training.v1 import training_pb2 as pb
from slipway.training.v1 import training_pb2_grpc
from slipway_runtime.errors import InvalidArgument

from slipway_training import domain
from slipway_training.domain import Attempt, Job, JobSpec, ScoringJob, ScoringSpec, TaskCode
from slipway_training.engine.parts import Scores
from slipway_training.usecases.jobs import Jobs
from slipway_training.usecases.lineage import Lineage
from slipway_training.usecases.scoring_jobs import ScoringJobs

SCORES_OF_A_MESSAGE = 128
SERVICE = pb.DESCRIPTOR.services_by_name["TrainingService"].full_name


class Servicer(training_pb2_grpc.TrainingServiceServicer):
    """TrainingService over the use cases.

    Args:
        jobs: The verbs over training jobs and task code.
        scorings: The verbs over scoring jobs.
        lineage: What was made of what.
    """

    def __init__(self, jobs: Jobs, scorings: ScoringJobs, lineage: Lineage) -> None:
        self._jobs = jobs
        self._scorings = scorings
        self._lineage = lineage

    def UploadTaskCode(
        self, requests: Iterator[pb.UploadTaskCodeRequest], context: grpc.ServicerContext
    ) -> pb.TaskCode:
        """Upload."""
        header = next(requests, pb.UploadTaskCodeRequest()).header
        return _code(self._jobs.upload_code(header.size_bytes, (request.chunk for request in requests)))

    def GetTaskCode(self, request: pb.GetTaskCodeRequest, context: grpc.ServicerContext) -> pb.TaskCode:
        """Get."""
        return _code(self._jobs.code(request.name))

    def CreateTrainingJob(
        self, request: pb.CreateTrainingJobRequest, context: grpc.ServicerContext
    ) -> pb.TrainingJob:
        """Create."""
        return _job(self._jobs.create(_spec(request.training_job), request.request_id, _content(request)))

    def GetTrainingJob(
        self, request: pb.GetTrainingJobRequest, context: grpc.ServicerContext
    ) -> pb.TrainingJob:
        """Get."""
        return _job(self._jobs.get(request.name))

    def ListTrainingJobs(
        self, request: pb.ListTrainingJobsRequest, context: grpc.ServicerContext
    ) -> pb.ListTrainingJobsResponse:
        """List."""
        state = _state(request.state) if request.state else ""
        jobs, token = self._jobs.page(request.page_size, request.page_token, state, request.model)
        return pb.ListTrainingJobsResponse(training_jobs=[_job(job) for job in jobs], next_page_token=token)

    def WatchTrainingJob(
        self, request: pb.WatchTrainingJobRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.TrainingJob]:
        """Watch."""
        for job in self._jobs.watch(request.name, context.is_active):
            yield _job(job)

    def CancelTrainingJob(
        self, request: pb.CancelTrainingJobRequest, context: grpc.ServicerContext
    ) -> pb.TrainingJob:
        """Cancel."""
        return _job(self._jobs.cancel(request.name, request.request_id, _content(request)))

    def CreateScoringJob(
        self, request: pb.CreateScoringJobRequest, context: grpc.ServicerContext
    ) -> pb.ScoringJob:
        """Create."""
        asked = _scoring_spec(request.scoring_job)
        return _scoring_job(self._scorings.create(asked, request.request_id, _content(request)))

    def GetScoringJob(self, request: pb.GetScoringJobRequest, context: grpc.ServicerContext) -> pb.ScoringJob:
        """Get."""
        return _scoring_job(self._scorings.get(request.name))

    def ListScoringJobs(
        self, request: pb.ListScoringJobsRequest, context: grpc.ServicerContext
    ) -> pb.ListScoringJobsResponse:
        """List."""
        state = _state(request.state) if request.state else ""
        jobs, token = self._scorings.page(request.page_size, request.page_token, state, request.model_version)
        return pb.ListScoringJobsResponse(scoring_jobs=map(_scoring_job, jobs), next_page_token=token)

    def WatchScoringJob(
        self, request: pb.WatchScoringJobRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ScoringJob]:
        """Watch."""
        for job in self._scorings.watch(request.name, context.is_active):
            yield _scoring_job(job)

    def CancelScoringJob(
        self, request: pb.CancelScoringJobRequest, context: grpc.ServicerContext
    ) -> pb.ScoringJob:
        """Cancel."""
        return _scoring_job(self._scorings.cancel(request.name, request.request_id, _content(request)))

    def ReadScores(
        self, request: pb.ReadScoresRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ReadScoresResponse]:
        """Read."""
        for part in self._scorings.scores(request.name):
            for start in range(0, len(part.rows), SCORES_OF_A_MESSAGE):
                yield _scores(part, slice(start, start + SCORES_OF_A_MESSAGE))

    def ListChildren(
        self, request: pb.ListChildrenRequest, context: grpc.ServicerContext
    ) -> pb.ListChildrenResponse:
        """List."""
        names, token = self._lineage.children(request.name, request.page_size, request.page_token)
        return pb.ListChildrenResponse(names=names, next_page_token=token)

    def ListParents(
        self, request: pb.ListParentsRequest, context: grpc.ServicerContext
    ) -> pb.ListParentsResponse:
        """List."""
        names, token = self._lineage.parents(request.name, request.page_size, request.page_token)
        return pb.ListParentsResponse(names=names, next_page_token=token)


def _content(request: Message) -> bytes:
    return request.SerializeToString(deterministic=True)


def _state(state: int) -> str:
    if state not in pb.TrainingJob.State.values():
        names = ", ".join(pb.TrainingJob.State.keys()[1:])
        raise InvalidArgument.field("state", f"is {state}; use one of {names}")
    return str(pb.TrainingJob.State.Name(state))


def _hyperparameters(sent: Struct) -> dict[str, Any]:
    try:
        return domain.struct_values(MessageToDict(sent))
    except (JsonFormatError, ValueError) as error:
        raise InvalidArgument.field(
            "training_job.hyperparameters", f"is no JSON ({error}); send numbers"
        ) from error


def _spec(asked: pb.TrainingJob) -> JobSpec:
    return JobSpec(
        display_name=asked.display_name,
        experiment=asked.experiment,
        model=asked.model,
        dataset_commit=asked.dataset_commit,
        task_code=asked.task_code,
        entry_point=asked.entry_point,
        hyperparameters=_hyperparameters(asked.hyperparameters),
        seed=asked.seed,
        max_attempts=asked.max_attempts,
    )


def _scoring_spec(asked: pb.ScoringJob) -> ScoringSpec:
    return ScoringSpec(
        model_version=asked.model_version,
        dataset_commit=asked.dataset_commit,
        split=asked.split,
        unlabelled_only=asked.unlabelled_only,
        evaluate=asked.evaluate,
        champion_version=asked.champion_version,
        max_attempts=asked.max_attempts,
    )


def _scoring_job(job: ScoringJob) -> pb.ScoringJob:
    spec = job.spec
    made = pb.ScoringJob(
        name=job.name,
        model_version=spec.model_version,
        dataset_commit=spec.dataset_commit,
        split=spec.split,
        unlabelled_only=spec.unlabelled_only,
        evaluate=spec.evaluate,
        champion_version=spec.champion_version,
        max_attempts=spec.max_attempts,
        state=job.state.value,
        done_count=job.done_count,
        total_count=job.total_count,
        error=job.error,
        attempt=job.attempt,
        evaluation=job.evaluation,
        classes=job.classes,
        creator=job.creator,
        etag=str(job.revision),
    )
    _stamp(made.create_time, job.create_time)
    _stamp(made.end_time, job.end_time)
    return made


def _scores(part: Scores, which: slice) -> pb.ReadScoresResponse:
    answers = zip(part.rows[which], part.probabilities[which], part.embedding[which], strict=True)
    scores = [
        pb.ExampleScore(
            key=row.key,
            probabilities=probabilities,
            embedding=embedding,
            label=row.label,
            split=row.split,
            in_training=row.in_training,
        )
        for row, probabilities, embedding in answers
    ]
    return pb.ReadScoresResponse(scores=scores)


def _code(code: TaskCode) -> pb.TaskCode:
    made = pb.TaskCode(name=code.name, size_bytes=code.size_bytes, files=code.files)
    _stamp(made.create_time, code.create_time)
    return made


def _job(job: Job) -> pb.TrainingJob:
    spec, progress = job.spec, job.progress
    made = pb.TrainingJob(
        name=job.name,
        display_name=spec.display_name,
        experiment=spec.experiment,
        model=spec.model,
        dataset_commit=spec.dataset_commit,
        task_code=spec.task_code,
        entry_point=spec.entry_point,
        seed=spec.seed,
        max_attempts=spec.max_attempts,
        state=job.state.value,
        progress=pb.Progress(
            stage=progress.stage,
            step=progress.step,
            total_steps=progress.total_steps,
            epoch=progress.epoch,
            metrics=progress.metrics,
        ),
        error=job.error,
        run=job.run,
        model_version=job.model_version,
        attempts=[_attempt(attempt) for attempt in job.attempts],
        creator=job.creator,
        etag=str(job.revision),
    )
    made.hyperparameters.update(spec.hyperparameters)
    _stamp(made.create_time, job.create_time)
    _stamp(made.end_time, job.end_time)
    return made


def _attempt(attempt: Attempt) -> pb.Attempt:
    made = pb.Attempt(
        number=attempt.number,
        host=attempt.host,
        pid=attempt.pid,
        start_step=attempt.start_step,
        last_step=attempt.last_step,
        outcome=attempt.outcome.value,
        error=attempt.error,
    )
    _stamp(made.start_time, attempt.start_time)
    _stamp(made.end_time, attempt.end_time)
    return made


def _stamp(field: Any, value: Any) -> None:
    if value is not None:
        field.FromDatetime(value)
