"""Pipelines as people see them: the graph of a version, and a run's steps over time."""

import time
from collections.abc import Iterable, Sequence
from typing import Any

from rich.markup import escape
from slipway.cli.output import console, print_facts, print_table, short, state_name, when
from slipway.client import Client, pages
from slipway.pipelines.v1 import pipelines_pb2 as pip

BAR_WIDTH = 40
_COLORS = {
    "succeeded": "green", "failed": "red", "upstream_failed": "red", "running": "cyan", "pending": "yellow",
    "cancelled": "magenta", "skipped": "dim", "blocked": "dim",
}  # fmt: skip


def run_state(run: Any) -> str:
    """Return a run's state in lower case."""
    return state_name(pip.PipelineRun.State, run.state)


def short_run(name: str) -> str:
    """Return `PIPELINE/RUN` of a run's name."""
    parts = name.split("/")
    return f"{parts[1]}/{parts[3]}" if len(parts) == 4 else name


def print_graph(version: Any) -> None:
    """Print steps below what they need, with what each is given and how it is tried."""
    depth: dict[str, int] = {}
    for step in version.steps:
        depth[step.name] = 1 + max((depth[name] for name in step.upstream), default=-1)
    rows = [
        (
            f"{'  ' * depth[step.name]}{'└ ' if depth[step.name] else ''}{step.name}",
            state_name(pip.Step.Kind, step.kind),
            _inputs(step),
            _options(step),
            step.description,
        )
        for step in version.steps
    ]
    print_table(["step", "kind", "takes", "options", "says"], rows)


def _inputs(step: Any) -> str:
    told = [f"{given.name}={_source(given)}{' (each)' if given.mapped else ''}" for given in step.inputs]
    used = {given.step for given in step.inputs} | {step.when}
    told += [f"when {step.when}"] if step.when else []
    return ", ".join(told + [f"after {name}" for name in step.upstream if name not in used])


def _source(given: Any) -> str:
    return str(getattr(given, given.WhichOneof("source") or "constant_json"))


def _options(step: Any) -> str:
    told = [f"every {_seconds(step.poll_interval)}"] if step.kind == pip.Step.SENSOR else []
    told += [f"{step.retries} retries"] if step.retries else []
    told += ["cached"] if step.cache else []
    return ", ".join([*told, f"at most {_seconds(step.timeout)}"])


def _seconds(duration: Any) -> str:
    return f"{duration.ToNanoseconds() / 1e9:g} s"


def schedule_text(pipeline: Any) -> str:
    """Return a schedule as people read it; empty for none."""
    if not pipeline.HasField("schedule"):
        return ""
    schedule = pipeline.schedule
    following = "paused" if schedule.paused else f"next {when(schedule.next_time)} UTC"
    return f"{schedule.cron} {schedule.time_zone}, {following}"


def print_pipeline(client: Client, pipeline: Any, limit: int = 5) -> None:
    """Print a pipeline: its schedule, its graph and its last runs."""
    version = client.pipelines.GetPipelineVersion(pip.GetPipelineVersionRequest(name=pipeline.newest_version))
    facts = [("pipeline", pipeline.name), ("says", version.description)]
    facts += [("version", short(pipeline.newest_version)), ("entry point", version.entry_point)]
    facts += [("schedule", schedule_text(pipeline)), ("uploaded", when(pipeline.update_time))]
    print_facts(facts)
    parameters = [(one.name, one.default_json or "(must be given)") for one in version.parameters]
    if parameters:
        print_table(["parameter", "default"], parameters)
    print_graph(version)
    request = pip.ListPipelineRunsRequest(parent=pipeline.name)
    print_runs(pages(client.pipelines.ListPipelineRuns, request, "pipeline_runs", limit))


def print_runs(runs: Iterable[Any]) -> None:
    """Print a table of runs."""
    rows = [
        (
            short_run(run.name),
            run_state(run),
            f"{run.progress.succeeded_count}/{run.progress.total_count}",
            f"{state_name(pip.PipelineRun.Trigger, run.trigger)} {run.trigger_source}".strip(),
            when(run.create_time),
            run.error or " ".join(run.active_steps),
        )
        for run in runs
    ]
    print_table(["run", "state", "steps", "trigger", "created", "what"], rows, "no run yet")


def step_runs(client: Client, run: str) -> list[Any]:
    """Return all steps of a run."""
    request = pip.ListStepRunsRequest(parent=run)
    return list(pages(client.pipelines.ListStepRuns, request, "step_runs", 100_000))


def print_run(run: Any, steps: Sequence[Any]) -> None:
    """Print a run and its steps over time: dots while a step waits, a bar while it works."""
    facts = [("run", run.name), ("state", run_state(run)), ("error", run.error)]
    facts += [("version", short(run.pipeline_version)), ("from", run.trigger_source), ("by", run.creator)]
    facts += [("for", when(run.schedule_time)), ("created", when(run.create_time))]
    print_facts([*facts, ("ended", when(run.end_time))])
    for line in gantt(run, steps):
        console().print(line)
    failed = [(_item(step), step.error, _last_line(step)) for step in steps if step.error]
    if failed:
        print_table(["step", "why", "printed last"], failed)


def gantt(run: Any, steps: Sequence[Any]) -> list[str]:
    """Return a line per step with its state, tries, seconds and bar, as rich markup."""
    if not steps:
        return []
    begin = _epoch(run.create_time)
    end = max([_epoch(run.end_time) or time.time(), *(_epoch(step.end_time) for step in steps)])
    scale = BAR_WIDTH / max(end - begin, 1e-3)
    width = max(len(_item(step)) for step in steps)
    lines = []
    for step in steps:
        state = state_name(pip.StepRun.State, step.state)
        last = _epoch(step.end_time) or (end if step.start_time.seconds else 0.0)
        took = f"{last - _epoch(step.start_time):7.1f} s" if step.start_time.seconds else " " * 9
        bar = _bar(step, begin, last or end, scale)
        note = f"cached from {short_run(step.cached_from)}" if step.cached_from else ""
        tries = f"{step.attempt_count}×" if step.attempt_count > 1 else ""
        color = _COLORS.get(state, "default")
        lines.append(
            f"{_item(step):<{width}}  [{color}]{state:<15}[/] {tries:>4} {took}  "
            f"[{color}]{bar}[/] {escape(note)}".rstrip()
        )
    return lines


def _bar(step: Any, begin: float, last: float, scale: float) -> str:
    if not step.ready_time.seconds:
        return " " * BAR_WIDTH
    ready = min(round((_epoch(step.ready_time) - begin) * scale), BAR_WIDTH - 1)
    started = _epoch(step.start_time) or last
    start = min(max(round((started - begin) * scale), ready), BAR_WIDTH)
    stop = min(max(round((last - begin) * scale), start), BAR_WIDTH)
    work = max(stop - start, 1 if step.start_time.seconds else 0)
    return f"{' ' * ready}{'·' * (start - ready)}{'█' * work}"[:BAR_WIDTH].ljust(BAR_WIDTH)


def _item(step: Any) -> str:
    return str(step.name.rpartition("/")[2])


def _last_line(step: Any) -> str:
    lines = step.log_tail.strip().splitlines()
    return lines[-1] if lines else ""


def _epoch(timestamp: Any) -> float:
    return float(timestamp.seconds + timestamp.nanos / 1e9)
