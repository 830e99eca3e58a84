"""Ingestion and registry as small gRPC servers for unit tests; the contract tests use the real ones."""

import io
import json
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import numpy as np
from blake3 import blake3
from grpc_status import rpc_status
from PIL import Image
from slipway.ingestion.v1 import ingestion_pb2 as ing
from slipway.ingestion.v1 import ingestion_pb2_grpc as ing_grpc
from slipway.registry.v1 import registry_pb2 as reg
from slipway.registry.v1 import registry_pb2_grpc as reg_grpc
from slipway.task.bundle import bundle_digest
from slipway_runtime.errors import Aborted, FailedPrecondition, InvalidArgument, NotFound, SlipwayError
from slipway_runtime.rpc import to_status

COMMIT = "datasets/shapes/commits/" + "ab" * 32


def examples(count: int = 120) -> list[tuple[ing.Example, bytes]]:
    """Return small grey images: a bright left or a bright right half."""
    random = np.random.default_rng(0)
    made = []
    for index in range(count):
        pixels = random.integers(0, 90, (6, 6), dtype=np.uint8)
        side = index % 2
        pixels[:, 3 * side : 3 * side + 3] += 120
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, "PNG")
        split = "test" if index % 10 == 0 or index % 10 == 1 else "validation" if index % 10 < 4 else "train"
        example = ing.Example(
            key=f"{index:04d}",
            blob=blake3(data.getvalue()).hexdigest(),
            label=("left", "right")[side],
            split=split,
        )
        made.append((example, data.getvalue()))
    return made


def _refuse(context: grpc.ServicerContext, error: SlipwayError) -> None:
    context.abort_with_status(rpc_status.to_status(to_status(error, "neighbour.slipway")))


class Ingestion(ing_grpc.IngestionServiceServicer):
    """Knows one commit.

    Attributes:
        kept: Its examples; a test may change them before they are read.
        reads: Keys asked for with their bytes, by call.
        erasure_revision: What GetCommit says of erasures.
    """

    def __init__(self) -> None:
        self.kept = examples()
        self.erasure_revision = 0
        self.reads: list[list[str]] = []

    def GetCommit(self, request: Any, context: grpc.ServicerContext) -> ing.Commit:
        if request.name != COMMIT:
            _refuse(context, NotFound("COMMIT_NOT_FOUND", f"there is no commit {request.name!r}"))
        return ing.Commit(name=COMMIT, erasure_revision=self.erasure_revision)

    def ReadExamples(self, request: Any, context: grpc.ServicerContext) -> Iterator[ing.ReadExamplesResponse]:
        if not request.rows_only:
            self.reads.append(list(request.keys))
        for example, data in self.kept:
            if (request.split and example.split != request.split) or (
                request.keys and example.key not in request.keys
            ):
                continue
            item = ing.ExampleBytes(example=example, data=b"" if request.rows_only else data)
            yield ing.ReadExamplesResponse(examples=[item])


class Registry(reg_grpc.RegistryServiceServicer):
    """Records what comes, with the fence of `BeginRunAttempt`."""

    def __init__(self) -> None:
        self.attempt = 0
        self.points: dict[tuple[str, int], float] = {}
        self.bundles: dict[str, dict[str, bytes]] = {}
        self.versions: list[reg.ModelVersion] = []
        self.state = reg.Run.State.RUNNING
        self.params: dict[str, Any] = {}
        self.resume_steps: list[int] = []
        self.evaluations: dict[str, tuple[reg.EvaluationHeader, list[reg.EvaluatedExample]]] = {}

    def CreateExperiment(self, request: Any, context: grpc.ServicerContext) -> reg.Experiment:
        return reg.Experiment(name=f"experiments/{request.experiment_id}")

    def CreateModel(self, request: Any, context: grpc.ServicerContext) -> reg.Model:
        return reg.Model(name=f"models/{request.model_id}")

    def CreateRun(self, request: Any, context: grpc.ServicerContext) -> reg.Run:
        self.params = dict(request.run.params)
        return reg.Run(name=f"{request.parent}/runs/{request.run_id}")

    def BeginRunAttempt(self, request: Any, context: grpc.ServicerContext) -> reg.Run:
        if self.state != reg.Run.State.RUNNING:
            _refuse(context, FailedPrecondition("RUN_FINISHED", "the run has ended"))
        self._fence(request.attempt, context)
        self.attempt = request.attempt
        self.resume_steps.append(request.resume_step)
        self.points = {key: value for key, value in self.points.items() if key[1] <= request.resume_step}
        return reg.Run(name=request.name)

    def LogMetrics(self, request: Any, context: grpc.ServicerContext) -> reg.LogMetricsResponse:
        self._fence(request.attempt, context)
        new = {(point.key, point.step): point.value for point in request.points}
        self.points = new | self.points
        return reg.LogMetricsResponse()

    def UploadBundle(self, requests: Any, context: grpc.ServicerContext) -> reg.Bundle:
        name = next(requests).header.name
        files: dict[str, bytes] = {}
        current = ""
        for request in requests:
            if request.WhichOneof("payload") == "file":
                current = request.file.name
                files[current] = b""
            else:
                files[current] += request.chunk
        self.bundles[name] = files
        return reg.Bundle(name=name)

    def CreateModelVersion(self, request: Any, context: grpc.ServicerContext) -> reg.ModelVersion:
        self._fence(request.attempt, context)
        for version in self.versions:
            if version.run == request.model_version.run:
                return version
        version = reg.ModelVersion(name=f"{request.parent}/versions/{len(self.versions) + 1}")
        version.run, version.bundle = request.model_version.run, request.model_version.bundle
        self.versions.append(version)
        return version

    def add_version(self, name: str, files: dict[str, bytes]) -> None:
        """Have a version of a bundle, trained on the commit."""
        digest = bundle_digest(json.loads(files["manifest.json"])["files"])
        self.bundles[f"bundles/{digest}"] = files
        self.versions.append(reg.ModelVersion(name=name, bundle=f"bundles/{digest}", dataset_commit=COMMIT))

    def GetModelVersion(self, request: Any, context: grpc.ServicerContext) -> reg.ModelVersion:
        for version in self.versions:
            if version.name == request.name:
                return version
        numbers = ", ".join(version.name.rpartition("/")[2] for version in self.versions)
        message = f"there is no version {request.name!r}"
        _refuse(context, NotFound("MODEL_VERSION_NOT_FOUND", message, metadata={"near": numbers}))
        raise AssertionError

    def DownloadBundle(
        self, request: Any, context: grpc.ServicerContext
    ) -> Iterator[reg.DownloadBundleResponse]:
        for name in request.files:
            data = self.bundles[request.name][name]
            yield reg.DownloadBundleResponse(file=reg.BundleFile(name=name, size_bytes=len(data)))
            yield reg.DownloadBundleResponse(chunk=data)

    def RecordEvaluation(self, requests: Any, context: grpc.ServicerContext) -> reg.VersionEvaluation:
        header = next(requests).header
        rows = [row for request in requests for row in request.examples.examples]
        name = f"{header.parent}/evaluations/{header.evaluation_id}"
        if self.evaluations.setdefault(name, (header, rows)) != (header, rows):
            _refuse(context, FailedPrecondition("EVALUATION_REFUSED", "recorded with other content"))
        return reg.VersionEvaluation(name=name)

    def FinishRun(self, request: Any, context: grpc.ServicerContext) -> reg.Run:
        self._fence(request.attempt, context)
        claims = request.state == reg.Run.State.SUCCEEDED and self.state != request.state
        if claims and request.attempt > self.attempt:
            _refuse(context, InvalidArgument.field("attempt", "was not begun; BeginRunAttempt first"))
        if self.state not in {reg.Run.State.RUNNING, request.state}:
            _refuse(context, FailedPrecondition("RUN_FINISHED", "the run has ended otherwise"))
        self.state = request.state
        return reg.Run(name=request.name)

    def _fence(self, attempt: int, context: grpc.ServicerContext) -> None:
        if attempt < self.attempt:
            _refuse(context, Aborted("STALE_ATTEMPT", f"attempt {self.attempt} writes this run"))


def serve(ingestion: Ingestion, registry: Registry) -> tuple[grpc.Server, str]:
    """Serve both on one port; return the server and its address."""
    server = grpc.server(futures.ThreadPoolExecutor(8))
    ing_grpc.add_IngestionServiceServicer_to_server(ingestion, server)
    reg_grpc.add_RegistryServiceServicer_to_server(registry, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, f"127.0.0.1:{port}"
