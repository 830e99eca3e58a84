"""`slipway trace`, `slipway traces` and `slipway edges`."""

import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.tree import Tree
from slipway.cli.output import AsJson, Limit, console, print_json, print_table, to_dict
from slipway.cli.platform_client import connect
from slipway.cli.provenance import tree_of
from slipway.client import Client, SlipwayError, pages
from slipway.client.provenance import Link, way_back
from slipway.monitoring.v1 import monitoring_pb2 as mon

_BAR = 24
_YOUNG_S = 30.0
_UUID_HYPHENS = 4


def trace(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="A prediction's or a trace's id.")],
    wait: Annotated[
        float, typer.Option(help="Seconds to wait for spans and event of a request of just now.", min=0)
    ] = 10,
    as_json: AsJson = False,
) -> None:
    """Print where a prediction came from, back to the annotators, and what its request did."""
    client = connect()
    if _is_trace(identifier):
        found = _whole(client, identifier, wait)
        print_json(found) if as_json else _print_spans(found)
        return
    links = _links(client, identifier, wait)
    spans = _spans(client, identifier, wait, links)
    if as_json:
        told = {"spans_missing": str(spans)} if isinstance(spans, SlipwayError) else to_dict(spans)
        print_json({**told, "way_back": [asdict(link) for link in links]})
        return
    console().print(tree_of(links))
    if isinstance(spans, SlipwayError):
        console().print(f"[yellow]no spans[/yellow]: {escape(spans.message)}")
    else:
        _print_spans(spans)


def _is_trace(identifier: str) -> bool:
    name = identifier.removeprefix("traces/")
    return identifier.startswith("traces/") or (len(name) == 32 and not set(name) - set("0123456789abcdef"))


def _links(client: Client, identifier: str, wait_s: float) -> list[Link]:
    """Return the way back; the event of a prediction of just now is waited for."""
    stop_at = time.monotonic() + wait_s
    while True:
        try:
            return way_back(client, identifier)
        except SlipwayError as error:
            if error.reason != "PREDICTION_NOT_FOUND":
                raise
            if not _is_young(identifier) or time.monotonic() > stop_at:
                return [Link("prediction", identifier, missing=error.message)]
            time.sleep(0.3)


def _spans(client: Client, identifier: str, wait_s: float, links: list[Link]) -> Any:
    """Return the trace, or why there is none.

    Raises:
        SlipwayError: Nothing at all is known of the prediction.
    """
    kept = links[0].facts.get("trace") or identifier.removeprefix("predictions/")
    try:
        return _whole(client, kept, wait_s)
    except SlipwayError as error:
        if links[0].missing:
            text = f"nothing is known of prediction {identifier!r}: {links[0].missing}; {error.message}"
            raise SlipwayError("NOT_FOUND", "PREDICTION_NOT_FOUND", text) from error
        return error


def _print_spans(found: Any) -> None:
    total = milliseconds(found.duration)
    head = (
        f"[bold]{found.name}[/bold]  {total:.2f} ms, {len(found.spans)} spans, {len(found.services)} services"
    )
    tree = Tree(head)
    begin = found.start_time.ToNanoseconds()
    for parent, span, node in _walk(tree, list(found.spans)):
        parent[span.span_id] = node.add(_line(span, begin, total))
    console().print(tree)


def _whole(client: Client, identifier: str, wait_s: float) -> Any:
    """Return the trace; while it is young and has loose ends, wait: each process sends its spans in turns."""
    stop_at = time.monotonic() + wait_s
    while True:
        try:
            found = client.trace(identifier)
            known = {span.span_id for span in found.spans}
            loose = sum(span.parent_span_id not in known for span in found.spans)
            young = time.time() - found.start_time.ToNanoseconds() / 1e9 < _YOUNG_S
            if loose <= 1 or not young or time.monotonic() > stop_at:
                return found
        except SlipwayError as error:
            if error.code != "NOT_FOUND" or not _is_young(identifier) or time.monotonic() > stop_at:
                raise
        time.sleep(0.3)


def _is_young(identifier: str) -> bool:
    """Say whether this is the id of a prediction of just now: a UUIDv7 begins with its milliseconds."""
    start = identifier.removeprefix("predictions/").replace("-", "")[:12]
    try:
        made_at = int(start, 16) / 1000
    except ValueError:
        return False
    return identifier.count("-") >= _UUID_HYPHENS and 0 <= time.time() - made_at < _YOUNG_S


def _walk(root: Tree, spans: list[Any]) -> Iterator[tuple[dict[str, Tree], Any, Tree]]:
    """Yield each span after its parent, with the node to put it below."""
    known = {span.span_id for span in spans}
    children: dict[str, list[Any]] = {}
    for span in sorted(spans, key=lambda s: s.start_time.ToNanoseconds()):
        above = span.parent_span_id if span.parent_span_id in known else ""
        children.setdefault(above, []).append(span)
    nodes: dict[str, Tree] = {}
    waiting = [(span, root) for span in reversed(children.get("", []))]
    while waiting:
        span, node = waiting.pop()
        yield nodes, span, node
        waiting += [(child, nodes[span.span_id]) for child in reversed(children.get(span.span_id, []))]


def _line(span: Any, begin_ns: int, total_ms: float) -> str:
    start_ms = (span.start_time.ToNanoseconds() - begin_ns) / 1e6
    length_ms = milliseconds(span.duration)
    mark = f" [red]failed: {escape(span.status_message or 'no message')}[/red]" if span.error else ""
    name = f"[cyan]{escape(span.service)}[/cyan] {escape(span.operation)} [dim]{span.kind}[/dim]"
    return f"{name} [bold]{length_ms:.2f} ms[/bold] [dim]{bar(start_ms, length_ms, total_ms)}[/dim]{mark}"


def bar(start_ms: float, length_ms: float, total_ms: float) -> str:
    """Return where in the whole a span lies, as text of fixed width."""
    scale = _BAR / total_ms if total_ms > 0 else 0.0
    left = min(max(round(start_ms * scale), 0), _BAR - 1)
    length = min(max(round(length_ms * scale), 1), _BAR - left)
    return "·" * left + "█" * length + "·" * (_BAR - left - length)


def milliseconds(duration: Any) -> float:
    """Return a protobuf duration in milliseconds."""
    return float(duration.ToNanoseconds()) / 1e6


def edges(
    window: Annotated[int, typer.Option(help="The last so many seconds.", min=1)] = 300,
    as_json: AsJson = False,
) -> None:
    """List who called whom, with rates, errors and latency; queue edges too."""
    found = connect().monitoring.ListServiceEdges(mon.ListServiceEdgesRequest(window_s=window))
    if as_json:
        print_json(list(found.edges))
        return
    rows = [(e.source, e.destination, e.protocol, e.calls, e.errors, e.rate, e.p95_ms) for e in found.edges]
    columns = ["from", "to", "over", "calls", "errors", "per second", "p95 ms"]
    print_table(columns, rows, f"no call in the last {window} seconds")


def traces(
    service: Annotated[str, typer.Option(help="Only traces with a span of this service.")] = "",
    root: Annotated[str, typer.Option(help="Only traces that began here; `ingress`: from outside.")] = "",
    errors: Annotated[bool, typer.Option("--errors", help="Only traces with a failed span.")] = False,
    window: Annotated[int, typer.Option(help="The last so many seconds.", min=1)] = 300,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List recent requests by their traces, newest first."""
    request = mon.ListTracesRequest(service=service, root_service=root, errors_only=errors)
    request.start_time.FromNanoseconds(time.time_ns() - window * 10**9)
    found = list(pages(connect().monitoring.ListTraces, request, "traces", limit))
    if as_json:
        print_json(found)
        return
    rows = [
        (t.name.removeprefix("traces/"), t.start_time.ToJsonString(), milliseconds(t.duration), t.root,
         ", ".join(t.services), "failed" if t.error else "")
        for t in found
    ]  # fmt: skip
    columns = ["trace", "began", "ms", "what", "services", ""]
    print_table(columns, rows, f"no trace in the last {window} seconds")
