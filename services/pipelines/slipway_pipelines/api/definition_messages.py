"""Definitions as messages."""

import json
from typing import Any

from google.protobuf.duration_pb2 import Duration
from slipway.pipelines.v1 import pipelines_pb2 as pb

from slipway_pipelines.domain.definition import Input, Kind, Parameter, Schedule, Step, Version
from slipway_pipelines.store.definitions import Pipeline


def pipeline(found: Pipeline) -> pb.Pipeline:
    """Return a pipeline."""
    made = pb.Pipeline(
        name=found.name,
        description=found.description,
        newest_version=f"{found.name}/versions/{found.newest}",
        run_counts=found.run_counts,
        last_run=found.last_run,
    )
    if found.schedule is not None:
        made.schedule.CopyFrom(_schedule(found.schedule))
        made.schedule.paused = found.paused
        stamp(made.schedule.next_time, found.next_time)
        stamp(made.schedule.last_time, found.last_time)
    stamp(made.create_time, found.create_time)
    stamp(made.update_time, found.update_time)
    return made


def version(found: Version) -> pb.PipelineVersion:
    """Return a version with its graph."""
    definition = found.definition
    made = pb.PipelineVersion(
        name=found.name,
        code_digest=found.code_digest,
        entry_point=found.entry_point,
        size_bytes=found.size_bytes,
        files=found.files,
        description=definition.description,
        steps=map(_step, definition.steps),
        parameters=map(_parameter, definition.parameters),
        creator=found.creator,
    )
    if definition.schedule is not None:
        made.schedule.CopyFrom(_schedule(definition.schedule))
    stamp(made.create_time, found.create_time)
    return made


def stamp(field: Any, value: Any) -> None:
    """Set a time, when there is one."""
    if value is not None:
        field.FromDatetime(value)


def _schedule(declared: Schedule) -> pb.Schedule:
    return pb.Schedule(cron=declared.cron, time_zone=declared.time_zone, catch_up=declared.catch_up.value)


def _parameter(parameter: Parameter) -> pb.Parameter:
    default = "" if parameter.required else json.dumps(parameter.default)
    return pb.Parameter(name=parameter.name, default_json=default)


def _step(step: Step) -> pb.Step:
    made = pb.Step(
        name=step.name,
        kind=step.kind.value,
        description=step.description,
        upstream=step.upstream,
        inputs=map(_input, step.inputs),
        mapped_over=step.mapped.source if step.mapped else "",
        when=step.when.source if step.when else "",
        retries=step.retries,
        cache=step.cache,
        version=step.version,
        line=step.line,
    )
    _span(made.backoff, step.backoff_s)
    _span(made.timeout, step.timeout_s)
    if step.kind is Kind.SENSOR:
        _span(made.poll_interval, step.poll_s)
    return made


def _input(given: Input) -> pb.Input:
    made = pb.Input(name=given.name, mapped=given.mapped)
    if given.step:
        made.step = given.step
    elif given.parameter:
        made.parameter = given.parameter
    else:
        made.constant_json = json.dumps(given.constant)
    return made


def _span(field: Duration, seconds: float) -> None:
    field.FromNanoseconds(round(seconds * 1e9))
