"""`slipway dataset …` and `slipway branch …`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from slipway.cli.output import (
    AsJson,
    Limit,
    errors_console,
    print_facts,
    print_json,
    print_table,
    short,
    to_dict,
    when,
)
from slipway.cli.platform_client import connect
from slipway.cli.platform_client import datasets as dataset_names
from slipway.client import Client, Item, SlipwayError, left_out, pages, read_source, resource
from slipway.ingestion.v1 import ingestion_pb2 as ing

app = typer.Typer(no_args_is_help=True, help="Data sets: commits of labelled examples.")
branches = typer.Typer(no_args_is_help=True, help="Branches of a data set.")
Name = Annotated[str, typer.Argument(help="Id of the data set.", autocompletion=dataset_names)]
At = Annotated[str, typer.Option("--at", help="A branch or a commit's digest; default: main.")]
_NAMED = 20
_KEYS_PER_READ = 1000
_KINDS = {ing.ExampleChange.ADDED: "+", ing.ExampleChange.REMOVED: "-", ing.ExampleChange.CHANGED: "~"}


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Id: lower case letters, numbers, hyphens.")],
    description: Annotated[str, typer.Option(help="What it holds and where it comes from.")] = "",
    as_json: AsJson = False,
) -> None:
    """Create an empty data set."""
    request = ing.CreateDatasetRequest(dataset_id=name, dataset=ing.Dataset(description=description))
    made = connect().ingestion.CreateDataset(request)
    print_json(made) if as_json else print_facts([("created", made.name)])


@app.command("list")
def list_(limit: Limit = 50, as_json: AsJson = False) -> None:
    """List data sets."""
    rows = list(pages(connect().ingestion.ListDatasets, ing.ListDatasetsRequest(), "datasets", limit))
    if as_json:
        print_json(rows)
        return
    table = [(r.name.partition("/")[2], r.description, r.creator, when(r.create_time)) for r in rows]
    print_table(
        ["data set", "description", "creator", "created"], table, "no data set yet: `slipway dataset import`"
    )


@app.command()
def show(name: Name, at: At = "", as_json: AsJson = False) -> None:
    """Show a data set and the commit that a branch points at."""
    client = connect()
    found = client.ingestion.GetDataset(ing.GetDatasetRequest(name=resource("datasets", name)))
    commit = _commit(client, name, at)
    if as_json:
        print_json({"dataset": to_dict(found), "commit": to_dict(commit)})
        return
    policy = found.split_policy
    shares = f"{policy.train_percent}/{policy.validation_percent}/{policy.test_percent}"
    print_facts([("name", found.name), ("description", found.description), ("split", shares)])
    _print_commit(commit)


@app.command("import")
def import_(
    name: Name,
    source: Annotated[
        Path, typer.Argument(help="FOLDER with one folder per label, or a .csv/.jsonl manifest.")
    ],
    message: Annotated[str, typer.Option("--message", "-m", help="Why; default names the source.")] = "",
    branch: Annotated[str, typer.Option(help="Branch to move; default: main.")] = "",
    label_source: Annotated[str, typer.Option(help="Who gave the labels; default: imports/SOURCE.")] = "",
    create_missing: Annotated[bool, typer.Option("--create/--no-create", help="Create the data set.")] = True,
    as_json: AsJson = False,
) -> None:
    """Upload images with their labels and commit them; what is refused is named, the rest goes in."""
    client, items, rest = connect(), read_source(source), left_out(source)
    if create_missing:
        _create_missing(client, name)
    source_name = label_source or f"imports/{source.resolve().stem}"
    upload = _upload(client, name, items, source_name, quiet=as_json)
    if not upload.accepted_count:
        _print_refused(upload)
        text = f"none of the {len(items)} files of {source} was taken; the reasons are above"
        raise SlipwayError("INVALID_ARGUMENT", "NOTHING_ACCEPTED", text)
    text = message or f"import {source.name}"
    commit = client.commit(name, text, uploads=[upload.name], branch=branch)
    if as_json:
        print_json({"upload": to_dict(upload), "commit": to_dict(commit), "left_out": rest})
        return
    _print_refused(upload)
    _print_left_out(rest)
    taken = f"{upload.accepted_count} of {len(items)} ({upload.refused_count} refused)"
    labels = len({item.label for item in items} - {""})
    print_facts([("taken", taken), ("labels", labels), ("new bytes", upload.new_bytes + commit.new_bytes)])
    _print_commit(commit)


def _create_missing(client: Client, name: str) -> None:
    try:
        client.ingestion.GetDataset(ing.GetDatasetRequest(name=resource("datasets", name)))
    except SlipwayError as error:
        if error.code != "NOT_FOUND":
            raise
        client.ingestion.CreateDataset(ing.CreateDatasetRequest(dataset_id=name))


def _upload(client: Client, name: str, items: list[Item], source: str, *, quiet: bool) -> Any:
    done = count(1)
    with _progress("uploading", quiet=quiet) as show:
        return client.upload_examples(
            name, items, label_source=source, progress=lambda _: show(next(done), len(items))
        )


@contextmanager
def _progress(what: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Show a bar; the function given takes what is done and what there is in all."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    screen = errors_console()
    quiet = quiet or not screen.is_terminal
    with Progress(*columns, console=screen, transient=True, disable=quiet) as progress:
        bar = progress.add_task("", total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)


def _print_refused(upload: Any) -> None:
    screen = errors_console()
    for item in upload.refused:
        what = item.message if item.key in item.message else f"{item.key}: {item.message}"
        screen.print(f"[yellow]refused[/yellow] {escape(what)} [dim]{item.reason}[/dim]")
    if upload.refused_count > len(upload.refused):
        screen.print(f"… and {upload.refused_count - len(upload.refused)} more")


def _print_left_out(names: list[str]) -> None:
    screen = errors_console()
    for name in names[:_NAMED]:
        screen.print(f"[yellow]left out[/yellow] {escape(name)}: only .png, .jpg and .jpeg are taken")
    if len(names) > _NAMED:
        screen.print(f"… and {len(names) - _NAMED} more")


@app.command()
def remove(
    name: Name,
    keys: Annotated[list[str], typer.Argument(metavar="KEY...", help="As `dataset examples` lists them.")],
    message: Annotated[str, typer.Option("--message", "-m", help="Why; default names the keys.")] = "",
    branch: Annotated[str, typer.Option(help="Branch to move; default: main.")] = "",
    as_json: AsJson = False,
) -> None:
    """Commit that examples are gone; earlier commits keep them."""
    client = connect()
    _must_hold(client, _named(client, name, branch), keys)
    more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
    commit = client.commit(name, message or f"remove {keys[0]}{more}", remove_keys=keys, branch=branch)
    print_json(commit) if as_json else _print_commit(commit)


def _must_hold(client: Client, commit: str, keys: list[str]) -> None:
    """Refuse keys that a commit lacks: a misspelt one would pass for removed."""
    known: set[str] = set()
    for start in range(0, len(keys), _KEYS_PER_READ):
        asked = keys[start : start + _KEYS_PER_READ]
        request = ing.ReadExamplesRequest(commit=commit, keys=asked, rows_only=True)
        known |= {one.example.key for part in client.ingestion.ReadExamples(request) for one in part.examples}
    missing = [key for key in keys if key not in known]
    if missing:
        text = f"{short(commit)} has no example {missing[0]!r}; `slipway dataset examples` lists its keys"
        raise SlipwayError("NOT_FOUND", "EXAMPLE_NOT_FOUND", text)


@app.command()
def log(name: Name, at: At = "", limit: Limit = 20, as_json: AsJson = False) -> None:
    """List the commits of a branch, newest first."""
    request = ing.ListCommitsRequest(parent=resource("datasets", name), start=at)
    rows = list(pages(connect().ingestion.ListCommits, request, "commits", limit))
    if as_json:
        print_json(rows)
        return
    table = [(_digest(r.name), r.example_count, r.author, when(r.create_time), r.message) for r in rows]
    print_table(["commit", "examples", "author", "time", "message"], table, "no commit yet")


@app.command()
def diff(
    name: Name,
    base: Annotated[str, typer.Argument(help="The older commit or branch.")],
    target: Annotated[str, typer.Argument(help="The newer one; default: main.")] = "",
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """List the examples that differ between two commits."""
    client = connect()
    request = ing.DiffCommitsRequest(base=_named(client, name, base), target=_named(client, name, target))
    rows = list(pages(client.ingestion.DiffCommits, request, "changes", limit))
    if as_json:
        print_json(rows)
        return
    table = [(_KINDS.get(r.kind, "?"), r.key, _label(r.before), _label(r.after)) for r in rows]
    print_table(["", "key", "before", "after"], table, "no difference")


@app.command()
def stats(name: Name, at: At = "", as_json: AsJson = False) -> None:
    """Count the examples of a commit by label, split, size and source."""
    client = connect()
    request = ing.GetCommitStatisticsRequest(name=_named(client, name, at))
    found = client.ingestion.GetCommitStatistics(request, timeout=120)
    if as_json:
        print_json(found)
        return
    print_facts(
        [
            ("examples", found.example_count),
            ("bytes", found.total_bytes),
            ("duplicates", found.duplicate_count),
        ]
    )
    for title, counts in (
        ("label", found.label_counts),
        ("split", found.split_counts),
        ("image size", found.image_size_counts),
        ("label source", found.label_source_counts),
    ):
        if counts:
            print_table([title, "examples"], sorted((k or "(none)", v) for k, v in counts.items()))


@app.command()
def examples(
    name: Name,
    at: At = "",
    label: Annotated[str, typer.Option(help="Only this label.")] = "",
    split: Annotated[str, typer.Option(help="Only this split: train, validation or test.")] = "",
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List the examples of a commit by key."""
    client = connect()
    request = ing.ListExamplesRequest(parent=_named(client, name, at), label=label, split=split)
    rows = list(pages(client.ingestion.ListExamples, request, "examples", limit))
    if as_json:
        print_json(rows)
        return
    table = [(r.key, r.label, r.split, f"{r.width}x{r.height}", r.size_bytes, r.blob[:12]) for r in rows]
    print_table(["key", "label", "split", "size", "bytes", "blob"], table, "no example is like that")


@app.command()
def checkout(
    name: Name,
    folder: Annotated[Path, typer.Argument(help="Where the files go.")],
    at: At = "",
    split: Annotated[str, typer.Option(help="Only this split: train, validation or test.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Lose what was changed in FOLDER.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring a commit to a local folder, each file verified; blobs come once and stay in a cache."""
    client = connect()
    commit = _named(client, name, at)
    with _progress(f"checking out {name}", quiet=as_json) as advance:
        done = client.checkout(commit, folder, split=split, force=force, progress=advance)
    if as_json:
        print_json({**asdict(done), "folder": str(done.folder)})
        return
    print_facts(
        [
            ("commit", short(commit)),
            ("folder", folder),
            ("examples", done.examples),
            ("fetched", f"{done.fetched:,} blobs, {done.fetched_bytes:,} bytes; the rest was in the cache"),
        ]
    )


@branches.command("list")
def list_branches(name: Name, limit: Limit = 50, as_json: AsJson = False) -> None:
    """List the branches of a data set."""
    request = ing.ListBranchesRequest(parent=resource("datasets", name))
    rows = list(pages(connect().ingestion.ListBranches, request, "branches", limit))
    if as_json:
        print_json(rows)
        return
    table = [(r.name.rpartition("/")[2], _digest(r.commit), when(r.update_time)) for r in rows]
    print_table(["branch", "commit", "moved"], table)


@branches.command("create")
def create_branch(
    name: Name,
    branch: Annotated[str, typer.Argument(help="Id of the new branch.")],
    at: At = "",
    as_json: AsJson = False,
) -> None:
    """Create a branch at a commit."""
    client = connect()
    request = ing.CreateBranchRequest(
        parent=resource("datasets", name), branch_id=branch, commit=_named(client, name, at)
    )
    made = client.ingestion.CreateBranch(request)
    print_json(made) if as_json else print_facts([("created", made.name), ("commit", short(made.commit))])


@branches.command("move")
def move_branch(
    name: Name,
    branch: Annotated[str, typer.Argument(help="The branch.")],
    to: Annotated[str, typer.Argument(help="The commit or branch to move to.")],
    as_json: AsJson = False,
) -> None:
    """Move a branch to another commit, unless somebody moved it meanwhile."""
    client = connect()
    found = client.ingestion.GetBranch(
        ing.GetBranchRequest(name=f"{resource('datasets', name)}/branches/{branch}")
    )
    found.commit = _named(client, name, to)
    request = ing.UpdateBranchRequest(branch=found)
    request.update_mask.paths.append("commit")
    moved = client.ingestion.UpdateBranch(request)
    print_json(moved) if as_json else print_facts([("moved", moved.name), ("commit", short(moved.commit))])


def _named(client: Client, dataset: str, at: str) -> str:
    return client.resolve_commit(dataset, at)


def _commit(client: Client, dataset: str, at: str) -> Any:
    request = ing.ListCommitsRequest(parent=resource("datasets", dataset), start=at, page_size=1)
    listed = client.ingestion.ListCommits(request).commits
    return listed[0] if listed else ing.Commit()


def _print_commit(commit: Any) -> None:
    print_facts(
        [
            ("commit", commit.name),
            ("message", commit.message),
            ("author", commit.author),
            ("time", when(commit.create_time)),
            ("examples", commit.example_count),
            ("bytes", commit.total_bytes),
            *([("erased since", commit.erased_count)] if commit.erased_count else []),
        ]
    )


def _digest(name: str) -> str:
    return name.rpartition("/")[2][:12]


def _label(example: Any) -> str:
    return f"{example.label or '(none)'} {example.blob[:8]}" if example.key else ""
