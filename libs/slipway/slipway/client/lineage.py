"""The walk over the services: what was made of a thing, and what it was made of.

Every owner answers from its own tables (`ListChildren`, `ListParents`); this is the one place that knows
whom to ask about what. A commit leads to those made on it: a row stays in later commits unless they take it
out, so what is found is what a thing may have reached, never less.
"""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slipway.client.errors import SlipwayError
from slipway.client.paging import pages

if TYPE_CHECKING:
    from slipway.client.client import Client

MAX_NAMES = 100_000
_AT_ONCE = 8
_ANY = "[^/]+"
# What the name of a thing looks like → its kind, the services that know its children, and those that know its
# parents.
_OWNERS: tuple[tuple[str, str, tuple[str, ...], tuple[str, ...]], ...] = (
    (f"annotators/{_ANY}", "annotators", ("labeling",), ()),
    (f"annotations/{_ANY}", "annotations", ("labeling",), ("labeling",)),
    (f"labelingProjects/{_ANY}", "projects", ("labeling",), ()),
    (f"labelingProjects/{_ANY}/tasks/{_ANY}", "tasks", ("labeling",), ("labeling",)),
    (f"predictions/{_ANY}", "predictions", ("ingestion",), ("monitoring",)),
    (f"captureImports/{_ANY}", "captureImports", ("monitoring",), ("monitoring",)),
    (
        f"datasets/{_ANY}/commits/{_ANY}",
        "commits",
        ("ingestion", "registry", "training"),
        ("ingestion", "labeling", "pipelines"),
    ),
    (f"datasets/{_ANY}/erasures/{_ANY}", "erasures", ("ingestion",), ()),
    (f"taskCode/{_ANY}", "taskCode", ("training",), ()),
    (f"trainingJobs/{_ANY}", "trainingJobs", ("training",), ("training", "pipelines")),
    (f"experiments/{_ANY}/runs/{_ANY}", "runs", ("registry",), ("registry",)),
    (
        f"models/{_ANY}/versions/{_ANY}",
        "versions",
        ("rollout", "training"),
        ("registry", "pipelines"),
    ),
    (f"scoringJobs/{_ANY}", "scoringJobs", ("training",), ("training", "pipelines")),
    (f"models/{_ANY}/versions/{_ANY}/evaluations/{_ANY}", "evaluations", (), ()),
    (f"endpoints/{_ANY}/rollouts/{_ANY}", "rollouts", ("rollout",), ("rollout", "pipelines")),
    (f"endpoints/{_ANY}", "endpoints", (), ("rollout",)),
    (f"alerts/{_ANY}", "alerts", ("pipelines",), ("monitoring",)),
    (f"pipelines/{_ANY}", "pipelines", ("pipelines",), ()),
    (f"pipelines/{_ANY}/versions/{_ANY}", "pipelineVersions", ("pipelines",), ("pipelines",)),
    (f"pipelines/{_ANY}/runs/{_ANY}", "pipelineRuns", ("pipelines",), ("pipelines",)),
)
KINDS = (*(kind for _, kind, _, _ in _OWNERS), "other")
# Where a walk ends: an endpoint serves versions, it is not made of those that it serves now.
_ENDS = {"ListParents": {"endpoints", "other"}, "ListChildren": {"other"}}


@dataclass(frozen=True)
class Missing:
    """An edge that is not known: whose, who was asked, and why there is no answer."""

    name: str
    service: str
    why: str


@dataclass(frozen=True)
class Graph:
    """What a walk found.

    Attributes:
        root: Where it began.
        names: Every name found, the root too, nearest first.
        edges: (from, to) in the direction of the walk.
        missing: Edges that their owners could not tell: what is behind them is not in the graph.
    """

    root: str
    names: tuple[str, ...]
    edges: tuple[tuple[str, str], ...]
    missing: tuple[Missing, ...] = ()

    def of_kind(self, kind: str) -> list[str]:
        """Return the names of a kind, such as `versions`, nearest first."""
        return [name for name in self.names if kind_of(name) == kind]


def kind_of(name: str) -> str:
    """Return what a resource name is: `models/a/versions/1` is of `versions`."""
    return next((kind for pattern, kind, _, _ in _OWNERS if re.fullmatch(pattern, name)), "other")


def children(client: "Client", name: str) -> Iterator[str]:
    """Yield what was made of a thing, one step on.

    Raises:
        SlipwayError: The name is of no kind that has a lineage, or its owner does not know it.
    """
    yield from _step(client, name, "ListChildren")


def parents(client: "Client", name: str) -> Iterator[str]:
    """Yield what a thing was made of, one step back; errors as `children`."""
    yield from _step(client, name, "ListParents")


def impact(client: "Client", name: str) -> Graph:
    """Return all that a thing reached: annotations, commits, runs, versions, endpoints, and on."""
    return _walk(client, name, "ListChildren")


def origin(client: "Client", name: str) -> Graph:
    """Return all that a thing came of, back to annotators."""
    return _walk(client, name, "ListParents")


def _walk(client: "Client", root: str, verb: str) -> Graph:
    """Walk level by level; the names of a level are asked about side by side."""
    found: dict[str, None] = {root: None}  # a dict keeps the order
    edges: list[tuple[str, str]] = []
    missing: list[Missing] = []
    level = [root]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        while level:
            goes_on = [name for name in level if name == root or kind_of(name) not in _ENDS[verb]]
            told = pool.map(lambda name: _told(client, name, verb, strict=name == root), goes_on)
            level = []
            for name, (others, gaps) in zip(goes_on, told, strict=True):
                edges += [(name, other) for other in others]
                missing += gaps
                new = [other for other in dict.fromkeys(others) if other not in found]
                if len(found) + len(new) > MAX_NAMES:
                    raise _too_large(root)
                found |= dict.fromkeys(new)
                level += new
    return Graph(root, tuple(found), tuple(edges), tuple(missing))


def _too_large(root: str) -> SlipwayError:
    message = f"{root} leads to more than {MAX_NAMES:,} things; begin nearer to what you look for"
    return SlipwayError("OUT_OF_RANGE", "LINEAGE_TOO_LARGE", message)


def _told(client: "Client", name: str, verb: str, *, strict: bool) -> tuple[list[str], list[Missing]]:
    """Return the next names; an owner that cannot tell is put down as missing, not passed over.

    Where the walk begins, nobody knowing the name is an error.
    """
    names: list[str] = []
    missing: list[Missing] = []
    refusals: list[SlipwayError] = []
    asked = _asked(name, verb)
    for service in asked:
        try:
            names += _edges(client, service, name, verb)
        except SlipwayError as error:
            refusals.append(error)
            missing.append(Missing(name, service, error.message))
    if strict and refusals and len(refusals) == len(asked):
        raise refusals[0]
    return names, missing


def _step(client: "Client", name: str, verb: str) -> Iterator[str]:
    for service in _asked(name, verb):
        yield from _edges(client, service, name, verb)


def _edges(client: "Client", service: str, name: str, verb: str) -> Iterator[str]:
    stub: Any = getattr(client, service)
    yield from pages(getattr(stub, verb), stub.request(verb, name=name), "names")


def _asked(name: str, verb: str) -> tuple[str, ...]:
    for pattern, _, below, above in _OWNERS:
        if re.fullmatch(pattern, name):
            return below if verb == "ListChildren" else above
    message = (
        f"{name!r} has no lineage; name an annotator, annotation, prediction, commit, run, version, "
        "endpoint, alert or pipeline run, such as annotators/ann or models/flowers/versions/3"
    )
    raise SlipwayError("INVALID_ARGUMENT", "INVALID_NAME", message)
