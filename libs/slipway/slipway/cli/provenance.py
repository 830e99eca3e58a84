"""The way back from a prediction, as a tree."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.tree import Tree
from slipway.cli.output import short, show
from slipway.client.provenance import Link

_SHOWN = 10
Facts = Mapping[str, Any]


def tree_of(links: Sequence[Link]) -> Tree:
    """Return the links, each below the one that came of it; what is missing is said where it should stand."""
    root = node = Tree(_line(links[0]))
    for link in links:
        if link is not links[0]:
            node = node.add(_line(link))
        for line in () if link.missing or link.step not in _LINES else _LINES[link.step](link.facts):
            node.add(line, style="default")
    return root


def _line(link: Link) -> str:
    head = f"[bold]{escape(link.step)}[/bold] {escape(short(link.name))}"
    if link.missing:
        return f"{head}  [yellow]missing: {escape(link.missing)}[/yellow]"
    return f"{head}  {_HEADS[link.step](link.facts)}".rstrip()


def _prediction(facts: Facts) -> str:
    said = f"[cyan]{escape(facts['class'] or '?')}[/cyan] {facts['confidence']:.3f}"
    return f"{said}, {escape(_label(facts))}"


def _label(facts: Facts) -> str:
    if not facts["label"]:
        return "no label came"
    verdict = "right" if facts["label"] == facts["class"] else f"wrong: it is {facts['label']}"
    who = facts["label_annotator"] or facts["label_source"]
    return f"{verdict} ({who})" if who else verdict


def _of_prediction(facts: Facts) -> list[str]:
    seen = f"[dim]{facts['role']}, {facts['time']}, {facts['latency_ms']:.2f} ms in the front[/dim]"
    return [seen, *(f"its input became an example of {escape(short(name))}" for name in facts["became"])]


def _serving(facts: Facts) -> str:
    by = f" by {facts['by']}" if facts.get("by") else ""
    why = f": {facts['why']}" if facts.get("why") else ""
    return escape(f"weight {facts['weight']} %{by}{why}")


def _version(facts: Facts) -> str:
    aliases = f" ({', '.join(facts['aliases'])})" if facts["aliases"] else ""
    figures = " ".join(f"{key}={value:.4g}" for key, value in sorted(facts["metrics"].items())[:3])
    return escape(f"{facts['state']}{aliases} {figures}")


def _of_version(facts: Facts) -> list[str]:
    return [escape(name) for name in (short(facts["bundle"]), facts["gate_verdict"]) if name]


def _run(facts: Facts) -> str:
    return escape(f"{short(facts['code_digest'])} seed {facts['seed']}")


def _of_run(facts: Facts) -> list[str]:
    given = " ".join(f"{name}={show(value)}" for name, value in sorted(facts["hyperparameters"].items()))
    return [escape(line) for line in (given, facts["job"]) if line]


def _commit(facts: Facts) -> str:
    return escape(f"{facts['examples']:,} examples, {facts['message']!r} by {facts['author']}")


def _labels(facts: Facts) -> str:
    return escape(", ".join(f"{count:,} from {source}" for source, count in facts["sources"].items()))


def _of_labels(facts: Facts) -> list[str]:
    rows = facts["annotators"]
    lines = [_contributor(row) for row in rows[:_SHOWN]]
    more = len(rows) - _SHOWN
    return [*lines, f"[dim]and {more:,} more; --json lists all[/dim]"] if more > 0 else lines


def _contributor(row: Facts) -> str:
    counts = f"{row['annotations']:,} annotations of {row['examples']:,} examples"
    where = escape(f"{short(row['commit'])}, such as {', '.join(row['such_as'])}")
    return f"[green]{escape(row['annotator'])}[/green] {counts} in {where}"


_HEADS: dict[str, Callable[[Facts], str]] = {
    "prediction": _prediction,
    "serving": _serving,
    "version": _version,
    "run": _run,
    "commit": _commit,
    "labels": _labels,
}
_LINES: dict[str, Callable[[Facts], list[str]]] = {
    "prediction": _of_prediction,
    "version": _of_version,
    "run": _of_run,
    "labels": _of_labels,
}


__all__ = ["tree_of"]
