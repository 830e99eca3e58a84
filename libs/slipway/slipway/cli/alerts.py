"""`slipway alert …`: what people should know, and who works on it."""

import time
from typing import Annotated, Any

import typer
from slipway.cli.accounts import parse_duration
from slipway.cli.output import AsJson, Limit, print_facts, print_json, print_table, short, state_name, when
from slipway.cli.platform_client import alerts as alert_names
from slipway.cli.platform_client import connect
from slipway.cli.platform_client import monitors as monitor_names
from slipway.client import SlipwayError, pages, resource
from slipway.monitoring.v1 import monitoring_pb2 as mon

app = typer.Typer(no_args_is_help=True, help="Alerts: what holds, who works on it, what it set off.")
Alert = Annotated[str, typer.Argument(help="Id of the alert.", autocompletion=alert_names)]
OfEndpoint = Annotated[
    str, typer.Option("--endpoint", help="Only of this one.", autocompletion=monitor_names)
]
Comment = Annotated[str, typer.Option("--comment", "-m", help="What is being done; others read it.")]
_STATES = {"firing": mon.Alert.FIRING, "acknowledged": mon.Alert.ACKNOWLEDGED, "resolved": mon.Alert.RESOLVED}


def _states() -> list[str]:
    return list(_STATES)


@app.command("list")
def list_(
    endpoint: OfEndpoint = "",
    state: Annotated[str, typer.Option(help=f"{', '.join(_STATES)}.", autocompletion=_states)] = "",
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List alerts, newest first."""
    if state and state not in _STATES:
        raise _refused(f"--state {state!r} is not known; say one of {', '.join(_STATES)}")
    wanted = _STATES[state] if state else mon.Alert.STATE_UNSPECIFIED
    request = mon.ListAlertsRequest(monitor=_monitor(endpoint), state=wanted)
    rows = list(pages(connect().monitoring.ListAlerts, request, "alerts", limit))
    if as_json:
        print_json(rows)
        return
    table = [
        (_id(r.name), _id(r.monitor), r.rule, _state(r), when(r.create_time), r.seen_count, r.summary)
        for r in rows
    ]
    columns = ["alert", "endpoint", "rule", "state", "raised", "seen", "what"]
    print_table(columns, table, "no alert")


@app.command()
def show(alert: Alert, as_json: AsJson = False) -> None:
    """Show an alert: evidence, runbook, what it set off."""
    found = connect().monitoring.GetAlert(mon.GetAlertRequest(name=resource("alerts", alert)))
    print_json(found) if as_json else _print(found)


@app.command()
def ack(alert: Alert, comment: Comment = "", as_json: AsJson = False) -> None:
    """Say that you work on it: no more notifications until it is resolved."""
    request = mon.AcknowledgeAlertRequest(name=resource("alerts", alert), comment=comment)
    found = connect().monitoring.AcknowledgeAlert(request)
    print_json(found) if as_json else _print(found)


@app.command()
def silence(
    comment: Annotated[str, typer.Option("--comment", "-m", help="Why; others read it.")],
    for_: Annotated[str, typer.Option("--for", help="How long: 15m, 12h, 2d.")],
    endpoint: OfEndpoint = "",
    rule: Annotated[str, typer.Option(help="Only this rule, such as input-drift; default: all.")] = "",
    as_json: AsJson = False,
) -> None:
    """Keep alerts quiet for a while; they are still kept and shown."""
    asked = mon.Silence(monitor=_monitor(endpoint), rule=rule, comment=comment)
    asked.end_time.FromSeconds(round(time.time()) + parse_duration(for_))
    made = connect().monitoring.CreateSilence(mon.CreateSilenceRequest(silence=asked))
    if as_json:
        print_json(made)
        return
    facts = [("silence", made.name), ("endpoint", _id(made.monitor) or "all"), ("rule", made.rule or "all")]
    print_facts([*facts, ("until", when(made.end_time)), ("why", made.comment)])


@app.command()
def silences(limit: Limit = 20, as_json: AsJson = False) -> None:
    """List silences, newest first."""
    rows = list(pages(connect().monitoring.ListSilences, mon.ListSilencesRequest(), "silences", limit))
    if as_json:
        print_json(rows)
        return
    table = [(_id(r.monitor) or "all", r.rule or "all", when(r.end_time), r.creator, r.comment) for r in rows]
    print_table(["endpoint", "rule", "until", "by", "why"], table, "nothing is silenced")


def _print(alert: Any) -> None:
    facts = [("alert", alert.name), ("endpoint", _id(alert.monitor)), ("rule", alert.rule)]
    facts += [("version", alert.model_version), ("state", _state(alert)), ("what", alert.summary)]
    facts += [("evidence", alert.evidence), ("runbook", alert.runbook), ("raised", when(alert.create_time))]
    facts += [("last seen", when(alert.last_seen_time)), ("seen", alert.seen_count)]
    facts += [("acknowledged by", alert.acknowledged_by), ("comment", alert.comment)]
    print_facts([*facts, ("resolved", when(alert.resolve_time))])
    rows = [(a.target, a.result or "not yet", a.attempt_count, a.error) for a in alert.actions]
    if rows:
        print_table(["set off", "result", "tried", "why not yet"], rows)


def _state(alert: Any) -> str:
    state = state_name(mon.Alert.State, alert.state)
    return f"{state}, silenced" if alert.silenced else state


def _monitor(endpoint: str) -> str:
    return resource("monitors", endpoint.removeprefix("endpoints/")) if endpoint else ""


def _id(name: str) -> str:
    return short(name).rpartition("/")[2]


def _refused(message: str) -> SlipwayError:
    return SlipwayError("INVALID_ARGUMENT", "INVALID_FIELD", message)
