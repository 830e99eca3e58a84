"""`slipway label snapshot …`, `export` and `import`: labels on their way into a commit or a file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from slipway.cli.labeling.names import Project, chosen, last, part_name, project_name
from slipway.cli.labeling.schema import refused
from slipway.cli.output import AsJson, Limit, print_facts, print_json, print_table, short, state_name, when
from slipway.cli.platform_client import connect, snapshots
from slipway.cli.progress import bar, follow
from slipway.client import Client, pages
from slipway.labeling.v1 import labeling_pb2 as lab

app = typer.Typer(no_args_is_help=True, help="Snapshots: consensus and reviews as a commit.")
FORMATS = {"jsonl": lab.JSONL, "coco": lab.COCO, "label-studio": lab.LABEL_STUDIO}
Format = Annotated[str, typer.Option("--format", help=f"{', '.join(FORMATS)}; default: jsonl.")]
Watch = Annotated[bool, typer.Option("--watch/--no-watch", help="Watch it until it ends.")]
_CHUNK_BYTES = 1 << 20


@app.command()
def create(
    project: Project,
    message: Annotated[str, typer.Option("--message", "-m", help="Message of the commit.")],
    branch: Annotated[str, typer.Option(help="Branch that gets the commit; default: main.")] = "",
    min_confidence: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Leave out labels that are less sure; 0 takes all.")
    ] = 0.0,
    watch: Watch = True,
    as_json: AsJson = False,
) -> None:
    """Make a commit of reviewed and consensus labels."""
    client = connect()
    wanted = lab.Snapshot(branch=branch, message=message, min_confidence=min_confidence)
    request = lab.CreateSnapshotRequest(parent=project_name(project), snapshot=wanted)
    made = client.labeling.CreateSnapshot(request)
    if watch:
        _watch(client, made.name, as_json=as_json)
        return
    print_json(made) if as_json else _print(made)


@app.command("list")
def list_(project: Project, limit: Limit = 20, as_json: AsJson = False) -> None:
    """List a project's snapshots, newest first."""
    request = lab.ListSnapshotsRequest(parent=project_name(project))
    rows = list(pages(connect().labeling.ListSnapshots, request, "snapshots", limit))
    if as_json:
        print_json(rows)
        return
    table = [
        (last(r.name), _state(r), r.label_count, r.left_out_count, r.branch, short(r.commit),
         when(r.create_time))
        for r in rows
    ]  # fmt: skip
    columns = ["snapshot", "state", "labels", "left out", "branch", "commit", "created"]
    print_table(columns, table, "no snapshot yet: `slipway label snapshot create`")


@app.command()
def show(
    project: Project,
    snapshot: Annotated[str, typer.Argument(help="Id of the snapshot.", autocompletion=snapshots)],
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Watch it until it ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a snapshot."""
    client = connect()
    name = part_name(project, "snapshots", snapshot)
    if watch:
        _watch(client, name, as_json=as_json)
        return
    found = client.labeling.GetSnapshot(lab.GetSnapshotRequest(name=name))
    print_json(found) if as_json else _print(found)


def _watch(client: Client, name: str, *, as_json: bool) -> None:
    ended = follow(
        client.watch_snapshot(name),
        lambda one: (f"snapshot {_state(one)}", one.label_count, 0),
        as_json=as_json,
    )
    if ended is not None and not as_json:
        _print(ended)
    if ended is None or ended.state != lab.Snapshot.SUCCEEDED:
        raise typer.Exit(1)


def _print(snapshot: Any) -> None:
    facts = [("snapshot", snapshot.name), ("state", _state(snapshot)), ("error", snapshot.error)]
    facts += [("commit", snapshot.commit), ("branch", snapshot.branch or "main")]
    facts += [("labels", snapshot.label_count), ("left out", snapshot.left_out_count)]
    facts += [("annotations behind them", snapshot.annotation_count), ("message", snapshot.message)]
    print_facts([*facts, ("created", when(snapshot.create_time)), ("ended", when(snapshot.end_time))])


def _state(snapshot: Any) -> str:
    return state_name(lab.Snapshot.State, snapshot.state)


def export(
    project: Project,
    file: Annotated[Path, typer.Argument(help="File to write.")],
    form: Format = "jsonl",
    as_json: AsJson = False,
) -> None:
    """Write a project's tasks and annotations to a file."""
    request = lab.ExportAnnotationsRequest(
        parent=project_name(project),
        format=chosen("--format", form, FORMATS),
    )
    building = file.with_name(f".{file.name}.part")
    size = 0
    try:
        with building.open("wb") as out:
            for part in connect().labeling.ExportAnnotations(request):
                size += out.write(part.chunk)
        building.replace(file)
    except OSError as error:
        raise refused(f"{file} cannot be written ({error.strerror or error}); name another") from error
    finally:
        building.unlink(missing_ok=True)
    told = {"file": str(file), "format": form, "bytes": size}
    print_json(told) if as_json else print_facts(told.items())


def import_file(
    project: Project,
    file: Annotated[Path, typer.Argument(help="File to read.")],
    form: Format = "jsonl",
    as_json: AsJson = False,
) -> None:
    """Take a file of tasks and annotations: all of it goes in, or nothing."""
    header = lab.ImportHeader(
        parent=project_name(project),
        format=chosen("--format", form, FORMATS),
    )
    try:
        size = file.stat().st_size
        with file.open("rb") as source, bar(quiet=as_json) as show_bar:

            def requests() -> Iterator[lab.ImportAnnotationsRequest]:
                yield lab.ImportAnnotationsRequest(header=header)
                while chunk := source.read(_CHUNK_BYTES):
                    yield lab.ImportAnnotationsRequest(chunk=chunk)
                    show_bar("sending", source.tell(), size)

            made = connect().labeling.ImportAnnotations(requests())
    except OSError as error:
        raise refused(f"{file} cannot be read ({error.strerror or error}); name another") from error
    if as_json:
        print_json(made)
        return
    print_facts(
        [
            ("tasks made", made.task_count),
            ("there already", made.existing_task_count),
            ("annotations made", made.annotation_count),
            ("there already", made.existing_annotation_count),
        ]
    )
