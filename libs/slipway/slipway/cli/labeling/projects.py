"""`slipway label project …`, and where a project is labelled."""

from pathlib import Path
from typing import Annotated, Any

import typer
from google.protobuf.field_mask_pb2 import FieldMask
from slipway.cli.labeling.names import METHODS, Project, chosen, last, project_name
from slipway.cli.labeling.schema import pause_rule, read_schema, refused
from slipway.cli.output import AsJson, Limit, print_facts, print_json, print_table, when
from slipway.cli.platform_client import connect, datasets
from slipway.client import Client, pages, resource
from slipway.labeling.v1 import labeling_pb2 as lab

app = typer.Typer(no_args_is_help=True, help="Labelling projects: what is asked, of whom, how often.")
Labels = Annotated[str, typer.Option(help="Labels in the order of their keys 1, 2, …, parted by commas.")]
Schema = Annotated[
    Path | None, typer.Option("--schema", help="YAML file with labels, multiple and instructions.")
]
Multiple = Annotated[bool, typer.Option("--multiple", help="An answer may hold several labels, or none.")]
Instructions = Annotated[str, typer.Option(help="What annotators read above the example.")]
Title = Annotated[str, typer.Option(help="What people read.")]
Overlap = Annotated[int | None, typer.Option(help="Annotators for each task; 1 when nothing is said.")]
Lease = Annotated[int | None, typer.Option(help="Seconds an annotator has for a task; 600.")]
Gold = Annotated[int | None, typer.Option("--gold", help="Per cent of claims that give a gold task.")]
Prelabel = Annotated[
    int | None, typer.Option(help="Per cent of assignments that show the model's answer beforehand.")
]
Pause = Annotated[
    str, typer.Option(help="Who is careless: error=0.1,confidence=0.95,answers=20; `off` pauses nobody.")
]
Method = Annotated[str, typer.Option(help="Consensus: majority, weighted or dawid-skene.")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Id: lower case letters, numbers, hyphens.")],
    dataset: Annotated[str, typer.Option(help="Data set to label.", autocompletion=datasets)],
    labels: Labels = "",
    schema: Schema = None,
    multiple: Multiple = False,
    instructions: Instructions = "",
    title: Title = "",
    overlap: Overlap = None,
    lease: Lease = None,
    gold: Gold = None,
    prelabel: Prelabel = None,
    pause: Pause = "",
    method: Method = "",
    as_json: AsJson = False,
) -> None:
    """Create a project; its labels come from --labels or --schema."""
    asked = read_schema(labels, schema, multiple=multiple, instructions=instructions)
    if asked is None:
        raise refused("there are no labels; say --labels rose,tulip or --schema FILE.yaml")
    project, _ = _said(title, overlap, lease, gold, prelabel, pause, method, asked)
    project.dataset = resource("datasets", dataset)
    client = connect()
    request = lab.CreateProjectRequest(project_id=name, project=project)
    made = client.labeling.CreateProject(request)
    print_json(made) if as_json else print_project(client, made)


@app.command()
def update(
    project: Project,
    labels: Labels = "",
    schema: Schema = None,
    multiple: Multiple = False,
    instructions: Instructions = "",
    title: Title = "",
    overlap: Overlap = None,
    lease: Lease = None,
    gold: Gold = None,
    prelabel: Prelabel = None,
    pause: Pause = "",
    method: Method = "",
    as_json: AsJson = False,
) -> None:
    """Change what is said; labels may be added and never taken away."""
    client = connect()
    now = _get(client, project)
    asked = read_schema(labels, schema, multiple=multiple, instructions=instructions)
    if asked is None and instructions:
        asked = lab.LabelSchema(classification=now.schema.classification, instructions=instructions)
    elif asked is not None and labels:
        asked.classification.multiple = multiple or now.schema.classification.multiple
        asked.instructions = instructions or now.schema.instructions
    changed, paths = _said(title, overlap, lease, gold, prelabel, pause, method, asked)
    if not paths:
        raise refused("nothing was said to change; `slipway label project update --help` lists what can be")
    changed.name, changed.etag = now.name, now.etag
    request = lab.UpdateProjectRequest(project=changed, update_mask=FieldMask(paths=paths))
    made = client.labeling.UpdateProject(request)
    print_json(made) if as_json else print_project(client, made)


def _said(
    title: str,
    overlap: int | None,
    lease: int | None,
    gold: int | None,
    prelabel: int | None,
    pause: str,
    method: str,
    schema: lab.LabelSchema | None,
) -> tuple[lab.Project, list[str]]:
    """Return a project with what was said, and the paths of it."""
    values: dict[str, Any] = {
        "display_name": title or None,
        "schema": schema,
        "overlap": overlap,
        "lease_s": lease,
        "gold_percent": gold,
        "prelabel_percent": prelabel,
        "pause_rule": pause_rule(pause) if pause else None,
        "consensus_method": chosen("--method", method, METHODS) if method else None,
    }
    told = {name: value for name, value in values.items() if value is not None}
    return lab.Project(**told), list(told)


@app.command("list")
def list_(limit: Limit = 50, as_json: AsJson = False) -> None:
    """List projects."""
    rows = list(pages(connect().labeling.ListProjects, lab.ListProjectsRequest(), "projects", limit))
    if as_json:
        print_json(rows)
        return
    table = [
        (last(r.name), r.dataset, sum(r.task_counts.values()), r.annotation_count, _labels(r), r.display_name)
        for r in rows
    ]
    columns = ["project", "data set", "tasks", "annotations", "labels", "title"]
    print_table(columns, table, "no project yet: `slipway label project create`")


@app.command()
def show(project: Project, as_json: AsJson = False) -> None:
    """Show a project with its counts."""
    client = connect()
    found = _get(client, project)
    print_json(found) if as_json else print_project(client, found)


def open_page(project: Project, as_json: AsJson = False) -> None:
    """Print the address of the page where a project is labelled."""
    client = connect()
    found = _get(client, project)
    address = page_address(client, found.name)
    print_json({"project": found.name, "address": address}) if as_json else typer.echo(address)


def page_address(client: Client, project: str) -> str:
    """Return where a project is labelled in a browser."""
    return f"{client.places.rest.rstrip('/')}/label/{last(project)}"


def print_project(client: Client, project: Any) -> None:
    """Print a project."""
    rule = project.pause_rule
    careless = f"error above {rule.max_error_rate:g}, {rule.confidence:g} sure, {rule.min_answers} answers"
    kind = "several labels" if project.schema.classification.multiple else "one label"
    facts: list[tuple[str, object]] = [("project", project.name), ("title", project.display_name)]
    facts += [("data set", project.dataset), ("labels", _labels(project))]
    facts += [("answer", f"{kind}, schema version {project.schema.version}")]
    facts += [("instructions", project.schema.instructions), ("overlap", project.overlap)]
    facts += [("lease", f"{project.lease_s} s"), ("gold", f"{project.gold_percent} % of claims")]
    facts += [("pre-labels", f"{project.prelabel_percent} % of assignments")]
    facts += [("careless", f"{careless}{'; nobody is paused' if rule.report_only else ''}")]
    facts += [("consensus", lab.ConsensusMethod.Name(project.consensus_method).lower().replace("_", "-"))]
    facts += [("tasks", _counts(project)), ("annotations", project.annotation_count)]
    facts += [("created", when(project.create_time)), ("page", page_address(client, project.name))]
    print_facts(facts)


def _get(client: Client, project: str) -> Any:
    return client.labeling.GetProject(lab.GetProjectRequest(name=project_name(project)))


def _labels(project: Any) -> str:
    return ", ".join(project.schema.classification.labels)


def _counts(project: Any) -> str:
    counted = sorted(project.task_counts.items())
    return ", ".join(f"{count:,} {state.lower()}" for state, count in counted if count) or "none"
