"""`slipway pipeline …`: definitions, runs, schedules."""

import ast
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from google.protobuf import json_format, struct_pb2
from slipway.cli.output import AsJson, Limit, print_facts, print_json, print_table, to_dict, when
from slipway.cli.pipeline_views import (
    print_graph,
    print_pipeline,
    print_run,
    print_runs,
    run_state,
    schedule_text,
    short_run,
    step_runs,
)
from slipway.cli.platform_client import connect, pipeline_runs
from slipway.cli.platform_client import pipelines as pipeline_names
from slipway.cli.progress import follow
from slipway.client import Client, SlipwayError, pages, resource
from slipway.pipelines.v1 import pipelines_pb2 as pip

app = typer.Typer(no_args_is_help=True, help="Pipelines: graphs of steps, their runs and schedules.")
schedules = typer.Typer(no_args_is_help=True, help="When a pipeline runs by itself.")
app.add_typer(schedules, name="schedule")
Name = Annotated[str, typer.Argument(help="Id of the pipeline.", autocompletion=pipeline_names)]
Run = Annotated[
    str,
    typer.Argument(
        help="PIPELINE/RUN or the run's whole name; PIPELINE alone is its last run.",
        autocompletion=pipeline_runs,
    ),
]
Set = Annotated[
    list[str] | None, typer.Option("--set", "-p", help="name=value; JSON where it is; repeat it.")
]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Watch it until it ends.")]


@app.command()
def push(
    folder: Annotated[Path, typer.Argument(help="Folder with the pipeline's file; it is packed and sent.")],
    entry_point: Annotated[str, typer.Option(help="file.py:function in the folder.")] = "",
    as_json: AsJson = False,
) -> None:
    """Upload a definition; it is checked, and new runs get it."""
    version = connect().upload_pipeline(folder, entry_point=entry_point or find_pipeline(folder))
    if as_json:
        print_json(version)
        return
    print_facts([("version", version.name), ("says", version.description)])
    print_graph(version)


def find_pipeline(folder: Path) -> str:
    """Return `file.py:function` of the only function under @pipeline in the folder's files.

    Raises:
        SlipwayError: There is none, or more than one; a file is not Python; or there is no such folder.
    """
    if not folder.is_dir():
        raise _refused(f"{folder} is not a folder; name the one that holds the pipeline's file")
    found = [
        f"{path.name}:{node.name}"
        for path in sorted(folder.glob("*.py"))
        for node in _parsed(path).body
        if isinstance(node, ast.FunctionDef) and any(map(_is_pipeline, node.decorator_list))
    ]
    if len(found) == 1:
        return found[0]
    seen = ", ".join(found) or "none"
    raise _refused(f"{folder} has {len(found)} pipelines ({seen}); name one: --entry-point file.py:function")


def _is_pipeline(node: ast.expr) -> bool:
    target = node.func if isinstance(node, ast.Call) else node
    return ast.unparse(target).rpartition(".")[2] == "pipeline"


def _parsed(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_text(), str(path))
    except (SyntaxError, ValueError) as error:
        raise _refused(f"{path} is not Python: {error}") from error


@app.command("run")
def run_(name: Name, given: Set = None, watch: Watch = False, as_json: AsJson = False) -> None:
    """Start a run of a pipeline's newest version."""
    client = connect()
    _told(client, client.run_pipeline(name, parse_values(given or [])), watch=watch, as_json=as_json)


@app.command("list")
def list_(
    name: Annotated[
        str, typer.Argument(help="Runs of this pipeline (`-`: of all).", autocompletion=pipeline_names)
    ] = "",
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List pipelines, or the runs of one, newest first."""
    client = connect()
    if name:
        request = pip.ListPipelineRunsRequest(parent=resource("pipelines", name))
        runs = list(pages(client.pipelines.ListPipelineRuns, request, "pipeline_runs", limit))
        print_json(runs) if as_json else print_runs(runs)
        return
    rows = list(pages(client.pipelines.ListPipelines, pip.ListPipelinesRequest(), "pipelines", limit))
    if as_json:
        print_json(rows)
        return
    table = [
        (
            row.name.partition("/")[2],
            _counts(row),
            schedule_text(row),
            short_run(row.last_run),
            row.description,
        )
        for row in rows
    ]
    print_table(["pipeline", "runs", "schedule", "last run", "says"], table, "no pipeline yet")


@app.command()
def show(
    name: Annotated[
        str, typer.Argument(help="PIPELINE or PIPELINE/RUN, or a whole name.", autocompletion=pipeline_runs)
    ],
    as_json: AsJson = False,
) -> None:
    """Show a pipeline with its graph, or a run with its steps over time."""
    client = connect()
    text = name.removeprefix("pipelines/")
    if "/" in text:
        _print(client, _get(client, run_name(client, name)), as_json=as_json)
        return
    found = client.pipelines.GetPipeline(pip.GetPipelineRequest(name=f"pipelines/{text}"))
    if not as_json:
        print_pipeline(client, found)
        return
    version = client.pipelines.GetPipelineVersion(pip.GetPipelineVersionRequest(name=found.newest_version))
    print_json({**to_dict(found), "version": to_dict(version)})


@app.command()
def watch(run: Run, as_json: AsJson = False) -> None:
    """Show a run's progress until it ends; it goes on when you stop watching."""
    client = connect()
    _told(client, _get(client, run_name(client, run)), watch=True, as_json=as_json)


@app.command()
def cancel(run: Run, as_json: AsJson = False) -> None:
    """End a run and what runs of it."""
    client = connect()
    request = pip.CancelPipelineRunRequest(name=run_name(client, run))
    _print(client, client.pipelines.CancelPipelineRun(request), as_json=as_json)


@app.command()
def retry(run: Run, watch: Watch = False, as_json: AsJson = False) -> None:
    """Run again what failed or is missing of a run."""
    client = connect()
    request = pip.RetryPipelineRunRequest(name=run_name(client, run))
    _told(client, client.pipelines.RetryPipelineRun(request), watch=watch, as_json=as_json)


@app.command()
def backfill(
    name: Name,
    start: Annotated[datetime, typer.Option("--from", help="First time of the window, UTC.")],
    end: Annotated[datetime, typer.Option("--to", help="End of the window, UTC; not in it.")],
    given: Set = None,
    as_json: AsJson = False,
) -> None:
    """Start runs for the times of the schedule in a window that have none, or whose runs all failed."""
    request = pip.CreateBackfillRequest(
        parent=resource("pipelines", name), parameters=_struct(parse_values(given or []))
    )
    request.start_time.FromDatetime(start.replace(tzinfo=UTC))
    request.end_time.FromDatetime(end.replace(tzinfo=UTC))
    made = connect().pipelines.CreateBackfill(request)
    if as_json:
        print_json(made)
        return
    print_facts([("times", made.time_count), ("had a run", made.skipped_count), ("started", len(made.runs))])
    print_table(["run"], [(short_run(run),) for run in made.runs], "nothing was missing")


@schedules.command("show")
def show_schedule(name: Name, as_json: AsJson = False) -> None:
    """Show when a pipeline runs by itself."""
    request = pip.GetPipelineRequest(name=resource("pipelines", name))
    _print_schedule(connect().pipelines.GetPipeline(request), as_json=as_json)


@schedules.command()
def pause(name: Name, as_json: AsJson = False) -> None:
    """Stop a schedule; runs that there are go on."""
    request = pip.PauseScheduleRequest(name=resource("pipelines", name))
    _print_schedule(connect().pipelines.PauseSchedule(request), as_json=as_json)


@schedules.command()
def resume(name: Name, as_json: AsJson = False) -> None:
    """Start a schedule again, with the next time that comes."""
    request = pip.ResumeScheduleRequest(name=resource("pipelines", name))
    _print_schedule(connect().pipelines.ResumeSchedule(request), as_json=as_json)


def parse_values(pairs: list[str]) -> dict[str, Any]:
    """Return parameters from `name=value`; values are read as JSON where they are.

    Raises:
        SlipwayError: One has no `=`.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise _refused(f"--set {pair!r}: write it as name=value")
        try:
            values[name] = json.loads(text)
        except ValueError:
            values[name] = text
    return values


def run_name(client: Client, text: str) -> str:
    """Return the name of a run: `PIPELINE/RUN`, a whole name, or the last run of `PIPELINE`.

    Raises:
        SlipwayError: The pipeline has no run yet.
    """
    plain = text.removeprefix("pipelines/").replace("/runs/", "/")
    pipeline, slash, run = plain.partition("/")
    if slash:
        return f"pipelines/{pipeline}/runs/{run}"
    found = client.pipelines.GetPipeline(pip.GetPipelineRequest(name=f"pipelines/{pipeline}"))
    if not found.last_run:
        message = f"{found.name} has no run yet; `slipway pipeline run {pipeline}` starts one"
        raise SlipwayError("NOT_FOUND", "PIPELINE_RUN_NOT_FOUND", message)
    return str(found.last_run)


def _told(client: Client, run: Any, *, watch: bool, as_json: bool) -> None:
    if not watch:
        _print(client, run, as_json=as_json)
        return
    last = follow(client.watch_pipeline_run(run.name), _doing, as_json=as_json)
    if last is not None and not as_json:
        print_run(last, step_runs(client, run.name))
    if last is None or last.state != pip.PipelineRun.SUCCEEDED:
        raise typer.Exit(1)


def _doing(run: Any) -> tuple[str, int, int]:
    progress = run.progress
    left = progress.blocked_count + progress.pending_count + progress.running_count
    what = " ".join(run.active_steps) or run_state(run)
    return what, progress.total_count - left, progress.total_count


def _get(client: Client, name: str) -> Any:
    return client.pipelines.GetPipelineRun(pip.GetPipelineRunRequest(name=name))


def _print(client: Client, run: Any, *, as_json: bool) -> None:
    steps = step_runs(client, run.name)
    if as_json:
        print_json({**to_dict(run), "steps": [to_dict(step) for step in steps]})
    else:
        print_run(run, steps)


def _print_schedule(pipeline: Any, *, as_json: bool) -> None:
    if as_json:
        print_json(pipeline)
        return
    last = when(pipeline.schedule.last_time) if pipeline.HasField("schedule") else ""
    facts = [("pipeline", pipeline.name), ("schedule", schedule_text(pipeline) or "none"), ("last", last)]
    print_facts(facts)


def _counts(pipeline: Any) -> str:
    return " ".join(f"{count} {state.lower()}" for state, count in sorted(pipeline.run_counts.items()))


def _struct(values: dict[str, Any]) -> struct_pb2.Struct:
    return json_format.ParseDict(values, struct_pb2.Struct())


def _refused(message: str) -> SlipwayError:
    return SlipwayError("INVALID_ARGUMENT", "INVALID_FIELD", message)
