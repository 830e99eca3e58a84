"""Ingestion and registry as an attempt needs them: domain in, domain out, the deadline inside."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from google.protobuf.struct_pb2 import Struct
from slipway.ingestion.v1 import ingestion_pb2 as ing
from slipway.ingestion.v1 import ingestion_pb2_grpc as ing_grpc
from slipway.registry.v1 import registry_pb2 as reg
from slipway.registry.v1 import registry_pb2_grpc as reg_grpc
from slipway_runtime.errors import AlreadyExists, NotFound
from slipway_runtime.rpc import Channels, our_errors

from slipway_training import domain
from slipway_training.domain import Job, Measures, ScoringJob, State, Version
from slipway_training.engine.parts import Scores

CALL_S = 10.0
BULK_S = 600.0
CHUNK_BYTES = 1 << 20
EVALUATED_ROWS = 1000  # of one message

Point = tuple[str, int, float, float]  # series, step, value, seconds since the epoch


class Ingestion:
    """Reads commits.

    Args:
        channels: Of this process.
        address: Of ingestion.
    """

    def __init__(self, channels: Channels, address: str) -> None:
        service = ing.DESCRIPTOR.services_by_name["IngestionService"]
        self._stub = ing_grpc.IngestionServiceStub(channels.to(address, service, timeout_s=CALL_S))

    def commit(self, name: str) -> str:
        """Return a commit's full name; it may be asked for by a prefix of its digest.

        Raises:
            NotFound: it does not (DATASET_COMMIT_NOT_FOUND).
        """
        try:
            with our_errors():
                return str(self._stub.GetCommit(ing.GetCommitRequest(name=name)).name)
        except NotFound as error:
            raise domain.dataset_commit_not_found(name) from error

    def erasure_revision(self, commit: str) -> int:
        """Return the number that grows whenever something is erased from the commit's data set."""
        with our_errors():
            return int(self._stub.GetCommit(ing.GetCommitRequest(name=commit)).erasure_revision)

    def examples(self, commit: str, keys: Sequence[str] = ()) -> Iterator[tuple[ing.Example, bytes]]:
        """Yield examples of a commit with their bytes, in key order; the caller verifies them.

        Args:
            commit: To read.
            keys: Only these, at most 1,000; all of them when empty.
        """
        return self._read(ing.ReadExamplesRequest(commit=commit, keys=keys))

    def rows(self, commit: str, split: str) -> Iterator[ing.Example]:
        """Yield examples of a commit without their bytes, in key order; of one split when it is given."""
        request = ing.ReadExamplesRequest(commit=commit, split=split, rows_only=True)
        return (example for example, _ in self._read(request))

    def _read(self, request: ing.ReadExamplesRequest) -> Iterator[tuple[ing.Example, bytes]]:
        with our_errors():
            for part in self._stub.ReadExamples(request, timeout=BULK_S):
                for item in part.examples:
                    yield item.example, item.data


class Registry:
    """Records runs and takes their bundles. Every effect is the same when it is repeated.

    Args:
        channels: Of this process.
        address: Of the registry.
    """

    def __init__(self, channels: Channels, address: str) -> None:
        service = reg.DESCRIPTOR.services_by_name["RegistryService"]
        self._stub = reg_grpc.RegistryServiceStub(channels.to(address, service, timeout_s=CALL_S))

    def open_run(self, job: Job, params: Mapping[str, Any]) -> str:
        """Create the job's experiment, model and run where they are absent; return the run's name."""
        spec = job.spec
        experiment, model = spec.experiment.partition("/")[2], spec.model.partition("/")[2]
        _unless_there(
            lambda: self._stub.CreateExperiment(reg.CreateExperimentRequest(experiment_id=experiment))
        )
        _unless_there(lambda: self._stub.CreateModel(reg.CreateModelRequest(model_id=model)))
        values = Struct()
        values.update(dict(params))
        run = reg.Run(
            display_name=spec.display_name,
            job=job.name,
            dataset_commit=spec.dataset_commit,
            code_digest=spec.task_code,
            params=values,
            seed=spec.seed,
        )
        request = reg.CreateRunRequest(
            parent=spec.experiment, run_id=job.id, run=run, request_id=f"run-{job.id}"
        )
        _unless_there(lambda: self._stub.CreateRun(request))
        return f"{spec.experiment}/runs/{job.id}"

    def begin_attempt(
        self, run: str, attempt: int, resume_step: int, host: str, environment: Mapping[str, str]
    ) -> None:
        """Take the run over: earlier attempts' effects are refused from here on, later points dropped."""
        request = reg.BeginRunAttemptRequest(
            name=run, attempt=attempt, resume_step=resume_step, host=host, environment=environment
        )
        with our_errors():
            self._stub.BeginRunAttempt(request)

    def log_metrics(self, run: str, attempt: int, points: Sequence[Point]) -> None:
        """Store points; sent twice they are stored once."""
        request = reg.LogMetricsRequest(name=run, attempt=attempt)
        for key, step, value, time_s in points:
            point = request.points.add(key=key, step=step, value=value)
            point.time.FromNanoseconds(int(time_s * 1e9))
        with our_errors():
            self._stub.LogMetrics(request)

    def upload_bundle(self, digest: str, folder: Path) -> str:
        """Send a bundle's files; return its name."""
        with our_errors():
            return str(self._stub.UploadBundle(_bundle_parts(digest, folder), timeout=BULK_S).name)

    def create_version(self, job: Job, bundle: str, attempt: int) -> str:
        """Make the model version of the job's run; the same run again returns the one it made."""
        version = reg.ModelVersion(run=job.run, bundle=bundle)
        request = reg.CreateModelVersionRequest(
            parent=job.spec.model,
            model_version=version,
            attempt=attempt,
            request_id=f"version-{job.id}-{attempt}",
        )
        with our_errors():
            return str(self._stub.CreateModelVersion(request, timeout=BULK_S).name)

    def version(self, name: str) -> Version:
        """Return what never changes of a version.

        Raises:
            NotFound: there is none of that name (MODEL_VERSION_NOT_FOUND), or no such model.
        """
        try:
            with our_errors():
                found = self._stub.GetModelVersion(reg.GetModelVersionRequest(name=name))
        except NotFound as error:
            model = name.partition("/versions/")[0]
            prefix = f"{model}/versions/" if error.reason == "MODEL_VERSION_NOT_FOUND" else "models/"
            near = [prefix + id for id in error.metadata.get("near", "").split(", ") if id]
            raise domain.model_version_not_found(name, ", ".join(near)) from error
        return Version(name=found.name, bundle=found.bundle, dataset_commit=found.dataset_commit)

    def download(self, bundle: str, files: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Yield (file, next bytes of it); the caller verifies them."""
        request = reg.DownloadBundleRequest(name=bundle, files=files)
        name = ""
        with our_errors():
            for part in self._stub.DownloadBundle(request, timeout=BULK_S):
                if part.WhichOneof("payload") == "file":
                    name = str(part.file.name)
                else:
                    yield name, bytes(part.chunk)

    def record_evaluation(
        self,
        job: ScoringJob,
        measures: Measures,
        classes: tuple[Sequence[str], Sequence[str]],
        scores: Iterable[Scores],
    ) -> str:
        """Send what the job's version and champion said, under an id of the job's own; return its name.

        The same again gets the same answer. `classes` are those of the version and of the champion.
        """
        spec = job.spec
        header = reg.EvaluationHeader(
            parent=spec.model_version,
            evaluation_id=job.id,
            champion_version=spec.champion_version,
            dataset_commit=spec.dataset_commit,
            split=spec.split,
            classes=classes[0],
            champion_classes=classes[1],
            **asdict(measures),
        )
        with our_errors():
            return str(self._stub.RecordEvaluation(_evaluation_parts(header, scores), timeout=BULK_S).name)

    def finish_run(self, job: Job, state: State, attempt: int, error: str = "") -> None:
        """End the job's run; the same end twice is the same."""
        request = reg.FinishRunRequest(name=job.run, state=state.value, error=error, attempt=attempt)
        with our_errors():
            self._stub.FinishRun(request)


def _unless_there(call: Callable[[], object]) -> None:
    try:
        with our_errors():
            call()
    except AlreadyExists:
        return


def _evaluation_parts(
    header: reg.EvaluationHeader, scores: Iterable[Scores]
) -> Iterator[reg.RecordEvaluationRequest]:
    yield reg.RecordEvaluationRequest(header=header)
    rest = (example for part in scores for example in _evaluated(part))
    while some := list(islice(rest, EVALUATED_ROWS)):
        yield reg.RecordEvaluationRequest(examples=reg.EvaluatedExamples(examples=some))


def _evaluated(scores: Scores) -> Iterator[reg.EvaluatedExample]:
    answers = zip(scores.rows, scores.probabilities, scores.champion_probabilities, strict=True)
    for row, probabilities, champion in answers:
        yield reg.EvaluatedExample(
            key=row.key,
            label=row.label,
            probabilities=probabilities,
            champion_probabilities=champion,
            attributes=row.attributes,
            group=row.group or row.key,  # as ingestion's splits have it
        )


def _bundle_parts(digest: str, folder: Path) -> Iterator[reg.UploadBundleRequest]:
    yield reg.UploadBundleRequest(header=reg.BundleHeader(name=f"bundles/{digest}"))
    for path in sorted(folder.iterdir()):
        file = reg.BundleFile(name=path.name, size_bytes=path.stat().st_size)
        yield reg.UploadBundleRequest(file=file)
        with open(path, "rb") as source:
            while chunk := source.read(CHUNK_BYTES):
                yield reg.UploadBundleRequest(chunk=chunk)
