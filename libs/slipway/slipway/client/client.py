"""The client: the services' stubs through one door, and what people do with several of them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from google.protobuf import json_format, struct_pb2
from google.protobuf.descriptor import ServiceDescriptor
from grpc import Channel
from slipway.client import prediction
from slipway.client.bundles import download_bundle
from slipway.client.checkout import Checkout, check_out
from slipway.client.errors import SlipwayError
from slipway.client.feedback import record_feedback
from slipway.client.packing import pack_folder
from slipway.client.places import Places, find_places
from slipway.client.rpc import Service, open_channel
from slipway.client.scoring import score_messages, watched
from slipway.client.sources import Item, Unsendable, read_source
from slipway.client.tokens import Rest, Tokens
from slipway.ingestion.v1 import ingestion_pb2 as ing
from slipway.labeling.v1 import labeling_pb2 as lab
from slipway.monitoring.v1 import monitoring_pb2 as mon
from slipway.pipelines.v1 import pipelines_pb2 as pip
from slipway.registry.v1 import registry_pb2 as reg
from slipway.rollout.v1 import rollout_pb2 as rol
from slipway.training.v1 import training_pb2 as trn

_CHUNK_BYTES = 1 << 20
PIPELINE_RUN_ENDED = frozenset({pip.PipelineRun.SUCCEEDED, pip.PipelineRun.FAILED, pip.PipelineRun.CANCELLED})
ROLLOUT_ENDED = frozenset({rol.Rollout.SUCCEEDED, rol.Rollout.FAILED, rol.Rollout.ABORTED})
SNAPSHOT_ENDED = frozenset({lab.Snapshot.SUCCEEDED, lab.Snapshot.FAILED})
ENDED = frozenset({trn.TrainingJob.SUCCEEDED, trn.TrainingJob.FAILED, trn.TrainingJob.CANCELLED})


class Client:
    """A platform, as one user sees it.

    Args:
        url: The REST door; empty: SLIPWAY_URL, `.slipway/platform.json`, or http://127.0.0.1:8080.
        grpc: The gRPC door; empty: SLIPWAY_GRPC, `.slipway/platform.json`, or 127.0.0.1:8081.
        token: API token or JWT; empty: SLIPWAY_TOKEN, or `.slipway/admin-token`.
        timeout_s: Deadline of calls that set none.
        folder: Where `.slipway` is looked for, and above it; the current one by default.
    """

    def __init__(
        self,
        url: str = "",
        grpc: str = "",
        token: str = "",
        *,
        timeout_s: float = 30.0,
        folder: Path | None = None,
    ) -> None:
        self.places: Places = find_places(url, grpc, token, folder=folder)
        self.rest = Rest(self.places.rest, timeout_s)
        self.token = Tokens(self.rest, self.places.token)
        self._timeout_s = timeout_s
        self._channels: dict[str, Channel] = {}
        self._opening = Lock()
        self.ingestion = self._service("ingestion", ing.DESCRIPTOR.services_by_name["IngestionService"])
        self.training = self._service("training", trn.DESCRIPTOR.services_by_name["TrainingService"])
        self.registry = self._service("registry", reg.DESCRIPTOR.services_by_name["RegistryService"])
        self.rollout = self._service("rollout", rol.DESCRIPTOR.services_by_name["RolloutService"])
        self.labeling = self._service("labeling", lab.DESCRIPTOR.services_by_name["LabelingService"])
        self.monitoring = self._service("monitoring", mon.DESCRIPTOR.services_by_name["MonitoringService"])
        self.pipelines = self._service("pipelines", pip.DESCRIPTOR.services_by_name["PipelinesService"])

    @classmethod
    def local(cls, folder: Path | None = None) -> "Client":
        """Return a client of the platform that `slipway up` started in the folder."""
        return cls(folder=folder)

    def _service(self, name: str, descriptor: ServiceDescriptor) -> Service:
        def channel() -> Channel:
            with self._opening:
                if name not in self._channels:
                    self._channels[name] = open_channel(self.places.address(name), descriptor)
                return self._channels[name]

        return Service(
            channel=channel,
            service=descriptor,
            token=self.token,
            timeout_s=self._timeout_s,
            target=f"the gRPC door at {self.places.grpc} ({name})",
            traceparent=self.places.traceparent,
        )

    def __enter__(self) -> "Client":
        """Return the client; it is closed at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close every connection."""
        self.close()

    def close(self) -> None:
        """Close every connection."""
        for channel in self._channels.values():
            channel.close()
        self.rest.close()

    def upload_examples(
        self,
        dataset: str,
        items: Iterable[Item],
        *,
        label_source: str = "",
        request_id: str = "",
        progress: Callable[[Item], None] | None = None,
    ) -> ing.Upload:
        """Send examples; the answer names what was refused. Nothing shows until a commit names it.

        A file that cannot be read, or is too large for a message, is refused here, as the platform would.

        Raises:
            SlipwayError: The data set is unknown, or a limit is passed.
        """
        header = ing.UploadHeader(
            parent=resource("datasets", dataset), label_source=label_source, request_id=request_id
        )

        kept_back: list[ing.RefusedItem] = []

        def requests() -> Iterator[ing.UploadExamplesRequest]:
            yield ing.UploadExamplesRequest(header=header)
            for item in items:
                try:
                    yield ing.UploadExamplesRequest(item=_upload_item(item))
                except Unsendable as refusal:
                    refused = ing.RefusedItem(key=item.key, reason=refusal.reason, message=str(refusal))
                    kept_back.append(refused)
                if progress is not None:
                    progress(item)

        upload = self.ingestion.UploadExamples(requests())
        upload.refused.extend(kept_back)
        upload.refused_count += len(kept_back)
        return upload

    def upload_folder(self, dataset: str, source: Path, **options: Any) -> ing.Upload:
        """Send a folder (`FOLDER/<label>/*.png`) or a manifest; options as `upload_examples`."""
        options.setdefault("label_source", f"imports/{source.resolve().name}")
        return self.upload_examples(dataset, read_source(source), **options)

    def commit(
        self,
        dataset: str,
        message: str,
        *,
        uploads: Iterable[str] = (),
        remove_keys: Iterable[str] = (),
        branch: str = "",
        expected_head: str = "",
    ) -> ing.Commit:
        """Make a commit of uploads and removals on a branch."""
        request = ing.CreateCommitRequest(
            parent=resource("datasets", dataset),
            branch=branch,
            uploads=uploads,
            remove_keys=remove_keys,
            message=message,
            expected_head=expected_head,
        )
        return self.ingestion.CreateCommit(request, timeout=300)

    def resolve_commit(self, dataset: str, start: str = "") -> str:
        """Return the full name of a commit: a branch's head (`main` by default) or a digest."""
        parent = resource("datasets", dataset)
        if "/commits/" in start:
            return start
        page = self.ingestion.ListCommits(ing.ListCommitsRequest(parent=parent, start=start, page_size=1))
        if not page.commits:
            text = f"{parent} has no commit yet; `slipway dataset import` makes one"
            raise SlipwayError("FAILED_PRECONDITION", "NO_COMMIT", text)
        return str(page.commits[0].name)

    def submit_training(
        self,
        folder: Path,
        *,
        entry_point: str,
        dataset_commit: str,
        model: str,
        experiment: str = "",
        display_name: str = "",
        hyperparameters: Mapping[str, Any] | None = None,
        seed: int = 0,
        max_attempts: int = 0,
        request_id: str = "",
    ) -> trn.TrainingJob:
        """Pack the task's folder, send it and queue a job; the job is PENDING and cannot be lost."""
        code = self.upload_task_code(pack_folder(folder))
        model_name = resource("models", model)
        job = trn.TrainingJob(
            display_name=display_name,
            experiment=resource("experiments", experiment or model_name.partition("/")[2]),
            model=model_name,
            dataset_commit=dataset_commit,
            task_code=code.name,
            entry_point=entry_point,
            hyperparameters=json_format.ParseDict(dict(hyperparameters or {}), struct_pb2.Struct()),
            seed=seed,
            max_attempts=max_attempts,
        )
        request = trn.CreateTrainingJobRequest(training_job=job, request_id=request_id)
        return self.training.CreateTrainingJob(request)

    def upload_task_code(self, archive: bytes) -> trn.TaskCode:
        """Send a packed task folder."""

        def requests() -> Iterator[trn.UploadTaskCodeRequest]:
            yield trn.UploadTaskCodeRequest(header=trn.TaskCodeHeader(size_bytes=len(archive)))
            for start in range(0, len(archive), _CHUNK_BYTES):
                yield trn.UploadTaskCodeRequest(chunk=archive[start : start + _CHUNK_BYTES])

        return self.training.UploadTaskCode(requests(), timeout=120)

    def watch(self, job: str) -> Iterator[trn.TrainingJob]:
        """Yield a job whenever it changes, until it ends; goes on over lost connections."""
        request = trn.WatchTrainingJobRequest(name=resource("trainingJobs", job))
        return watched(lambda: self.training.WatchTrainingJob(request), ENDED)

    def score(
        self,
        version: str,
        commit: str,
        *,
        split: str = "",
        unlabelled_only: bool = False,
        request_id: str = "",
    ) -> trn.ScoringJob:
        """Queue a job that runs `models/{m}/versions/{n}` over a commit's examples."""
        job = trn.ScoringJob(
            model_version=version, dataset_commit=commit, split=split, unlabelled_only=unlabelled_only
        )
        request = trn.CreateScoringJobRequest(scoring_job=job, request_id=request_id)
        return self.training.CreateScoringJob(request)

    def evaluate(
        self, version: str, commit: str, *, split: str = "", champion: str = "", request_id: str = ""
    ) -> trn.ScoringJob:
        """Queue a job that evaluates a version on labelled examples, beside a champion where one is named."""
        job = trn.ScoringJob(
            model_version=version,
            dataset_commit=commit,
            split=split,
            evaluate=True,
            champion_version=champion,
        )
        request = trn.CreateScoringJobRequest(scoring_job=job, request_id=request_id)
        return self.training.CreateScoringJob(request)

    def watch_scoring_job(self, job: str) -> Iterator[trn.ScoringJob]:
        """Yield a scoring job whenever it changes, until it ends; goes on over lost connections."""
        request = trn.WatchScoringJobRequest(name=resource("scoringJobs", job))
        return watched(lambda: self.training.WatchScoringJob(request), ENDED)

    def read_scores(self, job: str) -> Iterator[trn.ExampleScore]:
        """Yield the scores of a job that SUCCEEDED, in key order, each key once."""
        for part in self.training.ReadScores(trn.ReadScoresRequest(name=resource("scoringJobs", job))):
            yield from part.scores

    def import_scores(self, project: str, job: str) -> lab.ImportScoresResponse:
        """Give a labelling project the scores of a scoring job.

        Raises:
            SlipwayError: The job has no scores, or the project's schema lacks one of its classes.
        """
        name = resource("scoringJobs", job)
        found = self.training.GetScoringJob(trn.GetScoringJobRequest(name=name))
        messages = score_messages(resource("labelingProjects", project), found, self.read_scores(name))
        return self.labeling.ImportScores(messages)

    def watch_snapshot(self, snapshot: str) -> Iterator[lab.Snapshot]:
        """Yield a snapshot of labels whenever it changes, until it ends; goes on over lost connections."""
        request = lab.WatchSnapshotRequest(name=snapshot)
        return watched(lambda: self.labeling.WatchSnapshot(request), SNAPSHOT_ENDED)

    def upload_pipeline(self, folder: Path, *, entry_point: str, request_id: str = "") -> pip.PipelineVersion:
        """Pack a pipeline's folder and send it; the answer is the newest version, with its graph.

        Raises:
            SlipwayError: The definition is refused; the text names step, input or parameter, and line.
        """
        archive = pack_folder(folder)

        def requests() -> Iterator[pip.UploadPipelineRequest]:
            header = pip.PipelineHeader(
                size_bytes=len(archive), entry_point=entry_point, request_id=request_id
            )
            yield pip.UploadPipelineRequest(header=header)
            for start in range(0, len(archive), _CHUNK_BYTES):
                yield pip.UploadPipelineRequest(chunk=archive[start : start + _CHUNK_BYTES])

        return self.pipelines.UploadPipeline(requests(), timeout=120)

    def run_pipeline(
        self, pipeline: str, parameters: Mapping[str, Any] | None = None, *, request_id: str = ""
    ) -> pip.PipelineRun:
        """Start a run of a pipeline's newest version; it is durable when this returns."""
        request = pip.CreatePipelineRunRequest(
            parent=resource("pipelines", pipeline),
            parameters=json_format.ParseDict(dict(parameters or {}), struct_pb2.Struct()),
            request_id=request_id,
        )
        return self.pipelines.CreatePipelineRun(request)

    def watch_pipeline_run(self, run: str) -> Iterator[pip.PipelineRun]:
        """Yield a run whenever it or a step of it changes, until it ends; goes on over lost connections."""
        request = pip.WatchPipelineRunRequest(name=run)
        return watched(lambda: self.pipelines.WatchPipelineRun(request), PIPELINE_RUN_ENDED)

    def watch_rollout(self, rollout: str) -> Iterator[rol.Rollout]:
        """Yield a rollout whenever it changes, until it ends; goes on over lost connections."""
        request = rol.WatchRolloutRequest(name=rollout)
        return watched(lambda: self.rollout.WatchRollout(request), ROLLOUT_ENDED)

    def download_bundle(self, name: str) -> dict[str, bytes]:
        """Return the files of `bundles/{digest}` by name, each verified by its digest."""
        return download_bundle(self.registry, name)

    def checkout(self, commit: str, folder: Path, **options: Any) -> Checkout:
        """Bring a commit's examples to a local folder, each verified; options as `check_out`."""
        return check_out(self.ingestion, commit, folder, **options)

    def infer(
        self, endpoint: str, inputs: Mapping[str, np.ndarray], *, version: str = "", key: str = ""
    ) -> prediction.Prediction:
        """Return what an endpoint answers to named tensors.

        `version` (`v2`) picks one as a tester; a `key` stays with the version that it got during a canary.
        """
        return prediction.infer(self.rest, self.token(), _id(endpoint), inputs, version, key)

    def record_feedback(
        self, labels: Iterable[tuple[str, str]], *, source: str = "", request_id: str = ""
    ) -> mon.RecordFeedbackResponse:
        """Give true labels by predicted row: pairs of `Prediction.rows` and labels, as many as there are."""
        return record_feedback(self.monitoring, labels, source, request_id)

    def model_metadata(self, endpoint: str) -> dict[str, Any]:
        """Return the KServe v2 metadata of an endpoint's model: inputs and outputs."""
        path = f"/v2/models/{_id(endpoint)}"
        return dict(self.rest.send("GET", path, token=self.token()).json())

    def trace(self, identifier: str) -> mon.Trace:
        """Return a trace by its id (32 hexadecimal characters) or by a prediction's."""
        name = identifier.removeprefix("traces/")
        if len(name) == 32 and not set(name) - set("0123456789abcdef"):
            return self.monitoring.GetTrace(mon.GetTraceRequest(name=f"traces/{name}"))
        return self.monitoring.FindTrace(mon.FindTraceRequest(prediction_id=name))


def resource(collection: str, name: str) -> str:
    """Return `collection/name`, whether the collection was said or not."""
    return name if name.startswith(f"{collection}/") else f"{collection}/{name}"


def _id(name: str) -> str:
    return name.rpartition("/")[2]


def _upload_item(item: Item) -> ing.UploadItem:
    return ing.UploadItem(
        key=item.key,
        data=item.content(),
        label=item.label,
        label_source=item.label_source,
        group=item.group,
        attributes=item.attributes,
    )


__all__ = ["ENDED", "PIPELINE_RUN_ENDED", "ROLLOUT_ENDED", "SNAPSHOT_ENDED", "Client", "resource"]
