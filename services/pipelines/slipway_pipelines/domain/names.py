"""Resource names."""

import re
from collections.abc import Iterator

from slipway_runtime.errors import InvalidArgument

_ID = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
PIPELINE = re.compile(rf"pipelines/({_ID})")
VERSION = re.compile(rf"pipelines/({_ID})/versions/([0-9a-f]{{8,64}})")
RUN = re.compile(rf"pipelines/({_ID})/runs/([0-9a-f]{{32}})")
PIPELINE_ID = re.compile(_ID)
STEP_ID = re.compile(r"[a-z_][a-z0-9_]{0,59}")
ENTRY_POINT = re.compile(r"[\w./-]+\.py:[A-Za-z_]\w*")
MAX_NAMES = 200  # of one output

# What a step's output may name: collection/id, as deep as the services' names go.
_THING = re.compile(
    r"(?:datasets|commits|tags|labelingProjects|annotators|experiments|models|trainingJobs|scoringJobs|taskCode"
    r"|bundles|endpoints|monitors|alerts|captureImports|predictions|pipelines|entities|featureViews"
    r"|trainingSets)/[\w.@:-]+(?:/[\w.@:-]+){0,5}"
)


def ids_of(pattern: re.Pattern[str], form: str, name: str, field: str = "name") -> tuple[str, ...]:
    """Return the ids in a name.

    Raises:
        InvalidArgument: the name has another form.
    """
    match = pattern.fullmatch(name)
    if match is None:
        raise InvalidArgument.field(field, f"is {name!r}; send {form}")
    return match.groups()


def pipeline_id(name: str, field: str = "name") -> str:
    """Return the id in `pipelines/{pipeline}`."""
    return ids_of(PIPELINE, "pipelines/{pipeline}", name, field)[0]


def run_id(name: str, field: str = "name") -> tuple[str, str]:
    """Return the two ids in `pipelines/{pipeline}/runs/{run}`."""
    pipeline, run = ids_of(RUN, "pipelines/{pipeline}/runs/{run}", name, field)
    return pipeline, run


def version_id(name: str) -> tuple[str, str]:
    """Return the two ids in `pipelines/{pipeline}/versions/{digest}`."""
    pipeline, digest = ids_of(VERSION, "pipelines/{pipeline}/versions/{digest}", name)
    return pipeline, digest


def things(output: object) -> list[str]:
    """Return the names of things in an output, each once, at most 200."""
    found: dict[str, None] = {}
    for text in _texts(output):
        if _THING.fullmatch(text) and len(found) < MAX_NAMES:
            found[text] = None
    return list(found)


def _texts(output: object) -> Iterator[str]:
    if isinstance(output, str):
        yield output
    elif isinstance(output, dict):
        for value in output.values():
            yield from _texts(value)
    elif isinstance(output, list):
        for value in output:
            yield from _texts(value)
