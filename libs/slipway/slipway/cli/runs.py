"""`slipway run …`: what was trained, with figures."""

from typing import Annotated, Any

import typer
from google.protobuf import json_format
from slipway.cli.output import (
    AsJson,
    Limit,
    console,
    print_facts,
    print_json,
    print_table,
    short,
    state_name,
    to_dict,
    when,
)
from slipway.cli.platform_client import connect, experiments
from slipway.cli.platform_client import runs as run_names
from slipway.cli.plot import plot
from slipway.client import Client, SlipwayError, pages, resource
from slipway.registry.v1 import registry_pb2 as reg

app = typer.Typer(no_args_is_help=True, help="Runs: what was trained, with which figures.")
Run = Annotated[
    str, typer.Argument(help="EXPERIMENT/RUN, or the run's whole name.", autocompletion=run_names)
]


def run_name(text: str) -> str:
    """Return `experiments/{e}/runs/{r}` of what was typed.

    Raises:
        SlipwayError: It is neither form.
    """
    if text.startswith("experiments/"):
        return text
    experiment, slash, run = text.partition("/")
    if not slash:
        text = f"{text!r} is not a run; write EXPERIMENT/RUN as `slipway run list` shows it"
        raise SlipwayError("INVALID_ARGUMENT", "INVALID_FIELD", text)
    return f"experiments/{experiment}/runs/{run}"


@app.command("list")
def list_(
    experiment: Annotated[
        str, typer.Argument(help="Experiment; default: all.", autocompletion=experiments)
    ] = "-",
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List runs, newest first."""
    request = reg.ListRunsRequest(parent=resource("experiments", experiment))
    rows = list(pages(connect().registry.ListRuns, request, "runs", limit))
    if as_json:
        print_json(rows)
        return
    table = [
        (_short(r.name), r.display_name, _state(r), short(r.dataset_commit), _figures(r), when(r.create_time))
        for r in rows
    ]
    print_table(["run", "title", "state", "commit", "figures", "created"], table, "no run yet")


@app.command()
def show(run: Run, as_json: AsJson = False) -> None:
    """Show a run: parameters, figures, code, data, environment."""
    found = _get(connect(), run)
    if as_json:
        print_json(found)
        return
    facts = [
        ("run", found.name),
        ("title", found.display_name),
        ("state", _state(found)),
        ("error", found.error),
    ]
    facts += [("job", found.job), ("commit", found.dataset_commit), ("code", found.code_digest)]
    facts += [("seed", str(found.seed)), ("host", found.host), ("attempts", found.attempt)]
    facts += [("contains erased", ", ".join(found.contains_erased))]
    print_facts([*facts, ("created", when(found.create_time)), ("ended", when(found.end_time))])
    print_table(["parameter", "value"], sorted(_parameters(found).items()))
    print_table(["metric", "last"], sorted(found.last_metrics.items()))


@app.command()
def compare(
    names: Annotated[list[str], typer.Argument(metavar="RUN...", help="EXPERIMENT/RUN, two or more.")],
    everything: Annotated[bool, typer.Option("--all", help="What is equal, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show runs side by side: parameters that differ, and last figures."""
    client = connect()
    found = [_get(client, name) for name in names]
    rows = compared(found, everything=everything)
    if as_json:
        print_json({"runs": [to_dict(run) for run in found], "rows": rows})
        return
    columns = ["", *(_short(run.name) for run in found)]
    print_table(columns, [[row["name"], *row["values"]] for row in rows], "the runs are equal")


def compared(runs: list[Any], *, everything: bool = False) -> list[dict[str, Any]]:
    """Return a row per parameter, input and figure, with one value per run."""
    rows: list[dict[str, Any]] = [
        {"name": "commit", "values": [short(run.dataset_commit) for run in runs]},
        {"name": "code", "values": [short(run.code_digest) for run in runs]},
        {"name": "seed", "values": [str(run.seed) for run in runs]},
    ]
    for found in ([_parameters(run) for run in runs], [dict(run.last_metrics) for run in runs]):
        keys = sorted({key for mapping in found for key in mapping})
        rows += [{"name": key, "values": [mapping.get(key, "") for mapping in found]} for key in keys]
    return [row for row in rows if everything or len({str(value) for value in row["values"]}) > 1]


@app.command()
def metrics(
    run: Run,
    key: Annotated[str, typer.Argument(help="Series to plot, such as train/loss; default: list them.")] = "",
    as_json: AsJson = False,
) -> None:
    """Plot a series of a run, or list its series."""
    client = connect()
    name = run_name(run)
    if not key and not as_json:
        rows = sorted(_get(client, run).last_metrics.items())
        print_table(["metric", "last"], rows, "no metric yet")
        return
    request = reg.ListMetricPointsRequest(parent=name, key=key)
    points = list(pages(client.registry.ListMetricPoints, request, "points", 100_000))
    if as_json:
        print_json(points)
        return
    if not points:
        known = ", ".join(sorted(_get(client, run).last_metrics)) or "none"
        raise SlipwayError("NOT_FOUND", "METRIC_NOT_FOUND", f"{name} has no series {key!r}; it has {known}")
    console().print(f"[bold]{key}[/bold] of {name}, {len(points)} points")
    for line in plot([p.step for p in points], [p.value for p in points]):
        console().print(line)


def _get(client: Client, run: str) -> Any:
    return client.registry.GetRun(reg.GetRunRequest(name=run_name(run)))


def _short(name: str) -> str:
    parts = name.split("/")
    return f"{parts[1]}/{parts[3]}" if len(parts) == 4 else name


def _state(run: Any) -> str:
    return state_name(reg.Run.State, run.state)


def _parameters(run: Any) -> dict[str, Any]:
    return dict(json_format.MessageToDict(run.params))


def _figures(run: Any) -> str:
    return " ".join(f"{key}={value:.4g}" for key, value in sorted(run.last_metrics.items())[:4])
