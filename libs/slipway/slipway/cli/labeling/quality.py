"""`slipway label consensus`, `quality`, `annotators`, `errors`, `curve`: can the labels be trusted?"""

from pathlib import Path
from typing import Annotated, Any

import typer
from slipway.cli.labeling.confusion import confusion_table
from slipway.cli.labeling.curve import curve_lines, read_points
from slipway.cli.labeling.names import (
    METHODS,
    Project,
    chosen,
    estimate,
    interval,
    last,
    part_name,
    project_name,
)
from slipway.cli.labeling.schema import refused
from slipway.cli.output import AsJson, Limit, console, print_facts, print_json, print_table, state_name
from slipway.cli.platform_client import annotators as names
from slipway.cli.platform_client import connect, versions
from slipway.cli.scoring import find_version
from slipway.client import pages
from slipway.labeling.v1 import labeling_pb2 as lab

Annotator = Annotated[str, typer.Argument(help="Name of the annotator.", autocompletion=names)]
_SHOWN = 20
_COLUMNS = ["annotator", "answers", "wrong", "95 % interval", "gold right", "median ms", "state"]


def consensus(
    project: Project,
    method: Annotated[str, typer.Option(help=f"{', '.join(METHODS)}; default: the project's.")] = "",
    exclude_paused: Annotated[
        bool, typer.Option("--exclude-paused", help="Leave out the answers of paused annotators.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compute the label of every task with an answer, and judge each annotator."""
    request = lab.ComputeConsensusRequest(parent=project_name(project), exclude_paused=exclude_paused)
    if method:
        request.method = chosen("--method", method, METHODS)
    made = connect().labeling.ComputeConsensus(request, timeout=300)
    if as_json:
        print_json(made)
        return
    print_facts(
        [
            ("method", state_name(lab.ConsensusMethod, made.method).replace("_", "-")),
            ("tasks with a label", made.task_count),
            ("ties", made.tie_count),
            ("answers", made.answer_count),
            ("mean confidence", made.mean_confidence),
            ("paused now", ", ".join(map(last, made.paused))),
        ]
    )
    print_table(_COLUMNS, map(annotator_row, made.annotators), "nobody has answered yet")


def quality(
    project: Project,
    annotator: Annotated[str, typer.Option(help="Draw the confusion of this one alone.")] = "",
    as_json: AsJson = False,
) -> None:
    """Show agreement, each annotator's errors with interval, and whom they take for what."""
    request = lab.GetQualityReportRequest(parent=project_name(project))
    found = connect().labeling.GetQualityReport(request, timeout=300)
    if as_json:
        print_json(found)
        return
    figures = (
        ("agreement of pairs", found.percent_agreement),
        ("Fleiss' kappa", found.fleiss_kappa),
        ("Krippendorff's alpha", found.krippendorff_alpha),
        ("pre-label bias", found.prelabel_bias),
    )
    print_table(["figure", "value", "95 % interval", "n"], [(n, *estimate(f)) for n, f in figures])
    pairs = [(last(p.first), last(p.second), *estimate(p.kappa)) for p in found.pairs[:_SHOWN]]
    if pairs:
        print_table(["annotator", "and", "Cohen's kappa", "95 % interval", "n"], pairs)
    print_table(_COLUMNS, map(annotator_row, found.annotators), "nobody has answered yet")
    for one in found.annotators:
        if one.labels and (last(one.name) == annotator or not annotator):
            console().print(confusion_table(one.labels, one.confusion_matrix, last(one.name)))


def annotator_row(one: Any) -> tuple[object, ...]:
    """Return an annotator as a row; an error rate of -1 is not known yet."""
    known = one.error_rate >= 0
    wrong = f"{100 * one.error_rate:.1f} %" if known else "not known yet"
    sure = interval(one.error_rate_low, one.error_rate_high) if known else ""
    gold = f"{one.gold_correct_count}/{one.gold_count}" if one.gold_count else ""
    return last(one.name), one.answer_count, wrong, sure, gold, one.median_lead_ms, _standing(one)


def _standing(one: Any) -> str:
    if one.paused:
        return f"paused: {one.pause_reason}"
    return "careless" if one.careless else "good"


def annotators(project: Project, limit: Limit = 50, as_json: AsJson = False) -> None:
    """List a project's annotators with their figures."""
    request = lab.ListAnnotatorsRequest(parent=project_name(project))
    rows = list(pages(connect().labeling.ListAnnotators, request, "annotators", limit))
    if as_json:
        print_json(rows)
        return
    print_table(_COLUMNS, map(annotator_row, rows), "nobody has answered yet")


def pause(
    project: Project,
    annotator: Annotator,
    reason: Annotated[str, typer.Option("--reason", "-m", help="Why; the annotator reads it.")],
    as_json: AsJson = False,
) -> None:
    """Give an annotator no more tasks of the project."""
    name = part_name(project, "annotators", annotator)
    made = connect().labeling.PauseAnnotator(lab.PauseAnnotatorRequest(name=name, reason=reason))
    print_json(made) if as_json else print_table(_COLUMNS, [annotator_row(made)])


def resume(project: Project, annotator: Annotator, as_json: AsJson = False) -> None:
    """Let a paused annotator go on."""
    name = part_name(project, "annotators", annotator)
    made = connect().labeling.ResumeAnnotator(lab.ResumeAnnotatorRequest(name=name))
    print_json(made) if as_json else print_table(_COLUMNS, [annotator_row(made)])


def errors(
    project: Project,
    version: Annotated[str, typer.Argument(help="Whose scores: MODEL/vN.", autocompletion=versions)],
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List labels that a model's scores contradict, the most suspect first."""
    client = connect()
    request = lab.FindLabelErrorsRequest(
        parent=project_name(project), model_version=find_version(client, version).name
    )
    rows = list(pages(client.labeling.FindLabelErrors, request, "label_errors", limit))
    if as_json:
        print_json(rows)
        return
    table = [(last(r.task), r.key, r.label, r.suggested, r.self_confidence) for r in rows]
    columns = ["task", "key", "label", "the model says", "probability of the label"]
    print_table(columns, table, "no label is suspect")


def curve(
    points: Annotated[
        list[str] | None,
        typer.Argument(metavar="LABELS:ACCURACY:EXAMPLES...", help="Such as 100:0.81:2000; three or more."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--points", help="JSONL with label_count, accuracy and example_count.")
    ] = None,
    to: Annotated[
        int, typer.Option("--to", help="Label count to look ahead to; default: twice the most.")
    ] = 0,
    least_gain: Annotated[
        float, typer.Option(help="Gain in accuracy below which it is not worth it.")
    ] = 0.005,
    as_json: AsJson = False,
) -> None:
    """Say whether more labels are worth it, by a learning curve fitted to measured points."""
    measured = read_points(points or [], file)
    if not measured:
        raise refused("there is no point; write LABELS:ACCURACY:EXAMPLES, or name a file with --points")
    ahead = to or 2 * max(point.label_count for point in measured)
    request = lab.EstimateLearningCurveRequest(points=measured, label_count=ahead, least_gain=least_gain)
    found = connect().labeling.EstimateLearningCurve(request, timeout=120)
    if as_json:
        print_json(found)
        return
    rows = [(p.label_count, p.accuracy, p.example_count) for p in measured]
    print_table(["labels", "accuracy", "measured on"], rows)
    for line in curve_lines(found, measured, ahead):
        console().print(line)
    accuracy, gain = estimate(found.accuracy), estimate(found.gain)
    print_table(
        ["with", "value", "95 % interval"],
        [(f"accuracy at {ahead:,}", *accuracy[:2]), ("gain over the most so far", *gain[:2])],
    )
    verdict = state_name(lab.LearningCurve.Verdict, found.verdict).replace("_", " ")
    print_facts([("curve", f"error = {found.floor:.3g} + {found.scale:.3g} · n^-{found.rate:.3g}")])
    print_facts([("more labels are", f"{verdict}, where less than {least_gain:g} is not worth it")])


def register(app: typer.Typer) -> None:
    """Add the commands to `slipway label`."""
    for command in (consensus, quality, annotators, pause, resume, errors, curve):
        app.command()(command)
