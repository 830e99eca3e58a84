"""`slipway monitor accept`: what an endpoint sees now becomes what it is compared with."""

from typing import Annotated, Any

import typer
from slipway.cli.output import AsJson, print_facts, print_json, print_table, short, when
from slipway.cli.platform_client import connect, drift_reports
from slipway.cli.platform_client import monitors as monitor_names
from slipway.client import Client, SlipwayError, pages, resource
from slipway.monitoring.v1 import monitoring_pb2 as mon


def accept(
    endpoint: Annotated[str, typer.Argument(help="The endpoint.", autocompletion=monitor_names)],
    reason: Annotated[
        str, typer.Option("--reason", help="Why it should look so from now on; others read it.")
    ],
    report: Annotated[
        str,
        typer.Argument(help="Number of a report; default: the newest drifted.", autocompletion=drift_reports),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Make a report's window the reference of its version here; drift alerts of the version are resolved."""
    client, monitor = connect(), resource("monitors", endpoint.removeprefix("endpoints/"))
    name = f"{monitor}/driftReports/{_id(report)}" if report else _newest_drifted(client, monitor)
    made = client.monitoring.AcceptDrift(mon.AcceptDriftRequest(name=name, reason=reason))
    if as_json:
        print_json(made)
        return
    print_facts([("reference", made.report), ("version", made.model_version), ("rows", made.row_count)])
    print_facts([("by", made.creator), ("why", made.reason)])


def _newest_drifted(client: Client, monitor: str) -> str:
    """Return the newest report that says DRIFTED.

    Raises:
        SlipwayError: None does.
    """
    request = mon.ListDriftReportsRequest(parent=monitor)
    for report in pages(client.monitoring.ListDriftReports, request, "drift_reports"):
        if report.verdict == mon.DriftReport.DRIFTED:
            return str(report.name)
    text = (
        f"no report of {monitor} says DRIFTED; name the one to accept: slipway monitor drift {_id(monitor)}"
    )
    raise SlipwayError("NOT_FOUND", "DRIFT_REPORT_NOT_FOUND", text)


def print_references(monitor: Any) -> None:
    """Print which windows were accepted as references and are in force; nothing when there is none."""
    rows = [
        (r.model_version, f"report {_id(r.report)}", r.row_count, r.creator, when(r.create_time), r.reason)
        for r in monitor.references
    ]
    if rows:
        print_table(["compared with an accepted window", "it is", "rows", "by", "when", "why"], rows)


def told(report: Any) -> str:
    """Return what a report's window was compared with, in a word or two."""
    return f"report {_id(report.reference)}" if report.reference else "bundle"


def _id(name: str) -> str:
    return short(name).rpartition("/")[2]


__all__ = ["accept", "print_references", "told"]
