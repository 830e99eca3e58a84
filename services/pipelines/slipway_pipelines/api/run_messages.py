"""Runs and steps as messages, and what callers send of them."""

from datetime import UTC, datetime
from typing import Any

from google.protobuf.json_format import Error as JsonFormatError
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from slipway.pipelines.v1 import pipelines_pb2 as pb
from slipway_runtime.errors import InvalidArgument

from slipway_pipelines.api.definition_messages import stamp
from slipway_pipelines.domain.runs import Run, StepRun, StepState, Trigger

MAX_PARAMETER_BYTES = 64 << 10


def run(found: Run) -> pb.PipelineRun:
    """Return a run."""
    made = pb.PipelineRun(
        name=found.name,
        pipeline_version=f"pipelines/{found.pipeline}/versions/{found.version}",
        trigger=found.trigger.value,
        trigger_source=found.trigger_source,
        state=found.state.value,
        error=found.error,
        progress=_progress(found),
        active_steps=found.active_steps,
        retry_count=found.retry_count,
        creator=found.creator,
        etag=str(found.revision),
    )
    made.parameters.update(found.parameters)
    for field in ("schedule_time", "create_time", "start_time", "end_time"):
        stamp(getattr(made, field), getattr(found, field))
    return made


def _progress(found: Run) -> pb.Progress:
    progress = found.progress
    return pb.Progress(
        total_count=progress.of(*StepState),
        blocked_count=progress.of(StepState.BLOCKED),
        pending_count=progress.of(StepState.PENDING),
        running_count=progress.of(StepState.RUNNING),
        succeeded_count=progress.of(StepState.SUCCEEDED),
        cached_count=progress.cached,
        failed_count=progress.of(StepState.FAILED, StepState.UPSTREAM_FAILED),
        skipped_count=progress.of(StepState.SKIPPED),
        cancelled_count=progress.of(StepState.CANCELLED),
    )


def step_run(parent: str, found: StepRun) -> pb.StepRun:
    """Return a step of the run of that name."""
    made = pb.StepRun(
        name=f"{parent}/steps/{found.item}",
        step=found.step,
        index=found.index,
        state=found.state.value,
        attempt_count=found.attempt,
        failure_count=found.failures,
        cache_key=found.cache_key,
        cached_from=found.cached_from,
        request_id=found.request_id,
        output_json=found.output or "",
        error=found.error,
        log_tail=found.log_tail,
        output_names=found.names,
        host=found.host,
    )
    for field in ("ready_time", "start_time", "end_time"):
        stamp(getattr(made, field), getattr(found, field))
    stamp(made.next_attempt_time, found.due_time)
    return made


def parameters(sent: Struct) -> dict[str, Any]:
    """Return parameters out of a Struct, where every number is a double.

    Raises:
        InvalidArgument: a number is not finite, or they are too large.
    """
    if sent.ByteSize() > MAX_PARAMETER_BYTES:
        message = f"have {sent.ByteSize()} bytes; send at most {MAX_PARAMETER_BYTES}: names of things"
        raise InvalidArgument.field("parameters", message)
    try:
        values = MessageToDict(sent)
    except (JsonFormatError, ValueError) as error:
        raise InvalidArgument.field("parameters", f"is no JSON ({error}); send finite numbers") from error
    return {name: _whole(value) for name, value in values.items()}


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, list):
        return [_whole(one) for one in value]
    return {name: _whole(one) for name, one in value.items()} if isinstance(value, dict) else value


def trigger(sent: int) -> Trigger:
    """Return a trigger; MANUAL when none was sent."""
    return Trigger(trigger_filter(sent) or "MANUAL")


def trigger_filter(sent: int) -> str:
    """Return a trigger's name; empty when none was sent."""
    return _value("trigger", pb.PipelineRun.Trigger, sent)


def state_filter(sent: int) -> str:
    """Return a state's name; empty when none was sent."""
    return _value("state", pb.PipelineRun.State, sent)


def _value(field: str, enum: Any, sent: int) -> str:
    if sent not in enum.values():
        raise InvalidArgument.field(field, f"is {sent}; use one of {', '.join(enum.keys()[1:])}")
    return str(enum.Name(sent)) if sent else ""


def moment(request: pb.CreateBackfillRequest, field: str) -> datetime:
    """Return a time that must be there.

    Raises:
        InvalidArgument: it is missing, or out of range.
    """
    if not request.HasField(field):  # type: ignore[arg-type]
        raise InvalidArgument.field(field, "is missing; send the first and the last time of the window")
    try:
        found: datetime = getattr(request, field).ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidArgument.field(field, f"is no time ({error}); send a timestamp") from error
    return found
