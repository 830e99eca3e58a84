"""`slipway train …`: jobs."""

import ast
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from slipway.cli.output import (
    AsJson,
    Limit,
    print_facts,
    print_json,
    print_table,
    short,
    state_name,
    when,
)
from slipway.cli.platform_client import connect, datasets, models
from slipway.cli.platform_client import jobs as job_names
from slipway.cli.progress import follow
from slipway.client import Client, SlipwayError, pages, resource
from slipway.training.v1 import training_pb2 as trn

app = typer.Typer(no_args_is_help=True, help="Training jobs.")
Job = Annotated[str, typer.Argument(help="Id of the job.", autocompletion=job_names)]


@app.command()
def submit(
    folder: Annotated[Path, typer.Argument(help="Folder with the task's file; it is packed and sent.")],
    dataset: Annotated[str, typer.Option(help="Id of the data set.", autocompletion=datasets)],
    model: Annotated[str, typer.Option(help="Model that gets the version.", autocompletion=models)],
    entry_point: Annotated[str, typer.Option(help="file.py:ClassName in the folder.")] = "",
    at: Annotated[str, typer.Option(help="Branch or commit of the data set; default: main.")] = "",
    experiment: Annotated[str, typer.Option(help="Experiment of the run; default: as the model.")] = "",
    param: Annotated[list[str] | None, typer.Option("--param", "-p", help="name=value; repeat it.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    title: Annotated[str, typer.Option(help="What people read.")] = "",
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Watch it until it ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Queue a training job."""
    client = connect()
    job = client.submit_training(
        folder,
        entry_point=entry_point or find_entry_point(folder),
        dataset_commit=client.resolve_commit(dataset, at),
        model=model,
        experiment=experiment,
        display_name=title,
        hyperparameters=parse_parameters(param or []),
        seed=seed,
    )
    if watch:
        _watch(client, job.name, as_json=as_json)
        return
    print_json(job) if as_json else _print_job(job)


def find_entry_point(folder: Path) -> str:
    """Return `file.py:Class` of the only class below Task in the folder's files.

    Raises:
        SlipwayError: There is none, or more than one; a file is not Python; or there is no such folder.
    """
    if not folder.is_dir():
        text = f"{folder} is not a folder; name the one that holds the task's file"
        raise SlipwayError("INVALID_ARGUMENT", "INVALID_FIELD", text)
    found = [
        f"{path.name}:{node.name}"
        for path in sorted(folder.glob("*.py"))
        for node in _parsed(path).body
        if isinstance(node, ast.ClassDef) and any("Task" in ast.unparse(base) for base in node.bases)
    ]
    if len(found) == 1:
        return found[0]
    seen = ", ".join(found) or "none"
    text = f"{folder} has {len(found)} task classes ({seen}); name one with --entry-point file.py:ClassName"
    raise SlipwayError("INVALID_ARGUMENT", "INVALID_FIELD", text)


def _parsed(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_text(), str(path))
    except (SyntaxError, ValueError) as error:
        raise SlipwayError("INVALID_ARGUMENT", "INVALID_FIELD", f"{path} is not Python: {error}") from error


def parse_parameters(pairs: list[str]) -> dict[str, Any]:
    """Return hyperparameters from `name=value`; values are read as JSON where they are.

    Raises:
        SlipwayError: One has no `=`.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise SlipwayError(
                "INVALID_ARGUMENT", "INVALID_FIELD", f"--param {pair!r}: write it as name=value"
            )
        try:
            values[name] = json.loads(text)
        except ValueError:
            values[name] = text
    return values


@app.command("list")
def list_(
    model: Annotated[str, typer.Option(help="Only jobs of this model.", autocompletion=models)] = "",
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    request = trn.ListTrainingJobsRequest(model=resource("models", model) if model else "")
    rows = list(pages(connect().training.ListTrainingJobs, request, "training_jobs", limit))
    if as_json:
        print_json(rows)
        return
    table = [
        (r.name.rpartition("/")[2], r.display_name, _state(r), _step(r), r.model_version, when(r.create_time))
        for r in rows
    ]
    print_table(["job", "title", "state", "step", "version", "created"], table, "no job yet")


@app.command()
def show(job: Job, as_json: AsJson = False) -> None:
    """Show a job with its attempts."""
    found = connect().training.GetTrainingJob(trn.GetTrainingJobRequest(name=resource("trainingJobs", job)))
    print_json(found) if as_json else _print_job(found)


@app.command()
def watch(job: Job, as_json: AsJson = False) -> None:
    """Show a job's progress until it ends; it goes on when you stop watching."""
    _watch(connect(), job, as_json=as_json)


@app.command()
def cancel(job: Job, as_json: AsJson = False) -> None:
    """Ask a job to stop."""
    request = trn.CancelTrainingJobRequest(name=resource("trainingJobs", job))
    found = connect().training.CancelTrainingJob(request)
    print_json(found) if as_json else _print_job(found)


def _watch(client: Client, name: str, *, as_json: bool) -> None:
    last = follow(client.watch(name), told, as_json=as_json)
    if last is not None and not as_json:
        _print_job(last)
    if last is None or last.state != trn.TrainingJob.SUCCEEDED:
        raise typer.Exit(1)


def told(job: Any) -> tuple[str, int, int]:
    """Return what a job does now, its steps done, and all of them."""
    return _doing(job), job.progress.step, job.progress.total_steps


def _doing(job: Any) -> str:
    figures = " ".join(f"{key}={value:.4g}" for key, value in sorted(job.progress.metrics.items()))
    return f"{job.progress.stage or 'waits for a worker'} {figures}".strip()


def _print_job(job: Any) -> None:
    facts = [
        ("job", job.name),
        ("title", job.display_name),
        ("state", _state(job)),
        ("error", job.error),
        ("stage", job.progress.stage),
        ("step", _step(job)),
        ("commit", short(job.dataset_commit)),
        ("code", f"{short(job.task_code)} {job.entry_point}"),
        ("run", job.run),
        ("version", job.model_version),
    ]
    print_facts(facts)
    if job.attempts:
        rows = [
            (a.number, a.outcome.lower(), a.host, a.start_step, a.last_step, a.error) for a in job.attempts
        ]
        print_table(["attempt", "outcome", "host", "from step", "to step", "why"], rows)


def _state(job: Any) -> str:
    return state_name(trn.TrainingJob.State, job.state)


def _step(job: Any) -> str:
    total = job.progress.total_steps
    return f"{job.progress.step}/{total}" if total else ""
