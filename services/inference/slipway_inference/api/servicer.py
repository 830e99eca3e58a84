"""The KServe v2 servicer; `tritonclient.grpc.service_pb2` is the protocol on both sides."""

import time
from collections.abc import Sequence
from typing import Any

from opentelemetry import trace
from slipway_runtime import telemetry
from slipway_runtime.errors import InvalidArgument
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from slipway_inference.api.events import Call, EventMaker
from slipway_inference.domain import DATATYPES, SlotState, Tensor, not_ready
from slipway_inference.engine.spool import Spool
from slipway_inference.usecases.slots import Answer, Front, Slot

VERSION = "0.1.0"
EXTENSIONS = ("statistics", "model_configuration", "model_repository")
_FIELDS = sorted({field for _, field in DATATYPES.values() if field} | {"bytes_contents"})


class InferenceServicer(service_pb2_grpc.GRPCInferenceServiceServicer):
    """inference.GRPCInferenceService; RPCs that are not here answer UNIMPLEMENTED."""

    def __init__(self, *, front: Front, spool: Spool, events: EventMaker, repository: Any = None) -> None:
        self._front = front
        self._spool = spool
        self._events = events
        self._repository = repository

    async def ServerLive(self, request: Any, context: Any) -> Any:
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Any, context: Any) -> Any:
        return pb.ServerReadyResponse(ready=self._front.ready)

    async def ModelReady(self, request: Any, context: Any) -> Any:
        slot = self._front.slot(request.name, request.version)
        return pb.ModelReadyResponse(ready=slot.state is SlotState.READY)

    async def ServerMetadata(self, request: Any, context: Any) -> Any:
        return pb.ServerMetadataResponse(name="slipway-inference", version=VERSION, extensions=EXTENSIONS)

    async def ModelMetadata(self, request: Any, context: Any) -> Any:
        slot = _loaded(self._front.slot(request.name, request.version))
        tensor = pb.ModelMetadataResponse.TensorMetadata
        return pb.ModelMetadataResponse(
            name=slot.name,
            versions=[slot.version],
            platform="slipway",
            inputs=[tensor(name=s.name, datatype=s.datatype, shape=s.shape) for s in slot.signature.inputs],
            outputs=[tensor(name=s.name, datatype=s.datatype, shape=s.shape) for s in slot.signature.outputs],
        )

    async def ModelConfig(self, request: Any, context: Any) -> Any:
        return pb.ModelConfigResponse(
            config=_config(_loaded(self._front.slot(request.name, request.version)))
        )

    async def ModelStatistics(self, request: Any, context: Any) -> Any:
        slots = (
            [self._front.slot(request.name, request.version)] if request.name else self._front.slots.values()
        )
        return pb.ModelStatisticsResponse(model_stats=[_statistics(slot) for slot in slots])

    async def RepositoryIndex(self, request: Any, context: Any) -> Any:
        index = pb.RepositoryIndexResponse.ModelIndex
        return pb.RepositoryIndexResponse(
            models=[
                index(name=slot.name, version=slot.version, state=str(slot.state), reason=slot.why)
                for slot in self._front.slots.values()
                if not request.ready or slot.state is SlotState.READY
            ]
        )

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:
        await self._repository.load(request.model_name)
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(self, request: Any, context: Any) -> Any:
        await self._repository.unload(request.model_name)
        return pb.RepositoryModelUnloadResponse()

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        began_ns = time.monotonic_ns()
        slot = self._front.slot(request.model_name, request.model_version)
        span = trace.get_current_span()
        traced = span.get_span_context() if span.is_recording() else None
        asked = [output.name for output in request.outputs]
        answer = await slot.infer(_tensors(request), asked, context.time_remaining(), traced)
        if traced is not None:
            _tell(span, answer)
        size = sum(map(len, answer.parts)) + sum(map(len, answer.outcome.outputs))
        call = Call.of(context.invocation_metadata(), telemetry.trace_id(), began_ns)
        self._spool.put(self._events(answer, call), size)
        context.set_trailing_metadata(
            (("slipway-prediction-id", answer.prediction_id), ("slipway-version", answer.version))
        )
        return _response(request.id, answer)


def _loaded(slot: Slot) -> Slot:
    """Return the slot when its signature is known; the slot's own refusal otherwise."""
    if slot.bundle is None:
        raise not_ready(slot.name, slot.state, slot.why)
    return slot


def _tensors(request: Any) -> list[Tensor]:
    """Return the inputs as they came; raw bytes are not copied, typed values not packed.

    Raises:
        InvalidArgument: Raw and typed contents are mixed, or raw ones are too few or too many.
    """
    raws: Sequence[bytes] = request.raw_input_contents
    if raws and (len(raws) != len(request.inputs) or any(t.HasField("contents") for t in request.inputs)):
        message = f"has {len(raws)} parts for {len(request.inputs)} inputs"
        remedy = "send one for each input and no typed contents, or typed contents alone"
        raise InvalidArgument.field("raw_input_contents", f"{message}; {remedy}", reason="TENSOR_INVALID")
    found = []
    for index, tensor in enumerate(request.inputs):
        shape = tuple(tensor.shape)
        if raws:
            found.append(Tensor(tensor.name, tensor.datatype, shape, raw=raws[index]))
        else:
            typed = {field: getattr(tensor.contents, field) for field in _FIELDS}
            found.append(Tensor(tensor.name, tensor.datatype, shape, typed=typed))
    return found


def _response(request_id: str, answer: Answer) -> Any:
    response = pb.ModelInferResponse(model_name=answer.model, model_version=answer.version, id=request_id)
    response.parameters["prediction_id"].string_param = answer.prediction_id
    response.parameters["version"].string_param = answer.version
    for index in answer.outputs:
        spec = answer.signature.outputs[index]
        shape = (answer.rows, *spec.shape[1:])
        response.outputs.add(name=spec.name, datatype=spec.datatype, shape=shape)
        response.raw_output_contents.append(answer.outcome.outputs[index])
    return response


def _tell(span: trace.Span, answer: Answer) -> None:
    """Put the prediction on the server's span, and the engine's part below it as a span of its own."""
    outcome = answer.outcome
    span.set_attributes({"slipway.prediction_id": answer.prediction_id, "slipway.version": answer.version})
    links = [trace.Link(outcome.lead)] if outcome.lead not in (None, span.get_span_context()) else []
    engine = telemetry.tracer.start_span(
        f"engine {answer.model}",
        start_time=outcome.ended_ns - outcome.compute_ns,
        links=[link for link in links if link.context is not None],
        attributes={
            "slipway.batch_rows": outcome.batch_rows,
            "slipway.batch_requests": outcome.batch_requests,
            "slipway.batch_reason": str(outcome.reason),
            "slipway.queue_ms": outcome.queue_ns / 1e6,
            "slipway.compute_ms": outcome.compute_ns / 1e6,
        },
    )
    engine.end(outcome.ended_ns)


def _config(slot: Slot) -> Any:
    """Return the configuration in Triton's words, as perf_analyzer reads it."""
    from tritonclient.grpc import model_config_pb2 as config_pb

    signature = slot.signature
    config = config_pb.ModelConfig(name=slot.name, platform="slipway", max_batch_size=signature.max_rows)
    for specs, field in ((signature.inputs, config.input), (signature.outputs, config.output)):
        for spec in specs:
            kind = config_pb.DataType.Value(f"TYPE_{spec.datatype}")
            field.add(name=spec.name, data_type=kind, dims=spec.shape[1:])
    config.dynamic_batching.SetInParent()
    return config


def _statistics(slot: Slot) -> Any:
    measures = slot.measures

    def duration(span: Any) -> Any:
        return pb.StatisticDuration(count=span.count, ns=span.ns)

    return pb.ModelStatistics(
        name=slot.name,
        version=slot.version,
        last_inference=measures.last_ms,
        inference_count=measures.rows,
        execution_count=measures.batches,
        inference_stats=pb.InferStatistics(
            success=duration(measures.success),
            fail=duration(measures.failure),
            queue=duration(measures.queue),
            compute_input=duration(measures.copy_in),
            compute_infer=duration(measures.compute),
            compute_output=duration(measures.copy_out),
        ),
        batch_stats=[
            pb.InferBatchStatistics(
                batch_size=rows,
                compute_input=duration(size.copy_in),
                compute_infer=duration(size.compute),
                compute_output=duration(size.copy_out),
            )
            for rows, size in sorted(measures.by_rows.items())
        ],
    )
