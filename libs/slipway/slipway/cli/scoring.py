"""`slipway score …`: a version run over a commit, once for each example."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from slipway.cli.models import version_name
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
from slipway.cli.platform_client import connect, scoring_jobs, versions
from slipway.cli.progress import follow
from slipway.client import Client, SlipwayError, pages, resource
from slipway.client.scoring import as_arrays, write_npz
from slipway.registry.v1 import registry_pb2 as reg
from slipway.training.v1 import training_pb2 as trn

app = typer.Typer(no_args_is_help=True, help="Scoring jobs: probabilities and embedding of each example.")
Job = Annotated[str, typer.Argument(help="Id of the scoring job.", autocompletion=scoring_jobs)]
Version = Annotated[
    str, typer.Argument(help="MODEL/vN; MODEL means its newest version.", autocompletion=versions)
]
Commit = Annotated[
    str,
    typer.Option("--commit", help="Branch or commit; default: what the version was trained on."),
]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Watch it until it ends.")]


def find_version(client: Client, text: str) -> Any:
    """Return the version of MODEL/vN, or the newest of MODEL."""
    named = text.removeprefix("models/")
    name = version_name(text if "/" in named else f"{named}/latest")
    return client.registry.GetModelVersion(reg.GetModelVersionRequest(name=name))


def find_commit(client: Client, version: Any, at: str) -> str:
    """Return the commit that is meant: of the version's data set, unless its whole name is said."""
    if not at:
        return str(version.dataset_commit)
    return client.resolve_commit(version.dataset_commit.partition("/commits/")[0], at)


@app.command()
def submit(
    version: Version,
    commit: Commit = "",
    split: Annotated[str, typer.Option(help="Only this split: train, validation or test.")] = "",
    unlabelled: Annotated[bool, typer.Option("--unlabelled", help="Only examples without a label.")] = False,
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """Queue a job that scores a commit's examples."""
    client = connect()
    found = find_version(client, version)
    at = find_commit(client, found, commit)
    job = client.score(found.name, at, split=split, unlabelled_only=unlabelled)
    if watch:
        watch_job(client, job.name, as_json=as_json)
        return
    print_json(job) if as_json else print_job(job)


@app.command("list")
def list_(
    version: Annotated[
        str, typer.Option("--version", help="Only jobs of MODEL/vN.", autocompletion=versions)
    ] = "",
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List scoring jobs, newest first."""
    client = connect()
    name = find_version(client, version).name if version else ""
    request = trn.ListScoringJobsRequest(model_version=name)
    rows = list(pages(client.training.ListScoringJobs, request, "scoring_jobs", limit))
    if as_json:
        print_json(rows)
        return
    table = [
        (r.name.rpartition("/")[2], r.model_version, _kind(r), _state(r), _count(r), when(r.create_time))
        for r in rows
    ]
    print_table(["job", "version", "kind", "state", "examples", "created"], table, "no scoring job yet")


@app.command()
def show(job: Job, as_json: AsJson = False) -> None:
    """Show a scoring job."""
    found = _get(connect(), job)
    print_json(found) if as_json else print_job(found)


@app.command()
def watch(job: Job, as_json: AsJson = False) -> None:
    """Show a scoring job's progress until it ends; it goes on when you stop watching."""
    watch_job(connect(), job, as_json=as_json)


@app.command()
def cancel(job: Job, as_json: AsJson = False) -> None:
    """Ask a scoring job to stop."""
    request = trn.CancelScoringJobRequest(name=resource("scoringJobs", job))
    found = connect().training.CancelScoringJob(request)
    print_json(found) if as_json else print_job(found)


@app.command()
def read(
    job: Job,
    file: Annotated[
        Path | None, typer.Argument(help="FILE.jsonl or FILE.npz; default: JSONL on standard output.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read the scores of a job that succeeded: key, label, split, probabilities, embedding."""
    client = connect()
    found = _get(client, job)
    if file is None:
        for one in client.read_scores(found.name):
            typer.echo(_line(one, found.classes))
        return
    if file.suffix not in {".jsonl", ".npz"}:
        text = f"{file} ends in neither .jsonl nor .npz; name the file so that it says its format"
        raise SlipwayError("INVALID_ARGUMENT", "INVALID_FIELD", text)
    try:
        written = _write(client, found, file)
    except OSError as error:
        text = f"{file} cannot be written ({error.strerror or error}); name another file"
        raise SlipwayError("INVALID_ARGUMENT", "INVALID_FIELD", text) from error
    told = {"job": found.name, "file": str(file), "scores": written}
    print_json(told) if as_json else print_facts(told.items())


def _write(client: Client, job: Any, file: Path) -> int:
    """Write scores to a file beside its place, then put it there: nobody finds half of it."""
    building = file.with_name(f".{file.name}.part{file.suffix}")
    written = 0
    try:
        if file.suffix == ".npz":
            arrays = as_arrays(client.read_scores(job.name), job.classes)
            write_npz(building, arrays)
            written = len(arrays["keys"])
        else:
            with building.open("w") as out:
                for one in client.read_scores(job.name):
                    out.write(_line(one, job.classes) + "\n")
                    written += 1
        building.replace(file)
    finally:
        building.unlink(missing_ok=True)
    return written


def _line(score: Any, classes: Any) -> str:
    row = {
        "key": score.key,
        "label": score.label,
        "split": score.split,
        "in_training": score.in_training,
        "probabilities": dict(zip(classes, score.probabilities, strict=True)),
        "embedding": list(score.embedding),
    }
    return json.dumps(row, ensure_ascii=False)


def watch_job(client: Client, name: str, *, as_json: bool, quiet: bool = False) -> Any:
    """Watch a scoring job to its end and return it; one that did not succeed ends the command with 1."""
    last = follow(client.watch_scoring_job(name), _told, as_json=as_json)
    if last is not None and not as_json and (not quiet or last.state != trn.TrainingJob.SUCCEEDED):
        print_job(last)
    if last is None or last.state != trn.TrainingJob.SUCCEEDED:
        raise typer.Exit(1)
    return last


def _told(job: Any) -> tuple[str, int, int]:
    what = "evaluating" if job.evaluate else "scoring"
    return (what if job.total_count else "waits for a worker", job.done_count, job.total_count)


def print_job(job: Any) -> None:
    """Print a scoring job."""
    facts = [("job", job.name), ("kind", _kind(job)), ("version", job.model_version)]
    facts += [("champion", job.champion_version), ("commit", short(job.dataset_commit))]
    facts += [("split", job.split), ("state", _state(job)), ("error", job.error), ("examples", _count(job))]
    facts += [("attempt", job.attempt or ""), ("evaluation", job.evaluation), ("creator", job.creator)]
    print_facts([*facts, ("created", when(job.create_time)), ("ended", when(job.end_time))])


def _get(client: Client, job: str) -> Any:
    return client.training.GetScoringJob(trn.GetScoringJobRequest(name=resource("scoringJobs", job)))


def _kind(job: Any) -> str:
    return "evaluation" if job.evaluate else "scores"


def _state(job: Any) -> str:
    return state_name(trn.TrainingJob.State, job.state)


def _count(job: Any) -> str:
    if not job.total_count:
        return "none is like that" if job.state == trn.TrainingJob.SUCCEEDED else ""
    return f"{job.done_count}/{job.total_count}"


__all__ = ["app", "find_commit", "find_version", "print_job", "watch_job"]
