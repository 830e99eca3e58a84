"""A version whose bundle has a reference profile, traffic of it that can fade, and what alerts set off."""

import json
import threading
import time
import uuid
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import numpy as np
from bundles import CLASSES, files, upload, with_manifest
from slipway.monitoring.v1 import monitoring_pb2 as pb
from slipway.pipelines.v1 import pipelines_pb2 as pipe
from slipway.pipelines.v1 import pipelines_pb2_grpc as pipe_grpc
from slipway.registry.v1 import registry_pb2 as reg
from slipway.task.profile import reference_profile


class Traffic:
    """Live events of one spool, seeded; a lamp that fades lowers the contrast of their images."""

    def __init__(self, endpoint: str, version: str, seed: int = 0) -> None:
        self.endpoint, self.version = endpoint, version
        self._random = np.random.default_rng(seed)
        self._spool = str(uuid.uuid4())
        self._sequence = 0

    def rows(self, count: int, fade: float = 1.0) -> tuple[Any, Any, Any]:
        """Return images (N, 8, 8, 1), probabilities (N, 3), embedding (N, 16)."""
        spread = 40 * self._random.uniform(0.7, 1.3, (count, 1, 1, 1))
        images = np.clip(128 + spread * self._random.normal(0, 1, (count, 8, 8, 1)) * fade, 0, 255)
        label = self._random.integers(0, len(CLASSES), count)
        embedding = self._random.normal(0, 1, (count, 16)).astype(np.float32)
        logits = self._random.normal(0, 1, (count, len(CLASSES)))
        logits[np.arange(count), label] += 3
        odds = np.exp(logits)
        return images.astype(np.uint8), odds / odds.sum(axis=1, keepdims=True), embedding

    def batch(self, count: int, fade: float = 1.0) -> pb.ReportEventsRequest:
        """Return the spool's next events, of one row each."""
        first = self._sequence + 1
        events = [self._event(*row) for row in zip(*self.rows(count, fade), strict=True)]
        return pb.ReportEventsRequest(
            spool=self._spool,
            first_sequence=first,
            events=events,
            produced_sequence=self._sequence,
            endpoint=self.endpoint,
            model_version=self.version,
        )

    def _event(self, image: Any, probabilities: Any, embedding: Any) -> pb.SequencedEvent:
        self._sequence += 1
        outputs = {"probabilities": _floats(probabilities), "embedding": _floats(embedding)}
        pixels = pb.TensorBytes(datatype="UINT8", shape=image.shape, data=image.tobytes())
        event = pb.PredictionEvent(
            prediction_id=f"{uuid.uuid4()}-abcdef12",
            endpoint=self.endpoint,
            model_version=self.version,
            role=pb.PredictionEvent.LIVE,
            latency_ms=2.0,
            rows=[pb.PredictedRow(outputs=outputs, inputs={"image": pixels})],
        )
        event.time.FromNanoseconds(time.time_ns())
        return pb.SequencedEvent(sequence=self._sequence, event=event)


def _floats(values: Any) -> pb.TensorBytes:
    data = np.asarray(values, "<f4").tobytes()
    return pb.TensorBytes(datatype="FP32", shape=values.shape, data=data)


def referenced_version(stub: Any, commit: str, model: str) -> str:
    """Register a version whose bundle has the reference profile of traffic that does not fade."""
    images, probabilities, embedding = Traffic("", "", seed=99).rows(600)
    profile = reference_profile(
        images=images, probabilities=probabilities, embedding=embedding, classes=CLASSES, split="test"
    )
    stub.CreateExperiment(reg.CreateExperimentRequest(experiment_id=model))
    stub.CreateModel(reg.CreateModelRequest(model_id=model))
    run = reg.Run(dataset_commit=commit, code_digest="taskCode/" + "0" * 64)
    made = stub.CreateRun(reg.CreateRunRequest(parent=f"experiments/{model}", run=run))
    bundle = upload(stub, *with_manifest({**files(), "profile.json": json.dumps(profile).encode()}))
    version = reg.ModelVersion(run=made.name, bundle=bundle.name)
    request = reg.CreateModelVersionRequest(parent=f"models/{model}", model_version=version, attempt=1)
    return str(stub.CreateModelVersion(request).name)


class Hook:
    """A webhook's receiver; `answer` may be changed, `on_call` runs before the answer."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.answer = 200
        self.on_call: Any = lambda: None
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                hook.calls.append((self.headers["idempotency-key"], body))
                hook.on_call()
                self.send_response(hook.answer)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}/alerts"

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()


class FakePipelines(pipe_grpc.PipelinesServiceServicer):
    """Starts no run, but answers as pipelines promises: a request_id again gets the first answer."""

    def __init__(self) -> None:
        self.forget()
        self._server = grpc.server(futures.ThreadPoolExecutor(2))
        pipe_grpc.add_PipelinesServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def forget(self) -> None:
        """Begin anew."""
        self.requests: list[pipe.CreatePipelineRunRequest] = []
        self.runs: dict[str, pipe.PipelineRun] = {}
        self.refusals = 0

    def CreatePipelineRun(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        if len(self.requests) <= self.refusals:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now")
        made = pipe.PipelineRun(name=f"{request.parent}/runs/{len(self.runs) + 1}")
        return self.runs.setdefault(request.request_id, made)

    def close(self) -> None:
        """End it."""
        self._server.stop(None).wait(5)
