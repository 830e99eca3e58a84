"""`slipway dataset erase` and `slipway dataset erasures`."""

import time
import uuid
from typing import Annotated, Any

import typer
from slipway.cli.datasets import Name
from slipway.cli.output import AsJson, Limit, print_facts, print_json, print_table, state_name, when
from slipway.cli.platform_client import connect
from slipway.client import Client, SlipwayError, pages, resource
from slipway.ingestion.v1 import ingestion_pb2 as ing

_LOOK_S = 0.2


def register(app: typer.Typer) -> None:
    """Add the commands to those of data sets."""
    app.command()(erase)
    app.command()(erasures)


def erase(
    name: Name,
    key: Annotated[str, typer.Argument(help="As `dataset examples` lists it; with --blob: a digest.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; kept for good, so name no person in it.")],
    blob: Annotated[bool, typer.Option("--blob", help="Erase every example that has these bytes.")] = False,
    wait_s: Annotated[
        float, typer.Option("--wait", min=0, help="Seconds to wait for the end; 0: none.")
    ] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Erase an example for good: it is read nowhere from here on, and its bytes are deleted."""
    client = connect()
    which = {"blob": key} if blob else {"key": key}
    request = ing.CreateErasureRequest(
        parent=resource("datasets", name), reason=reason, request_id=uuid.uuid4().hex, **which
    )
    made = _ended(client, client.ingestion.CreateErasure(request), wait_s)
    print_json(made) if as_json else _print_erasure(made)


def erasures(name: Name, limit: Limit = 50, as_json: AsJson = False) -> None:
    """List what was erased from a data set: who asked, when and why; `-` lists all data sets."""
    request = ing.ListErasuresRequest(parent=resource("datasets", name))
    rows = list(pages(connect().ingestion.ListErasures, request, "erasures", limit))
    if as_json:
        print_json(rows)
        return
    table = [(r.name, _state(r), r.commit_count, r.creator, when(r.create_time), r.reason) for r in rows]
    headings = ["erasure", "state", "commits", "asked by", "time", "reason"]
    print_table(headings, table, "nothing was erased: `slipway dataset erase`")


def _ended(client: Client, erasure: Any, wait_s: float) -> Any:
    """Return the erasure at its end, or as it is when the wait is over.

    Raises:
        SlipwayError: It did not end in that time; the example is hidden all the same.
    """
    stop_at = time.monotonic() + wait_s
    while erasure.state != ing.Erasure.SUCCEEDED and wait_s:
        if time.monotonic() > stop_at:
            why = f": {erasure.error}" if erasure.error else ""
            text = f"{erasure.name} has not ended after {wait_s:g} s{why}; the example is hidden, look again"
            raise SlipwayError("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", text)
        time.sleep(_LOOK_S)
        erasure = client.ingestion.GetErasure(ing.GetErasureRequest(name=erasure.name))
    return erasure


def _print_erasure(erasure: Any) -> None:
    print_facts(
        [
            ("erasure", erasure.name),
            ("state", _state(erasure)),
            ("commits that had it", erasure.commit_count),
            ("blobs deleted", erasure.deleted_blob_count),
            ("blobs that others keep", erasure.kept_blob_count),
            ("asked by", erasure.creator),
            ("reason", erasure.reason),
        ]
    )


def _state(erasure: Any) -> str:
    return state_name(ing.Erasure.State, erasure.state)
