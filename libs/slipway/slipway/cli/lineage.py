"""`slipway impact`."""

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.tree import Tree
from slipway.cli.output import AsJson, console, print_json, short
from slipway.cli.platform_client import connect
from slipway.client import Client, SlipwayError
from slipway.client.lineage import KINDS, Graph, impact
from slipway.monitoring.v1 import monitoring_pb2 as mon
from slipway.rollout.v1 import rollout_pb2 as rol

_SHOWN = 10
_WINDOW_S = 3600
_WORDS = {  # kinds as people read them
    "captureImports": "imports of captured inputs",
    "pipelineRuns": "pipeline runs",
    "pipelineVersions": "versions of pipelines",
    "scoringJobs": "scoring jobs",
    "taskCode": "task codes",
    "trainingJobs": "training jobs",
}


def impact_command(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="annotators/NAME, annotations/ID, or the name of a prediction, commit, run, version, alert…",
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Show what a thing reached: annotations, commits, runs, versions, endpoints and their traffic."""
    client = connect()
    graph = impact(client, name)
    reached = {kind: [n for n in graph.of_kind(kind) if n != name] for kind in KINDS}
    traffic = {endpoint: _traffic(client, endpoint, graph) for endpoint in graph.of_kind("endpoints")}
    if as_json:
        told = {"name": name, "reached": {k: v for k, v in reached.items() if v}, "traffic": traffic}
        print_json({**told, "missing": [asdict(one) for one in graph.missing]})
        return
    tree = Tree(f"[bold]{escape(name)}[/bold]")
    for kind, names in reached.items():
        if names:
            _branch(tree, _WORDS.get(kind, kind), names, traffic)
    if not tree.children:
        tree.add("[dim]reached nothing[/dim]")
    console().print(tree)
    for one in graph.missing[:_SHOWN]:
        text = f"{one.service} cannot tell what came of {short(one.name)}: {one.why}"
        console().print(f"[yellow]missing[/yellow] {escape(text)}")
    if len(graph.missing) > _SHOWN:
        console().print(f"[dim]and {len(graph.missing) - _SHOWN:,} more; --json lists all[/dim]")


def _branch(tree: Tree, kind: str, names: list[str], traffic: dict[str, dict[str, Any]]) -> None:
    branch = tree.add(f"[bold]{len(names):,}[/bold] {kind}")
    for name in names[:_SHOWN]:
        share = f"  [yellow]{_share(traffic[name])}[/yellow]" if name in traffic else ""
        branch.add(escape(short(name)) + share, style="default")
    if len(names) > _SHOWN:
        branch.add(f"[dim]and {len(names) - _SHOWN:,} more; --json lists all[/dim]")


def _share(told: dict[str, Any]) -> str:
    asked = "weight not known" if told["weight"] is None else f"{told['weight']} % of its traffic by weight"
    if told["observed_share"] is None:
        return f"{asked}; {escape(told['why'])}"
    seen = f"{100 * told['observed_share']:.1f} % of {told['observed_rows']:,} live rows"
    return f"{asked}, {seen} in the last {_WINDOW_S // 60} minutes"


def _traffic(client: Client, endpoint: str, graph: Graph) -> dict[str, Any]:
    """Return the share of an endpoint's traffic that goes to versions in the graph: by weight, and as seen.

    What its owner cannot tell is None, with the reason as `why`.
    """
    versions = set(graph.of_kind("versions"))
    told: dict[str, Any] = {"weight": None, "observed_share": None, "observed_rows": 0, "why": ""}
    try:
        found: Any = client.rollout.GetEndpoint(rol.GetEndpointRequest(name=endpoint))
        told["weight"] = sum(v.weight for v in found.served_versions if v.model_version in versions)
        name = endpoint.replace("endpoints/", "monitors/")
        request = mon.GetQualityRequest(name=name, window_s=_WINDOW_S)
        seen: Any = client.monitoring.GetQuality(request)
    except SlipwayError as error:
        return {**told, "why": error.message}
    told["observed_rows"] = sum(version.row_count for version in seen.versions)
    if not told["observed_rows"]:
        return {**told, "why": f"no live row came in the last {_WINDOW_S // 60} minutes"}
    told["observed_share"] = sum(v.traffic_share for v in seen.versions if v.model_version in versions)
    return told
