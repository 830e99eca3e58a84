"""`slipway monitor …`: what came in, how well it was answered, and whether the world has changed."""

from typing import Annotated, Any

import typer
from slipway.cli import drift_references, feedback, monitor_settings
from slipway.cli.labeling.names import interval
from slipway.cli.output import (
    AsJson,
    Limit,
    console,
    print_facts,
    print_json,
    print_table,
    short,
    state_name,
    when,
)
from slipway.cli.platform_client import connect, drift_reports, versions
from slipway.cli.platform_client import monitors as monitor_names
from slipway.cli.plot import plot
from slipway.cli.scoring import find_version
from slipway.client import Client, SlipwayError, pages, resource
from slipway.monitoring.v1 import monitoring_pb2 as mon

app = typer.Typer(no_args_is_help=True, help="Monitors: predictions, late labels, quality, drift.")
Endpoint = Annotated[str, typer.Argument(help="The endpoint.", autocompletion=monitor_names)]
Window = Annotated[int, typer.Option(min=1, help="The last so many seconds.")]
Version = Annotated[str, typer.Option("--version", help="Only this one: MODEL/vN.", autocompletion=versions)]


def monitor_name(endpoint: str) -> str:
    """Return `monitors/{endpoint}` of an endpoint's id or whole name."""
    return resource("monitors", endpoint.removeprefix("endpoints/"))


@app.command("list")
def list_(limit: Limit = 50, as_json: AsJson = False) -> None:
    """List monitors: every endpoint that answered has one."""
    rows = list(pages(connect().monitoring.ListMonitors, mon.ListMonitorsRequest(), "monitors", limit))
    if as_json:
        print_json(rows)
        return
    table = [(_id(r.name), len(r.objectives), len(r.actions), when(r.update_time)) for r in rows]
    print_table(["endpoint", "objectives", "actions", "changed"], table, "no endpoint has answered yet")


@app.command()
def show(endpoint: Endpoint, as_json: AsJson = False) -> None:
    """Show what is watched at an endpoint, what alerts set off, and what holds now."""
    client = connect()
    found = client.monitoring.GetMonitor(mon.GetMonitorRequest(name=monitor_name(endpoint)))
    if as_json:
        print_json(found)
        return
    monitor_settings.print_monitor(found)
    drift_references.print_references(found)
    request = mon.ListAlertsRequest(monitor=found.name)
    held = [
        (_id(a.name), a.rule, state_name(mon.Alert.State, a.state), a.summary)
        for a in pages(client.monitoring.ListAlerts, request, "alerts", 200)
        if a.state != mon.Alert.RESOLVED
    ]
    print_table(["alert", "rule", "state", "what"], held, "no alert holds now")


@app.command()
def quality(endpoint: Endpoint, window: Window = 3600, as_json: AsJson = False) -> None:
    """Show traffic, labels and accuracy of each version, with intervals; classes below."""
    request = mon.GetQualityRequest(name=monitor_name(endpoint), window_s=window)
    found = connect().monitoring.GetQuality(request)
    if as_json:
        print_json(found)
        return
    columns = ["version", "live rows", "share", "labelled", "accuracy", "95 % interval", "label delay s", ""]
    print_table(columns, map(_quality_row, found.versions), f"no live row in the last {window} seconds")
    classes = sorted({label for version in found.versions for label in version.class_counts})
    shares = [[label, *(_class_share(v, label) for v in found.versions)] for label in classes]
    if shares:
        print_table(["class chosen", *(_id(v.model_version) for v in found.versions)], shares)


def _quality_row(version: Any) -> tuple[object, ...]:
    known = version.HasField("accuracy")
    accuracy = version.accuracy if known else "no label yet"
    sure = interval(version.accuracy_low, version.accuracy_high) if known else ""
    delays = (version.label_delay_p50_s, version.label_delay_p95_s)
    delay = f"{delays[0]:.1f}, 95 %: {delays[1]:.1f}" if version.HasField("label_delay_p50_s") else ""
    covered = 100 * version.labelled_count / version.row_count if version.row_count else 0.0
    labelled = f"{version.labelled_count:,} ({covered:.0f} %)"
    confidence = f"mean confidence {version.mean_confidence:.3f}"
    share = f"{100 * version.traffic_share:.1f} %"
    return version.model_version, version.row_count, share, labelled, accuracy, sure, delay, confidence


def _class_share(version: Any, label: str) -> str:
    count = version.class_counts.get(label, 0)
    return f"{count:,} ({100 * count / version.row_count:.1f} %)" if version.row_count else ""


@app.command()
def coverage(endpoint: Endpoint, as_json: AsJson = False) -> None:
    """Show what the fronts' spools delivered and lost."""
    found = connect().monitoring.GetCoverage(mon.GetCoverageRequest(name=monitor_name(endpoint)))
    if as_json:
        print_json(found)
        return
    made = found.received_count + found.lost_count + found.waiting_count
    share = f"{100 * found.received_count / made:.2f} % of {made:,}" if made else "nothing was made"
    print_facts([("received", found.received_count), ("lost", found.lost_count)])
    print_facts([("on the way", found.waiting_count), ("coverage", share)])
    rows = [
        (s.spool[:8], s.model_version, s.received_count, s.lost_count, s.waiting_count,
         "closed" if s.closed else "open", when(s.report_time))
        for s in found.spools
    ]  # fmt: skip
    columns = ["spool", "version", "received", "lost", "on the way", "state", "last report"]
    print_table(columns, rows, "no spool has reported yet")


@app.command()
def predictions(
    endpoint: Endpoint,
    version: Version = "",
    labelled: Annotated[bool, typer.Option("--labelled", help="Only with a label.")] = False,
    captured: Annotated[bool, typer.Option("--captured", help="Only with a captured input.")] = False,
    max_confidence: Annotated[float, typer.Option(help="Only as unsure as this.", min=0, max=1)] = 0.0,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List predicted rows, newest first."""
    client = connect()
    request = mon.ListPredictionsRequest(
        endpoint=resource("endpoints", endpoint),
        model_version=find_version(client, version).name if version else "",
        labelled_only=labelled,
        captured_only=captured,
        max_confidence=max_confidence,
    )
    rows = list(pages(client.monitoring.ListPredictions, request, "predictions", limit))
    if as_json:
        print_json(rows)
        return
    columns = ["time", "class", "confidence", "label", "version", "role", "input", "prediction"]
    print_table(columns, map(_prediction_row, rows), "no prediction like that is kept")


def _prediction_row(row: Any) -> tuple[object, ...]:
    right = {"": "", row.predicted_label: f"{row.label} ✓"}.get(row.label, f"{row.label} ✗")
    role = mon.PredictionEvent.Role.Name(row.role).lower()
    kept = "kept" if row.captured else ""
    version = f"v{_id(row.model_version)}"
    name = row.name.removeprefix("predictions/")
    return when(row.time), row.predicted_label, row.confidence, right, version, role, kept, name


@app.command()
def drift(
    endpoint: Endpoint,
    report: Annotated[
        str, typer.Argument(help="Number of a report, to see each test.", autocompletion=drift_reports)
    ] = "",
    version: Version = "",
    subject: Annotated[
        str, typer.Option("--plot", help="Plot the effect on this over time, such as inputs/brightness.")
    ] = "",
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List the comparisons of windows with the reference, newest first; or show one."""
    client = connect()
    name = monitor_name(endpoint)
    if report:
        request = mon.GetDriftReportRequest(name=f"{name}/driftReports/{_id(report)}")
        found = client.monitoring.GetDriftReport(request)
        print_json(found) if as_json else _print_report(found)
        return
    rows = _reports(client, name, version, limit)
    if as_json:
        print_json(rows)
    elif subject:
        _plot(rows, subject)
    else:
        columns = ["report", "ended", "version", "rows", "compared with", "verdict", "points at"]
        columns += ["largest effect", "why"]
        print_table(columns, map(_report_row, rows), "no window has been compared yet")


def _reports(client: Client, name: str, version: str, limit: int) -> list[Any]:
    request = mon.ListDriftReportsRequest(
        parent=name, model_version=find_version(client, version).name if version else ""
    )
    return list(pages(client.monitoring.ListDriftReports, request, "drift_reports", limit))


def _report_row(report: Any) -> tuple[object, ...]:
    worst = max(report.tests, key=lambda test: test.effect, default=None)
    effect = f"{worst.subject} {worst.effect:.3f}" if worst is not None else ""
    verdict = state_name(mon.DriftReport.Verdict, report.verdict).replace("_", " ")
    kind = state_name(mon.DriftReport.Kind, report.kind)
    at, version = when(report.end_time), f"v{_id(report.model_version)}"
    told = drift_references.told(report)
    return _id(report.name), at, version, report.row_count, told, verdict, kind, effect, report.summary


def _print_report(report: Any) -> None:
    verdict = state_name(mon.DriftReport.Verdict, report.verdict)
    print_facts([("report", report.name), ("version", report.model_version), ("verdict", verdict)])
    print_facts([("from", when(report.start_time)), ("to", when(report.end_time))])
    print_facts([("compared with", drift_references.told(report))])
    print_facts([("points at", state_name(mon.DriftReport.Kind, report.kind)), ("why", report.summary)])
    rows = [
        (t.subject, t.method, t.effect, t.adjusted_p_value, t.psi, t.row_count, t.reference_count,
         "drifted" if t.drifted else "")
        for t in report.tests
    ]  # fmt: skip
    columns = ["what", "test", "effect", "adjusted p", "psi", "rows", "reference", ""]
    print_table(columns, rows, "nothing was compared")
    for test in report.tests:
        if test.drifted:
            figures = [(k, test.observed.get(k, ""), test.expected.get(k, "")) for k in _keys(test)]
            print_table([test.subject, "window", "reference"], figures)


def _keys(test: Any) -> list[str]:
    return sorted(set(test.observed) | set(test.expected))


def _plot(reports: list[Any], subject: str) -> None:
    """Plot the effect of a subject, oldest window first.

    Raises:
        SlipwayError: No report compares that.
    """
    points = [(r.end_time.seconds, t) for r in reversed(reports) for t in r.tests if t.subject == subject]
    if not points:
        known = ", ".join(sorted({test.subject for report in reports for test in report.tests})) or "nothing"
        text = f"no report compares {subject!r}; they compare {known}"
        raise SlipwayError("NOT_FOUND", "SUBJECT_NOT_FOUND", text)
    last = points[-1][0]
    console().print(f"[bold]{subject}[/bold], effect of {len(points)} windows, seconds before the last")
    for line in plot([at - last for at, _ in points], [test.effect for _, test in points]):
        console().print(line)


def _id(name: str) -> str:
    return short(name).rpartition("/")[2]


app.command()(feedback.feedback)
app.command()(drift_references.accept)
app.command("set")(monitor_settings.set_)


__all__ = ["app", "monitor_name"]
