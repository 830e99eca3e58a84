"""`slipway monitor set`: drift settings, objectives, and what alerts set off."""

from typing import Annotated, Any

import typer
from google.protobuf.field_mask_pb2 import FieldMask
from slipway.cli.output import AsJson, print_facts, print_json, print_table, state_name, when
from slipway.cli.platform_client import connect
from slipway.cli.platform_client import monitors as monitor_names
from slipway.client import Client, SlipwayError, resource
from slipway.monitoring.v1 import monitoring_pb2 as mon

_KINDS = {
    "availability": mon.Objective.AVAILABILITY,
    "latency": mon.Objective.LATENCY,
    "quality": mon.Objective.QUALITY,
}


def set_(
    endpoint: Annotated[str, typer.Argument(help="The endpoint.", autocompletion=monitor_names)],
    window_rows: Annotated[int | None, typer.Option(min=0, help="Rows of a window.")] = None,
    min_rows: Annotated[int | None, typer.Option(min=0, help="Fewer give no verdict.")] = None,
    max_window_s: Annotated[int | None, typer.Option(min=0, help="Seconds of a window at most.")] = None,
    alpha: Annotated[float | None, typer.Option(help="False-alarm probability of a window.")] = None,
    min_effect: Annotated[float | None, typer.Option(help="Smallest effect that counts.")] = None,
    raise_after: Annotated[int | None, typer.Option(min=0, help="Drifted windows before an alert.")] = None,
    clear_after: Annotated[int | None, typer.Option(min=0, help="Clean windows before its end.")] = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            help="availability=0.999, latency=0.99@50 (ms) or quality=0.9; repeat it. Replaces all; none: "
            "--objective none."
        ),
    ] = None,
    action: Annotated[
        list[str] | None,
        typer.Option(
            help="RULE=pipelines/NAME or RULE=URL, RULE such as input-drift or any; repeat it. Replaces all; "
            "none: --action none."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change what is watched at an endpoint; what is not named stays."""
    client, name = connect(), resource("monitors", endpoint.removeprefix("endpoints/"))
    monitor = _current(client, name)
    given: dict[str, float | None] = {"window_rows": window_rows, "min_rows": min_rows, "alpha": alpha}
    given |= {"max_window_s": max_window_s, "min_effect": min_effect}
    given |= {"raise_after": raise_after, "clear_after": clear_after}
    named = {field: value for field, value in given.items() if value is not None}
    for field, value in named.items():
        setattr(monitor.drift, field, value)
    mask = ["drift"] if named else []
    for field, texts, read in (("objectives", objective, read_objective), ("actions", action, read_action)):
        if texts is not None:
            del getattr(monitor, field)[:]
            getattr(monitor, field).extend(read(text) for text in texts if text != "none")
            mask.append(field)
    if not mask:
        raise _refused("nothing to change was named; see `slipway monitor set --help`")
    request = mon.UpdateMonitorRequest(monitor=monitor, update_mask=FieldMask(paths=mask))
    changed = client.monitoring.UpdateMonitor(request)
    print_json(changed) if as_json else print_monitor(changed)


def _current(client: Client, name: str) -> Any:
    """Return the monitor as it is; one that is not there yet is made by the update."""
    try:
        return client.monitoring.GetMonitor(mon.GetMonitorRequest(name=name))
    except SlipwayError as error:
        if error.reason != "MONITOR_NOT_FOUND":
            raise
        return mon.Monitor(name=name)


def read_objective(text: str) -> mon.Objective:
    """Return the objective of `availability=0.999`, `latency=0.99@50` or `quality=0.9`.

    Raises:
        SlipwayError: It is written otherwise.
    """
    kind, _, rest = text.partition("=")
    target, at, threshold = rest.partition("@")
    try:
        share, milliseconds = float(target), float(threshold) if at else 0.0
    except ValueError:
        share = milliseconds = -1.0
    if kind not in _KINDS or not 0 < share < 1 or bool(at) != (kind == "latency") or milliseconds < 0:
        text = f"{text!r} is no objective; write availability=0.999, latency=0.99@50 (ms) or quality=0.9"
        raise _refused(text)
    return mon.Objective(kind=_KINDS[kind], target=share, threshold_ms=milliseconds)


def read_action(text: str) -> mon.AlertAction:
    """Return the action of `RULE=pipelines/NAME` or `RULE=URL`; the rule `any` means all.

    Raises:
        SlipwayError: It is written otherwise.
    """
    rule, _, target = text.partition("=")
    named = "" if rule == "any" else rule
    if rule and target.startswith(("http://", "https://")):
        return mon.AlertAction(rule=named, webhook=target)
    if rule and target.startswith("pipelines/"):
        return mon.AlertAction(rule=named, pipeline=target)
    raise _refused(f"{text!r} is no action; write RULE=pipelines/NAME or RULE=https://…, RULE may be any")


def print_monitor(monitor: Any) -> None:
    """Print what is watched."""
    drift = monitor.drift
    print_facts([("monitor", monitor.name), ("changed", when(monitor.update_time))])
    rows = [(field.name.replace("_", " "), getattr(drift, field.name)) for field in drift.DESCRIPTOR.fields]
    print_table(["drift", "value"], [(name, value or "default") for name, value in rows])
    objectives = [
        (state_name(mon.Objective.Kind, o.kind), o.target, o.threshold_ms or "", o.period_days or "default")
        for o in monitor.objectives
    ]
    print_table(["objective", "share", "within ms", "days"], objectives, "no objective is set")
    actions = [(a.rule or "any", a.pipeline or a.webhook) for a in monitor.actions]
    print_table(["alerts of", "set off"], actions, "alerts set nothing off")


def _refused(message: str) -> SlipwayError:
    return SlipwayError("INVALID_ARGUMENT", "INVALID_FIELD", message)


__all__ = ["print_monitor", "read_action", "read_objective", "set_"]
