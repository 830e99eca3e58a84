"""`slipway endpoint …`."""

import time
from collections.abc import Callable
from typing import Annotated, Any

import typer
from slipway.cli.models import version_name
from slipway.cli.output import (
    AsJson,
    Limit,
    errors_console,
    print_facts,
    print_json,
    print_table,
    state_name,
    when,
)
from slipway.cli.platform_client import connect, models
from slipway.cli.platform_client import endpoints as endpoint_names
from slipway.client import Client, SlipwayError, pages, resource
from slipway.rollout.v1 import rollout_pb2 as rol

app = typer.Typer(
    no_args_is_help=True, help="Endpoints: which versions serve, with which share of the traffic."
)
Endpoint = Annotated[str, typer.Argument(help="The endpoint.", autocompletion=endpoint_names)]
Wait = Annotated[float, typer.Option(help="Seconds to wait until it serves; 0: do not wait.", min=0)]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Id: a DNS label.")],
    model: Annotated[str, typer.Option(help="Model that it serves.", autocompletion=models)],
    engine: Annotated[str, typer.Option(help="onnx or torch.")] = "",
    replicas: Annotated[int, typer.Option(help="Pods per version.", min=0)] = 0,
    max_batch_rows: Annotated[int, typer.Option(help="Rows per batch at most.", min=0)] = 0,
    capture: Annotated[
        str, typer.Option(help="Inputs to keep: none, all, sample:0.1 or low_confidence:0.6.")
    ] = "",
    description: Annotated[str, typer.Option(help="What people read.")] = "",
    as_json: AsJson = False,
) -> None:
    """Create an endpoint that serves nothing yet."""
    config = rol.ServingConfig(
        engine=engine, replicas=replicas, max_batch_rows=max_batch_rows, capture_policy=capture
    )
    asked = rol.Endpoint(model=resource("models", model), description=description)
    if config.ByteSize():
        asked.serving_config.CopyFrom(config)
    made = connect().rollout.CreateEndpoint(rol.CreateEndpointRequest(endpoint_id=name, endpoint=asked))
    _print(made, as_json)


@app.command("list")
def list_(limit: Limit = 50, as_json: AsJson = False) -> None:
    """List endpoints."""
    rows = list(pages(connect().rollout.ListEndpoints, rol.ListEndpointsRequest(), "endpoints", limit))
    if as_json:
        print_json(rows)
        return
    table = [(_id(r.name), r.model, _split(r), r.host) for r in rows]
    print_table(["endpoint", "model", "traffic", "host"], table, "no endpoint yet: `slipway endpoint create`")


@app.command()
def show(name: Endpoint, as_json: AsJson = False) -> None:
    """Show an endpoint: versions, readiness, weights."""
    _print(_get(connect(), name), as_json)


@app.command()
def deploy(
    name: Endpoint,
    version: Annotated[str, typer.Argument(help="vN of its model, or MODEL/vN.")],
    wait: Wait = 120.0,
    as_json: AsJson = False,
) -> None:
    """Start a version; the first one gets all traffic, later ones none until `split`."""
    client = connect()
    named = version_of(client, name, version)
    request = rol.DeployVersionRequest(name=resource("endpoints", name), model_version=named)
    found = client.rollout.DeployVersion(request)
    if wait:
        found = _wait(client, name, wait, lambda e: _served(e, named), f"{named} to be ready")
    _print(found, as_json)


@app.command()
def undeploy(
    name: Endpoint,
    version: Annotated[str, typer.Argument(help="vN of its model, or MODEL/vN.")],
    wait: Wait = 120.0,
    as_json: AsJson = False,
) -> None:
    """Stop a version that has no traffic; it answers what it has, and goes."""
    client = connect()
    named = version_of(client, name, version)
    request = rol.UndeployVersionRequest(name=resource("endpoints", name), model_version=named)
    found = client.rollout.UndeployVersion(request)
    if wait:
        found = _wait(client, name, wait, lambda e: named not in _versions(e), f"{named} to be gone")
    _print(found, as_json)


@app.command()
def split(
    name: Endpoint,
    weights: Annotated[list[str], typer.Argument(metavar="vN=PERCENT...", help="Such as v1=90 v2=10.")],
    etag: Annotated[str, typer.Option(help="Only if it is still so; see `show --json`.")] = "",
    as_json: AsJson = False,
) -> None:
    """Set the share of each version, in per cent."""
    request = rol.SetSplitRequest(name=resource("endpoints", name), weights=parse_weights(weights), etag=etag)
    _print(connect().rollout.SetSplit(request), as_json)


def parse_weights(pairs: list[str]) -> dict[str, int]:
    """Return weights by subset from `v1=90`; `1=90` is the same.

    Raises:
        SlipwayError: One is written otherwise.
    """
    weights: dict[str, int] = {}
    for pair in pairs:
        subset, equals, number = pair.partition("=")
        if not equals or not number.removesuffix("%").isdecimal() or not subset.removeprefix("v").isdecimal():
            text = f"{pair!r} is not a weight; write vN=PERCENT, as in v1=90 v2=10"
            raise SlipwayError("INVALID_ARGUMENT", "INVALID_SPLIT", text)
        name = f"v{subset.removeprefix('v')}"
        if name in weights:
            raise SlipwayError("INVALID_ARGUMENT", "INVALID_SPLIT", f"{name} has two weights; give it one")
        weights[name] = int(number.removesuffix("%"))
    return weights


@app.command()
def shadow(
    name: Endpoint,
    version: Annotated[str, typer.Argument(help="vN that gets a copy of each request; `off` ends it.")],
    percent: Annotated[int, typer.Option(min=1, max=100, help="Share of the requests to mirror.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Mirror live requests to a version whose answers nobody sees."""
    subset = "" if version == "off" else f"v{version.removeprefix('v')}"
    request = rol.SetShadowRequest(name=resource("endpoints", name), subset=subset, percent=percent)
    _print(connect().rollout.SetShadow(request), as_json)


@app.command()
def delete(
    name: Endpoint,
    force: Annotated[bool, typer.Option("--force", help="Even while it has traffic.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take an endpoint and all that it serves away."""
    request = rol.DeleteEndpointRequest(name=resource("endpoints", name), force=force)
    found = connect().rollout.DeleteEndpoint(request)
    print_json(found) if as_json else print_facts([("deleting", found.name)])


def _get(client: Client, name: str) -> Any:
    return client.rollout.GetEndpoint(rol.GetEndpointRequest(name=resource("endpoints", name)))


def version_of(client: Client, endpoint: str, text: str) -> str:
    """Return the whole name of vN of the endpoint's model, or of MODEL/vN."""
    if "/" in text:
        return version_name(text)
    return version_name(f"{_get(client, endpoint).model}/{text}")


def _served(endpoint: Any, version: str) -> bool:
    found = next((v for v in endpoint.served_versions if v.model_version == version), None)
    if found is not None and found.state == rol.ServedVersion.FAILED:
        text = f"{version} does not come up: {found.error}"
        raise SlipwayError("FAILED_PRECONDITION", "VERSION_NOT_READY", text)
    return found is not None and found.state == rol.ServedVersion.READY


def _versions(endpoint: Any) -> set[str]:
    return {version.model_version for version in endpoint.served_versions}


def _wait(client: Client, name: str, wait_s: float, done: Callable[[Any], bool], what: str) -> Any:
    stop_at = time.monotonic() + wait_s
    with errors_console().status(f"waiting for {what}"):
        while True:
            found = _get(client, name)
            if done(found):
                return found
            if time.monotonic() > stop_at:
                text = f"waited {wait_s:.0f} s for {what}; see `slipway endpoint show {_id(name)}`"
                raise SlipwayError("DEADLINE_EXCEEDED", "VERSION_NOT_READY", text)
            time.sleep(0.3)


def _print(endpoint: Any, as_json: bool) -> None:
    if as_json:
        print_json(endpoint)
        return
    facts = [("endpoint", endpoint.name), ("model", endpoint.model), ("host", endpoint.host)]
    facts += [("description", endpoint.description), ("shadow", endpoint.shadow_version)]
    print_facts([*facts, ("warning", endpoint.route_warning), ("created", when(endpoint.create_time))])
    rows = [
        (v.subset, f"{v.weight} %", state_name(rol.ServedVersion.State, v.state), _pods(v), v.error)
        for v in endpoint.served_versions
    ]
    print_table(
        ["version", "traffic", "state", "pods", "why"],
        rows,
        "it serves nothing yet: `slipway endpoint deploy`",
    )


def _pods(version: Any) -> str:
    return f"{version.ready_replicas}/{version.replicas}"


def _split(endpoint: Any) -> str:
    return " ".join(f"{v.subset}={v.weight}" for v in endpoint.served_versions)


def _id(name: str) -> str:
    return name.rpartition("/")[2]
