"""`slipway monitor feedback`: what a prediction should have been."""

import csv
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from slipway.cli.output import AsJson, print_facts, print_json
from slipway.cli.platform_client import connect
from slipway.client import SlipwayError, resource
from slipway.monitoring.v1 import monitoring_pb2 as mon

_AT_ONCE = 10_000
_COUNTS = ("recorded_count", "repeated_count", "changed_count", "waiting_count")


def feedback(
    labels: Annotated[
        list[str] | None,
        typer.Argument(metavar="PREDICTION=LABEL...", help="Prediction ids, with .ROW where not 0."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="FILE.jsonl or FILE.csv with prediction, label and maybe source.")
    ] = None,
    source: Annotated[str, typer.Option(help="Who or what says so, where the file does not.")] = "",
    as_json: AsJson = False,
) -> None:
    """Send true labels; each joins its prediction whenever it comes, before the event or after."""
    client, totals, unknown = connect(), dict.fromkeys(_COUNTS, 0), set[str]()
    rows = iter([*parse_labels(labels or [], source), *(read_labels(file, source) if file else ())])
    while part := list(islice(rows, _AT_ONCE)):
        told = client.monitoring.RecordFeedback(mon.RecordFeedbackRequest(feedback=part), timeout=120)
        totals = {name: count + getattr(told, name) for name, count in totals.items()}
        unknown |= set(told.unknown_labels)
    if as_json:
        print_json({**totals, "unknown_labels": sorted(unknown)})
        return
    words = {"recorded_count": "new", "repeated_count": "known already", "changed_count": "changed"}
    print_facts([(words.get(name, "wait for their event"), count) for name, count in totals.items()])
    print_facts([("no class of the model", ", ".join(sorted(unknown)))])


def parse_labels(pairs: Iterable[str], source: str) -> Iterator[mon.Feedback]:
    """Yield labels of `PREDICTION=LABEL`.

    Raises:
        SlipwayError: One has no `=`, no prediction or no label.
    """
    for pair in pairs:
        prediction, _, label = pair.partition("=")
        if not prediction or not label:
            raise _refused(f"{pair!r} is no label of a prediction; write PREDICTION=LABEL")
        yield mon.Feedback(prediction=resource("predictions", prediction), label=label, source=source)


def read_labels(file: Path, source: str) -> Iterator[mon.Feedback]:
    """Yield labels of a file; a row that is no label is refused by its line, before anything is sent.

    Raises:
        SlipwayError: The file cannot be read, or a row lacks prediction or label.
    """
    try:
        with file.open(newline="") as lines:
            rows = (
                csv.DictReader(lines) if file.suffix == ".csv" else map(json.loads, filter(str.strip, lines))
            )
            for number, row in enumerate(rows, start=2 if file.suffix == ".csv" else 1):
                if not isinstance(row, dict) or not row.get("prediction") or not row.get("label"):
                    raise _refused(f"{file}, line {number}: write prediction and label in every row")
                said = {"label": str(row["label"]), "source": str(row.get("source") or source)}
                yield mon.Feedback(prediction=resource("predictions", str(row["prediction"])), **said)
    except (OSError, ValueError) as error:
        raise _refused(f"{file} cannot be read ({error}); name a .jsonl or .csv file") from error


def _refused(message: str) -> SlipwayError:
    return SlipwayError("INVALID_ARGUMENT", "INVALID_FIELD", message)


__all__ = ["feedback", "parse_labels", "read_labels"]
