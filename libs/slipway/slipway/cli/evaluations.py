"""`slipway model evaluate` and `pictures`: a version measured beside its champion."""

from pathlib import Path
from typing import Annotated, Any

import typer
from slipway.checks.validation import champion_of
from slipway.cli.models import version_name
from slipway.cli.output import AsJson, print_facts, print_json, print_table, short, to_dict, when
from slipway.cli.platform_client import connect, versions
from slipway.cli.scoring import Commit, Version, find_commit, find_version, watch_job
from slipway.client import Client, SlipwayError
from slipway.registry.v1 import registry_pb2 as reg

Against = Annotated[
    str,
    typer.Option(
        "--against",
        help="`champion`, vN or MODEL/vN; `none` for none. Default: the champion, where there is one.",
        autocompletion=versions,
    ),
]
Split = Annotated[str, typer.Option("--split", help="train, validation, test; `all` for every example.")]
_LOST_SHOWN = 10


def evaluate(
    version: Version,
    against: Against = "",
    commit: Commit = "",
    split: Split = "test",
    as_json: AsJson = False,
) -> None:
    """Evaluate a version on labelled examples beside the champion, and show both."""
    client = connect()
    found = find_version(client, version)
    champion = find_champion(client, found.name, against)
    job = client.evaluate(
        found.name, find_commit(client, found, commit), split=whole_or(split), champion=champion
    )
    if as_json:
        *_, ended = client.watch_scoring_job(job.name)
        if not ended.evaluation:
            print_json(ended)
            raise typer.Exit(1)
        print_json(_evaluation(client, ended.evaluation))
        return
    ended = watch_job(client, job.name, as_json=False, quiet=True)
    print_evaluation(_evaluation(client, ended.evaluation))


def whole_or(split: str) -> str:
    """Return a split's name, nothing for `all`."""
    return "" if split == "all" else split


def find_champion(client: Client, version: str, against: str) -> str:
    """Return the version to compare with: of an alias, vN of the same model, or MODEL/vN; empty for none.

    Raises:
        SlipwayError: The alias is said and not set.
    """
    model = version.partition("/versions/")[0]
    if against == "none":
        return ""
    if not against:
        champion = champion_of(client, model, {})
        return "" if champion == version else champion
    if "/" in against:
        return version_name(against)
    if against.removeprefix("v").isdecimal():
        return f"{model}/versions/{against.removeprefix('v')}"
    alias: Any = client.registry.GetAlias(reg.GetAliasRequest(name=f"{model}/aliases/{against}"))
    return str(alias.model_version)


def evaluations(version: Version, as_json: AsJson = False) -> None:
    """List the evaluations of a version, newest first."""
    client = connect()
    name = find_version(client, version).name
    request = reg.ListVersionEvaluationsRequest(parent=name, page_size=50)
    rows = list(client.registry.ListVersionEvaluations(request).evaluations)
    if as_json:
        print_json(rows)
        return
    table = [
        (e.name.rpartition("/")[2], e.split or "all", e.example_count, e.metrics.get("accuracy", ""),
         e.champion_version, when(e.create_time))
        for e in rows
    ]  # fmt: skip
    columns = ["evaluation", "split", "examples", "accuracy", "beside", "created"]
    print_table(columns, table, "no evaluation yet: `slipway model evaluate`")


def pictures(
    version: Version,
    folder: Annotated[Path, typer.Argument(help="Where the PNG files go; made when it is not there.")],
    evaluation: Annotated[str, typer.Option(help="Id of the evaluation; default: the newest.")] = "",
    as_json: AsJson = False,
) -> None:
    """Write an evaluation's pictures: confusion, ROC, precision over recall, calibration."""
    client = connect()
    found = _chosen(client, find_version(client, version).name, evaluation)
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in found.pictures:
            request = reg.GetEvaluationPictureRequest(name=found.name, picture=name)
            path = folder / f"{name}.png"
            path.write_bytes(client.registry.GetEvaluationPicture(request).data)
            written.append(str(path))
    except OSError as error:
        text = f"{folder} cannot be written ({error.strerror or error}); name another folder"
        raise SlipwayError("INVALID_ARGUMENT", "INVALID_FIELD", text) from error
    told = {"evaluation": found.name, "files": written}
    print_json(told) if as_json else print_facts(
        [("evaluation", found.name), *(("file", f) for f in written)]
    )


def _chosen(client: Client, version: str, evaluation: str) -> Any:
    if evaluation:
        return _evaluation(client, f"{version}/evaluations/{evaluation.rpartition('/')[2]}")
    request = reg.ListVersionEvaluationsRequest(parent=version, page_size=1)
    listed = client.registry.ListVersionEvaluations(request).evaluations
    if not listed:
        text = f"{version} has no evaluation yet; `slipway model evaluate` makes one"
        raise SlipwayError("NOT_FOUND", "EVALUATION_NOT_FOUND", text)
    return listed[0]


def _evaluation(client: Client, name: str) -> Any:
    return client.registry.GetVersionEvaluation(reg.GetVersionEvaluationRequest(name=name))


def print_evaluation(found: Any) -> None:
    """Print figures side by side with the champion's, the slices that lost most, and the latency."""
    compared = bool(found.champion_version)
    facts = [("evaluation", found.name), ("commit", short(found.dataset_commit))]
    facts += [("examples", f"{found.example_count:,} of split {found.split or 'all'}")]
    print_facts([*facts, ("beside", found.champion_version or "no champion")])
    rows = figure_rows(to_dict(found))
    print_table(
        ["figure", "version", "champion", "difference"] if compared else ["figure", "version"],
        rows if compared else [row[:2] for row in rows],
    )
    lost = lost_most(found.slices)
    if compared:
        columns = ["slices that lost most", "n", "accuracy", "95 % interval", "champion", "lost", "won"]
        print_table(columns, [slice_row(one) for one in lost], "no slice lost more than it won")
    latency = f"{found.latency_ms:.3g} ms per batch"
    if compared:
        span = f"{found.latency_ratio_low:.3g} to {found.latency_ratio_high:.3g}"
        latency += f", {found.latency_ratio:.3g} times the champion's ({span})"
    golden = f"{found.golden_max_abs_diff:.3g} over {found.golden_count}"
    print_facts([("latency", latency), ("golden, max. difference", golden)])


def figure_rows(evaluation: dict[str, Any]) -> list[tuple[str, Any, Any, Any]]:
    """Return name, the version's value, the champion's, and the difference, of each figure."""
    own, champion = evaluation["metrics"], evaluation["champion_metrics"]
    return [
        (name, value, champion.get(name, ""), value - champion[name] if name in champion else "")
        for name, value in sorted(own.items())
    ]


def lost_most(slices: Any) -> list[Any]:
    """Return the slices that lost more examples than they won, the worst first."""
    lost = [one for one in slices if one.lost_count > one.won_count]
    lost.sort(key=lambda one: (one.won_count - one.lost_count, one.slice))
    return lost[:_LOST_SHOWN]


def slice_row(one: Any) -> tuple[object, ...]:
    """Return a slice as a row."""
    interval = f"{one.accuracy_low:.3f} to {one.accuracy_high:.3f}"
    return (
        one.slice, one.example_count, one.accuracy, interval, one.champion_accuracy, one.lost_count,
        one.won_count,
    )  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the commands to `slipway model`."""
    app.command()(evaluate)
    app.command()(evaluations)
    app.command()(pictures)
