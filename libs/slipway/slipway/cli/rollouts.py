"""`slipway rollout …`: a version's way to all traffic, step by step, by evidence."""

from typing import Annotated, Any

import typer
from slipway.cli.endpoints import version_of
from slipway.cli.output import AsJson, Limit, print_json, print_table, state_name, when
from slipway.cli.platform_client import connect
from slipway.cli.platform_client import endpoints as endpoint_names
from slipway.cli.progress import follow
from slipway.cli.rollout_options import GATES, ON_HOLD, STEP_COUNT, STEP_TIME, parse_gates, parse_steps
from slipway.cli.rollout_views import newest, print_rollout, print_verdicts, rollout_row
from slipway.client import Client, SlipwayError, pages, resource
from slipway.rollout.v1 import rollout_pb2 as rol

app = typer.Typer(no_args_is_help=True, help="Rollouts: a new version gets traffic only on evidence.")
Endpoint = Annotated[
    str,
    typer.Argument(help="ENDPOINT, or ENDPOINT/N for an earlier rollout.", autocompletion=endpoint_names),
]
Reason = Annotated[str, typer.Option("--reason", "-m", help="Why; kept with the decision.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Watch it until it ends.")]
OfGate = Annotated[list[str] | None, typer.Option(help="GATE=VALUE; repeat it.")]


@app.command()
def start(
    endpoint: Annotated[str, typer.Argument(help="The endpoint.", autocompletion=endpoint_names)],
    version: Annotated[str, typer.Argument(help="vN of its model, or MODEL/vN.")],
    step: Annotated[
        list[str] | None,
        typer.Option(
            help=f"shadow, PERCENT, PERCENT:TIME or PERCENT:TIME:COUNT ({STEP_TIME} and {STEP_COUNT} "
            "requests at least), the last 100; repeat it. Default: shadow 1 5 25 50 100."
        ),
    ] = None,
    max_hold: Annotated[float, typer.Option(min=0, help="Seconds that a step may take; 0: an hour.")] = 0.0,
    on_hold: Annotated[str, typer.Option(help=f"What then: {' or '.join(ON_HOLD)}; default: pause.")] = "",
    off: Annotated[
        list[str] | None, typer.Option("--off", help=f"Leave a gate out: {', '.join(GATES)}; repeat it.")
    ] = None,
    margin: OfGate = None,
    min_count: OfGate = None,
    tolerance: OfGate = None,
    alpha: Annotated[float, typer.Option(help="Probability of a false FAIL at most; 0: 0.05.")] = 0.0,
    max_error_rate: Annotated[float | None, typer.Option(help="Guardrail: share of errors.")] = None,
    max_p99_ms: Annotated[float | None, typer.Option(help="Guardrail: 99th percentile, ms.")] = None,
    min_accuracy: Annotated[float | None, typer.Option(help="Guardrail: share of right rows.")] = None,
    ready_timeout: Annotated[float, typer.Option(min=0, help="Seconds that its pods may take.")] = 0.0,
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """Begin to move an endpoint's traffic to a version; it is deployed when it is not served yet."""
    client = connect()
    changes = {"margin": margin or [], "min_count": min_count or [], "tolerance": tolerance or []}
    rails = {"max_error_rate": max_error_rate, "max_p99_ms": max_p99_ms, "min_accuracy": min_accuracy}
    asked = rol.Rollout(
        model_version=version_of(client, endpoint, version),
        steps=parse_steps(step or [], max_hold_s=max_hold, on_hold=on_hold),
        gates=parse_gates(off or [], changes, rails),
        alpha=alpha,
        ready_timeout_s=ready_timeout,
    )
    request = rol.CreateRolloutRequest(parent=resource("endpoints", endpoint), rollout=asked)
    made = client.rollout.CreateRollout(request)
    if watch:
        _watch(client, made.name, as_json=as_json)
        return
    print_json(made) if as_json else print_rollout(made)


@app.command()
def status(endpoint: Endpoint, as_json: AsJson = False) -> None:
    """Show a rollout: step, weight, and what each gate says."""
    found = newest(connect(), endpoint)
    print_json(found) if as_json else print_rollout(found)


@app.command()
def watch(endpoint: Endpoint, as_json: AsJson = False) -> None:
    """Show a rollout's way until it ends; it goes on when you stop watching. 1 when it did not succeed."""
    client = connect()
    _watch(client, newest(client, endpoint).name, as_json=as_json)


@app.command()
def pause(endpoint: Endpoint, reason: Reason = "", as_json: AsJson = False) -> None:
    """Stop the way up; a FAIL still takes the traffic away."""
    client = connect()
    request = rol.PauseRolloutRequest(name=newest(client, endpoint).name, reason=reason)
    _print(client.rollout.PauseRollout(request), as_json)


@app.command()
def resume(
    endpoint: Endpoint,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Even over somebody else's edit of the route.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Go on after a pause, at the same step."""
    client = connect()
    name = newest(client, endpoint).name
    request = rol.ResumeRolloutRequest(name=name)
    if overwrite:
        seen = client.rollout.GetEndpoint(rol.GetEndpointRequest(name=name.partition("/rollouts/")[0]))
        request.endpoint_etag = seen.etag
    _print(client.rollout.ResumeRollout(request), as_json)


@app.command()
def abort(endpoint: Endpoint, reason: Reason = "", as_json: AsJson = False) -> None:
    """Give all traffic back to the stable version, and end."""
    client = connect()
    request = rol.AbortRolloutRequest(name=newest(client, endpoint).name, reason=reason)
    _print(client.rollout.AbortRollout(request), as_json)


@app.command()
def finish(
    endpoint: Endpoint,
    reason: Annotated[str, typer.Option("--reason", "-m", help="Why: the evidence is passed over.")],
    as_json: AsJson = False,
) -> None:
    """Give all traffic to the new version at once, whatever the evidence, and end."""
    client = connect()
    request = rol.FinishRolloutRequest(name=newest(client, endpoint).name, reason=reason)
    _print(client.rollout.FinishRollout(request), as_json)


@app.command()
def verdicts(
    endpoint: Endpoint,
    gate: Annotated[
        str,
        typer.Option("--plot", help="Plot this gate's e-value over the log.", autocompletion=lambda: GATES),
    ] = "",
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List the decision log of a rollout, newest first: value, bound, n and e-value of each gate."""
    client = connect()
    request = rol.ListVerdictsRequest(parent=newest(client, endpoint).name)
    rows = list(pages(client.rollout.ListVerdicts, request, "verdicts", limit))
    print_json(rows) if as_json else print_verdicts(rows, gate)


@app.command("list")
def list_(
    endpoint: Annotated[
        str, typer.Argument(help="Endpoint; default: all.", autocompletion=endpoint_names)
    ] = "-",
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List rollouts, newest first."""
    request = rol.ListRolloutsRequest(parent=resource("endpoints", endpoint))
    rows = list(pages(connect().rollout.ListRollouts, request, "rollouts", limit))
    if as_json:
        print_json(rows)
        return
    columns = ["rollout", "version", "from", "state", "weight", "exposed rows", "began", "ended", "why"]
    print_table(columns, map(rollout_row, rows), "no rollout yet: `slipway rollout start`")


@app.command()
def history(
    endpoint: Annotated[str, typer.Argument(help="The endpoint.", autocompletion=endpoint_names)],
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List what served when: each version's weight, from when to when, by whom and why."""
    request = rol.ListServingsRequest(parent=resource("endpoints", endpoint))
    rows = list(pages(connect().rollout.ListServings, request, "servings", limit))
    if as_json:
        print_json(rows)
        return
    table = [
        (when(r.start_time), when(r.end_time) or "now", r.model_version, f"{r.weight} %", r.actor, r.reason)
        for r in rows
    ]
    print_table(["from", "to", "version", "traffic", "by", "why"], table, "it has served nothing yet")


def _watch(client: Client, name: str, *, as_json: bool) -> None:
    last = follow(client.watch_rollout(name), _told, as_json=as_json)
    if last is None:
        raise SlipwayError("UNAVAILABLE", "UNAVAILABLE", f"{name} said nothing; try `slipway rollout status`")
    if not as_json:
        print_rollout(last)
    if last.state != rol.Rollout.SUCCEEDED:
        raise typer.Exit(1)


def _told(rollout: Any) -> tuple[str, int, int]:
    state = state_name(rol.Rollout.State, rollout.state)
    why = rollout.state_reason if rollout.state != rol.Rollout.RUNNING else rollout.verdict.reason
    return f"{state}, {rollout.weight} %: {why}"[:100], rollout.step, len(rollout.steps)


def _print(rollout: Any, as_json: bool) -> None:
    print_json(rollout) if as_json else print_rollout(rollout)
