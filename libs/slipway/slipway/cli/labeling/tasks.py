"""`slipway label tasks …`, `order`, `review` and `scores …`: what is given out, and in which order."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from slipway.cli.labeling.names import (
    Project,
    answer,
    chosen,
    labels_of,
    last,
    part_name,
    project_name,
)
from slipway.cli.labeling.schema import refused
from slipway.cli.output import AsJson, Limit, print_facts, print_json, print_table, state_name
from slipway.cli.platform_client import connect, scoring_jobs, tasks, versions
from slipway.cli.progress import bar
from slipway.cli.scoring import find_version
from slipway.client import Client, pages, resource
from slipway.client.scoring import score_messages
from slipway.labeling.v1 import labeling_pb2 as lab
from slipway.training.v1 import training_pb2 as trn

app = typer.Typer(no_args_is_help=True, help="Tasks: examples to label.")
scores = typer.Typer(no_args_is_help=True, help="A model's scores of a project's examples.")
KEYS_PER_CALL = 10_000
_STATES = {name.lower(): value for name, value in lab.Task.State.items() if value}
_ORDERS = {name.lower(): value for name, value in lab.OrderTasksRequest.Order.items() if value}
_VERDICTS = {name.lower(): value for name, value in lab.ReviewTaskRequest.Verdict.items() if value}


@app.command()
def create(
    project: Project,
    commit: Annotated[str, typer.Option("--commit", help="Branch or commit; default: main.")] = "",
    split: Annotated[str, typer.Option(help="Only this split: train, validation or test.")] = "",
    unlabelled: Annotated[bool, typer.Option("--unlabelled", help="Only examples without a label.")] = False,
    keys: Annotated[Path | None, typer.Option("--keys", help="File with one key in a line.")] = None,
    gold: Annotated[
        Path | None,
        typer.Option(help='JSONL of known answers: {"key": "a.png", "label": "rose"} or "labels": […].'),
    ] = None,
    hold: Annotated[
        bool, typer.Option("--hold", help="Keep them until `slipway label order` opens them.")
    ] = False,
    priority: Annotated[float, typer.Option(help="Higher goes out first.")] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Make tasks of a commit's examples; one that has a task already is left as it is."""
    client = connect()
    name = project_name(project)
    found: Any = client.labeling.GetProject(lab.GetProjectRequest(name=name))
    known = read_gold(gold) if gold else {}
    wanted = read_keys(keys) if keys else list(known)
    whole = lab.CreateTasksRequest(
        parent=name,
        dataset_commit=client.resolve_commit(found.dataset, commit),
        split=split,
        unlabelled_only=unlabelled,
        hold=hold,
        priority=priority,
    )
    made = lab.CreateTasksResponse()
    for part in parts_of(whole, wanted, known):
        answered = client.labeling.CreateTasks(part, timeout=300)
        made.created_count += answered.created_count
        made.existing_count += answered.existing_count
    told = [("commit", whole.dataset_commit), ("tasks made", made.created_count)]
    print_json(made) if as_json else print_facts([*told, ("had one already", made.existing_count)])


def parts_of(
    whole: lab.CreateTasksRequest, keys: list[str], gold: dict[str, lab.Answer]
) -> list[lab.CreateTasksRequest]:
    """Return requests of at most 10,000 keys, each with the gold answers of its keys.

    Raises:
        SlipwayError: A gold answer's key is not among the keys.
    """
    outside = sorted(gold.keys() - set(keys))
    if outside:
        raise refused(f"the gold answer of {outside[0]!r} has no place: the key is not in the keys file")
    if not keys:
        return [whole]
    parts = []
    for start in range(0, len(keys), KEYS_PER_CALL):
        part = lab.CreateTasksRequest()
        part.CopyFrom(whole)
        part.keys.extend(keys[start : start + KEYS_PER_CALL])
        for key in part.keys:
            if key in gold:
                part.gold[key].CopyFrom(gold[key])
        parts.append(part)
    return parts


def read_keys(file: Path) -> list[str]:
    """Return the keys of a file, one in a line, each once.

    Raises:
        SlipwayError: It cannot be read, or has none.
    """
    keys = list(dict.fromkeys(line for line in _lines(file) if line))
    if not keys:
        raise refused(f"{file} has no key; write one in a line")
    return keys


def read_gold(file: Path) -> dict[str, lab.Answer]:
    """Return known answers by key of a JSONL file.

    Raises:
        SlipwayError: A line is not like that; the text names it.
    """
    found: dict[str, lab.Answer] = {}
    for number, line in enumerate(_lines(file), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            labels = row["labels"] if "labels" in row else [row["label"]]
            if not isinstance(row["key"], str):
                raise TypeError(f"key {row['key']!r} is no text")
            found[row["key"]] = lab.Answer(choice=lab.Choice(labels=labels))
        except (ValueError, KeyError, TypeError) as error:
            said = f'{file}, line {number}: write {{"key": "a.png", "label": "rose"}} ({error})'
            raise refused(said) from error
    if not found:
        raise refused(f"{file} has no known answer")
    return found


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise refused(f"{file} cannot be read ({error}); name a text file") from error


@app.command("list")
def list_(
    project: Project,
    state: Annotated[str, typer.Option(help=f"Only {', '.join(_STATES)}.")] = "",
    flagged: Annotated[bool, typer.Option("--flagged", help="Only those that somebody flagged.")] = False,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List tasks in the order in which they are given out."""
    request = lab.ListTasksRequest(parent=project_name(project), flagged_only=flagged)
    if state:
        request.state = chosen("--state", state, _STATES)
    rows = list(pages(connect().labeling.ListTasks, request, "tasks", limit))
    if as_json:
        print_json(rows)
        return
    table = [
        (last(r.name), r.key, state_name(lab.Task.State, r.state), f"{r.answer_count}/{r.overlap}",
         r.flag_count, _standing(r), _kind(r))
        for r in rows
    ]  # fmt: skip
    columns = ["task", "key", "state", "answers", "flags", "label", "by"]
    print_table(columns, table, "no task is like that: `slipway label tasks create`")


def _standing(task: Any) -> str:
    """Return the label that counts: reviewed, gold, or consensus."""
    return next(
        (labels_of(task, field) for field in ("reviewed", "gold", "consensus") if task.HasField(field)), ""
    )


def _kind(task: Any) -> str:
    if task.HasField("reviewed"):
        return task.reviewer or "review"
    if task.HasField("gold"):
        return "gold"
    return f"consensus {task.consensus_confidence:.2f}" if task.HasField("consensus") else ""


def order(
    project: Project,
    by: Annotated[str, typer.Option("--by", help=f"{', '.join(_ORDERS)}.")] = "margin",
    version: Annotated[
        str, typer.Option("--version", help="Whose scores: MODEL/vN.", autocompletion=versions)
    ] = "",
    first: Annotated[int, typer.Option("--open", help="How many of the first to open.")] = 0,
    seed: Annotated[int, typer.Option(help="Of the draw, and of ties.")] = 0,
    prelabel: Annotated[
        bool, typer.Option("--prelabel", help="Show the model's answers beforehand.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Order held tasks by what a model would learn from them, and open the first."""
    client = connect()
    request = lab.OrderTasksRequest(
        parent=project_name(project),
        order=chosen("--by", by, _ORDERS),
        model_version=find_version(client, version).name if version else "",
        open_count=first,
        seed=seed,
        prelabel=prelabel,
    )
    made = client.labeling.OrderTasks(request, timeout=300)
    if as_json:
        print_json(made)
        return
    facts = [("ordered", made.ordered_count), ("opened", len(made.opened))]
    print_facts([*facts, ("without a score", made.unscored_count)])


def review(
    project: Project,
    task: Annotated[
        str, typer.Argument(help="Id of the task, as `tasks list` shows it.", autocompletion=tasks)
    ],
    verdict: Annotated[str, typer.Argument(help=f"{', '.join(_VERDICTS)}.")],
    label: Annotated[str, typer.Option(help="The right label, for correct; several parted by commas.")] = "",
    none: Annotated[bool, typer.Option("--none", help="The right answer has no label, for correct.")] = False,
    comment: Annotated[str, typer.Option("--comment", "-m", help="What people should know.")] = "",
    as_json: AsJson = False,
) -> None:
    """Decide a task: accept the consensus, correct it, or reopen it for one more annotator."""
    request = lab.ReviewTaskRequest(
        name=part_name(project, "tasks", task),
        verdict=chosen("verdict", verdict, _VERDICTS),
        comment=comment,
    )
    if label or none:
        request.answer.CopyFrom(answer(label))
        request.answer.choice.SetInParent()
    made = connect().labeling.ReviewTask(request)
    if as_json:
        print_json(made)
        return
    facts = [("task", made.name), ("key", made.key), ("state", state_name(lab.Task.State, made.state))]
    print_facts([*facts, ("label", _standing(made)), ("by", made.reviewer), ("said", made.review_comment)])


@scores.command("import")
def import_scores(
    project: Project,
    job: Annotated[str, typer.Argument(help="Id of a scoring job.", autocompletion=scoring_jobs)],
    as_json: AsJson = False,
) -> None:
    """Give a project the scores of a scoring job that succeeded."""
    client = connect()
    made = _import(client, project, resource("scoringJobs", job), quiet=as_json)
    if as_json:
        print_json(made)
        return
    print_facts([("stored", made.stored_count), ("of tasks of the project", made.task_count)])


def _import(client: Client, project: str, job: str, *, quiet: bool) -> Any:
    found = client.training.GetScoringJob(trn.GetScoringJobRequest(name=job))
    with bar(quiet=quiet) as show:

        def counted() -> Any:
            for number, one in enumerate(client.read_scores(job), start=1):
                show("sending scores", number, found.done_count)
                yield one

        return client.labeling.ImportScores(score_messages(project_name(project), found, counted()))
