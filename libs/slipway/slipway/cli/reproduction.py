"""`slipway reproduce`."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any

import typer
from slipway.cli.output import AsJson, console, print_facts, print_json, print_table
from slipway.cli.platform_client import connect, models, runs
from slipway.cli.progress import bar
from slipway.cli.runs import run_name
from slipway.cli.training import told
from slipway.client import SlipwayError, resource
from slipway.client.reproduction import Reproduction, compare, record_of, train_again
from slipway.registry.v1 import registry_pb2 as reg
from slipway.training.v1 import training_pb2 as trn

_SHOWN = 16


def reproduce(
    run: Annotated[
        str,
        typer.Argument(help="EXPERIMENT/RUN, or the whole name of a run or version.", autocompletion=runs),
    ],
    model: Annotated[
        str,
        typer.Option(
            help="Model that gets the version made again; default: the record's, with -reproduced.",
            autocompletion=models,
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Train again from a run's record, and compare the bundles file by file; 1 when one differs."""
    client = connect()
    record = record_of(client, _run(client, run))
    job = train_again(client, record, resource("models", model) if model else "")
    made = _watched(client.watch(job.name), quiet=as_json)
    if made.state != trn.TrainingJob.SUCCEEDED:
        state = trn.TrainingJob.State.Name(made.state)
        text = f"{made.name}, trained from the record of {record.run}, ended as {state}: {made.error}"
        raise SlipwayError("FAILED_PRECONDITION", "NOT_REPRODUCED", text)
    found = compare(client, record, made)
    print_json({**asdict(found), "equal": found.equal, "why": found.why()}) if as_json else _print(found)
    if not found.equal:
        raise typer.Exit(1)


def _run(client: Any, text: str) -> str:
    if not text.startswith("models/"):
        return run_name(text)
    return str(client.registry.GetModelVersion(reg.GetModelVersionRequest(name=text)).run)


def _watched(states: Iterator[Any], *, quiet: bool) -> Any:
    """Show a bar until the job ends; return its last state."""
    with bar(quiet=quiet) as show:
        for last in states:
            show(*told(last))
    return last


def _print(found: Reproduction) -> None:
    print_facts([("run", found.run), ("again", found.repeated_run), ("version", found.version)])
    print_facts([("again", found.repeated_version)])
    rows = [
        (m.file, m.recorded[:_SHOWN], m.repeated[:_SHOWN], "equal" if m.equal else "differs")
        for m in found.files
    ]
    print_table(["file", "recorded", "again", ""], rows)
    if found.equal:
        console().print(f"[green]equal[/green]: both trainings give {found.bundle}")
        return
    differing = ", ".join(member.file for member in found.files if not member.equal)
    console().print(f"[red]differs[/red]: {differing}\n{found.why()}", markup=True)
