"""Records to messages and back."""

from collections.abc import Iterable, Iterator
from datetime import UTC
from typing import Any

from google.protobuf import json_format, struct_pb2
from slipway.registry.v1 import registry_pb2 as pb
from slipway_runtime.errors import InvalidArgument
from slipway_runtime.rpc import timestamp

from slipway_registry import domain
from slipway_registry.usecases.bundles import Part
from slipway_registry.usecases.runs import Repeat

_MAX_EVALUATION_BYTES = 4 << 20  # every listing of versions carries it


def repeat_of(request: Any) -> Repeat:
    """Return what makes a repeat of a request recognisable."""
    return Repeat(request.request_id, request.SerializeToString(deterministic=True))


def bundle_header(requests: Iterator[pb.UploadBundleRequest]) -> str:
    """Return the name that a bundle's upload begins with."""
    first = next(requests, None)
    if first is None or first.WhichOneof("payload") != "header":
        raise InvalidArgument.field("header", "is missing; send it first, with the bundle's name")
    return str(first.header.name)


def bundle_parts(requests: Iterator[pb.UploadBundleRequest]) -> Iterator[Part]:
    """Yield the files and pieces of a bundle's upload."""
    for request in requests:
        if request.WhichOneof("payload") == "file":
            yield domain.BundleFile(request.file.name, request.file.size_bytes, request.file.blake3)
        else:
            yield bytes(request.chunk)


def new_run(request: pb.CreateRunRequest) -> domain.NewRun:
    """Return the run that a request opens."""
    run = request.run
    return domain.NewRun(
        id=request.run_id,
        display_name=run.display_name,
        job=run.job,
        dataset_commit=run.dataset_commit,
        code_digest=run.code_digest,
        params=params_of(run.params),
        environment=dict(run.environment),
        seed=run.seed,
        host=run.host,
    )


def to_point(point: pb.MetricPoint) -> domain.Point:
    """Return a point as sent."""
    try:
        time = point.time.ToDatetime(tzinfo=UTC) if point.HasField("time") else None
    except (ValueError, OverflowError) as error:
        raise InvalidArgument.field("points.time", "is not of the years 1 to 9999; correct it") from error
    return domain.Point(point.key, point.step, point.value, time)


def check_evaluation(evaluation: dict[str, Any]) -> None:
    """Let an evaluation pass that the API can show; another would spoil every listing of its model.

    Raises:
        ValueError: A field has another type than the contract says; the text names it. Or it is too large.
    """
    try:
        shown = json_format.ParseDict(evaluation, pb.Evaluation(), ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise ValueError(" ".join(str(error).split())) from error
    if shown.ByteSize() > _MAX_EVALUATION_BYTES:
        most = f"at most {_MAX_EVALUATION_BYTES}; name fewer classes"
        raise ValueError(f"takes {shown.ByteSize()} bytes in an answer, {most}")


def run_state(state: int) -> str:
    """Return the state that a listing asks for."""
    if state not in pb.Run.State.values():
        names = ", ".join(pb.Run.State.keys()[1:])
        raise InvalidArgument.field("state", f"is {state}; use one of {names}")
    return str(pb.Run.State.Name(state))


def version_states(states: Iterable[int]) -> list[domain.VersionState]:
    """Return the states that a listing of versions asks for."""
    known = pb.ModelVersion.State.values()[1:]
    wrong = [state for state in states if state not in known]
    if wrong:
        names = ", ".join(pb.ModelVersion.State.keys()[1:])
        raise InvalidArgument.field("states", f"holds {wrong[0]}; use {names}")
    return [domain.VersionState(pb.ModelVersion.State.Name(state)) for state in states]


def params_of(params: struct_pb2.Struct) -> dict[str, Any]:
    """Return hyperparameters as plain values."""
    try:
        return dict(json_format.MessageToDict(params))
    except (json_format.Error, ValueError) as error:
        raise InvalidArgument.field("run.params", f"is no JSON ({error}); send it as text") from error


def end_state(state: int) -> domain.RunState:
    """Return the state that ends a run."""
    if state == pb.Run.STATE_UNSPECIFIED or state not in pb.Run.State.values():
        raise InvalidArgument.field("state", "is not set; give SUCCEEDED, FAILED or CANCELLED")
    return domain.RunState(pb.Run.State.Name(state))


def struct(value: dict[str, Any]) -> struct_pb2.Struct:
    """Return plain values as a message."""
    struct = struct_pb2.Struct()
    struct.update(value)
    return struct


def experiment_message(experiment: domain.Experiment) -> pb.Experiment:
    """Return the experiment as a message."""
    return pb.Experiment(
        name=experiment.name,
        description=experiment.description,
        create_time=timestamp(experiment.create_time),
        creator=experiment.creator,
    )


def run_message(run: domain.Run) -> pb.Run:
    """Return the run as a message."""
    return pb.Run(
        name=run.name,
        display_name=run.display_name,
        job=run.job,
        dataset_commit=run.dataset_commit,
        code_digest=run.code_digest,
        params=struct(run.params),
        environment=run.environment,
        seed=run.seed,
        host=run.host,
        state=str(run.state),
        error=run.error,
        last_metrics=run.last_metrics,
        attempt=run.attempt,
        create_time=timestamp(run.create_time),
        end_time=timestamp(run.end_time),
        creator=run.creator,
        contains_erased=run.contains_erased,
    )


def point_message(point: domain.Point) -> pb.MetricPoint:
    """Return the point as a message."""
    return pb.MetricPoint(key=point.key, step=point.step, value=point.value, time=timestamp(point.time))


def model_message(model: domain.Model) -> pb.Model:
    """Return the model as a message."""
    return pb.Model(
        name=model.name,
        description=model.description,
        latest_version=model.latest_version,
        create_time=timestamp(model.create_time),
        update_time=timestamp(model.update_time),
        etag=model.etag,
        creator=model.creator,
    )


def bundle_file_message(file: domain.BundleFile) -> pb.BundleFile:
    """Return the file of a bundle as a message."""
    return pb.BundleFile(name=file.name, size_bytes=file.size_bytes, blake3=file.blake3)


def bundle_message(bundle: domain.Bundle) -> pb.Bundle:
    """Return the bundle as a message."""
    return pb.Bundle(
        name=bundle.name,
        files=map(bundle_file_message, bundle.files),
        size_bytes=bundle.size_bytes,
        manifest=struct(bundle.manifest),
        create_time=timestamp(bundle.create_time),
    )


def version_message(version: domain.Version) -> pb.ModelVersion:
    """Return the version as a message."""
    return pb.ModelVersion(
        name=version.name,
        run=version.run,
        dataset_commit=version.dataset_commit,
        bundle=version.bundle,
        evaluation=json_format.ParseDict(version.evaluation, pb.Evaluation(), ignore_unknown_fields=True),
        state=str(version.state),
        create_time=timestamp(version.create_time),
        creator=version.creator,
        code_digest=version.code_digest,
        size_bytes=version.size_bytes,
        parity_max_abs_diff=version.parity_max_abs_diff,
        gate_verdict=version.gate_verdict,
        gated=version.gated,
        aliases=version.aliases,
        contains_erased=version.contains_erased,
    )
