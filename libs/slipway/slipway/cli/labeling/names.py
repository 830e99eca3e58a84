"""Names, answers and estimates of labelling as people write and read them."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from slipway.cli.platform_client import projects
from slipway.client import SlipwayError, resource
from slipway.labeling.v1 import labeling_pb2 as lab

Project = Annotated[str, typer.Argument(help="Id of the project.", autocompletion=projects)]
METHODS = {
    "majority": lab.MAJORITY,
    "weighted": lab.WEIGHTED,
    "dawid-skene": lab.DAWID_SKENE,
}


def project_name(text: str) -> str:
    """Return `labelingProjects/{project}`."""
    return resource("labelingProjects", text)


def part_name(project: str, collection: str, text: str) -> str:
    """Return the name of a project's task, annotator or snapshot by its id or whole name."""
    if text.startswith("labelingProjects/"):
        return text
    return f"{project_name(project)}/{collection}/{text.removeprefix(f'{collection}/')}"


def answer(labels: str) -> lab.Answer:
    """Return the answer of labels parted by commas."""
    return lab.Answer(choice=lab.Choice(labels=[one.strip() for one in labels.split(",") if one.strip()]))


def labels_of(message: Any, field: str) -> str:
    """Return the labels of an answer that may be unset."""
    if not message.HasField(field):
        return ""
    return ", ".join(getattr(message, field).choice.labels) or "(none)"


def chosen(option: str, text: str, values: Mapping[str, Any]) -> Any:
    """Return the value of a word.

    Raises:
        SlipwayError: It is no word of these.
    """
    if text not in values:
        said = f"{option} {text!r} is not known; say one of {', '.join(values)}"
        raise SlipwayError("INVALID_ARGUMENT", "INVALID_FIELD", said)
    return values[text]


def estimate(found: Any) -> tuple[object, str, int]:
    """Return an estimate's value, interval and count; a figure that is not defined says why."""
    if found.undefined_reason:
        return found.undefined_reason, "", found.count
    return found.value, interval(found.low, found.high), found.count


def interval(low: float, high: float) -> str:
    """Return an interval as people read it."""
    return f"{low:.3f} to {high:.3f}"


def last(name: str) -> str:
    """Return the id at a name's end."""
    return name.rpartition("/")[2]
