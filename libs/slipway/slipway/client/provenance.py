"""The way back from one prediction: what served it, what that was made of, and who gave the labels.

A link whose owner cannot tell says why; the links behind it are looked for as far as their names are known.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format
from slipway.client.errors import SlipwayError
from slipway.client.paging import pages
from slipway.ingestion.v1 import ingestion_pb2 as ing
from slipway.labeling.v1 import labeling_pb2 as lab
from slipway.monitoring.v1 import monitoring_pb2 as mon
from slipway.registry.v1 import registry_pb2 as reg
from slipway.rollout.v1 import rollout_pb2 as rol

if TYPE_CHECKING:
    from slipway.client.client import Client

MAX_SERVINGS = 10_000
MAX_COMMITS = 200  # back from the one trained on
MAX_CONTRIBUTORS = 1000
_UNSERVED = {
    mon.PredictionEvent.SHADOW: "a mirror",
    mon.PredictionEvent.TESTER: "a tester's request by header",
}


@dataclass(frozen=True)
class Link:
    """One step of the way back.

    Attributes:
        step: `prediction`, `serving`, `version`, `run`, `commit` or `labels`.
        name: Resource name; empty where it is not known.
        facts: What is told of it, by name.
        missing: Why nothing is known; empty when something is.
    """

    step: str
    name: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    missing: str = ""


def way_back(client: "Client", prediction: str) -> list[Link]:
    """Return the links from a prediction to the people whose labels its version learnt from.

    Args:
        client: The platform.
        prediction: `predictions/{prediction id}.{row}`, or the id alone.

    Raises:
        SlipwayError: No event of the prediction is kept (PREDICTION_NOT_FOUND), or the name has another form.
    """
    name = prediction if prediction.startswith("predictions/") else f"predictions/{prediction}"
    found = client.monitoring.GetPrediction(mon.GetPredictionRequest(name=name))
    links = [_prediction(client, found)]
    links.append(_link("serving", found.endpoint, lambda: _serving(client, found)))
    version = _read(
        lambda: client.registry.GetModelVersion(reg.GetModelVersionRequest(name=found.model_version))
    )
    links.append(_told("version", found.model_version, version, _version))
    run_name = getattr(version, "run", "")
    run = _read(lambda: client.registry.GetRun(reg.GetRunRequest(name=run_name)), needed=run_name)
    links.append(_told("run", run_name, run, _run))
    commit = getattr(version, "dataset_commit", "")
    links.append(_link("commit", commit, lambda: _commit(client, commit)))
    links.append(_link("labels", commit, lambda: _labels(client, commit)))
    return links


def _read(read: Callable[[], Any], *, needed: str = "-") -> Any:
    """Return what is read, or the error that says why it cannot be."""
    try:
        return read() if needed else _behind_a_gap()
    except SlipwayError as error:
        return error


def _told(step: str, name: str, found: Any, facts: Callable[[Any], dict[str, Any]]) -> Link:
    if isinstance(found, SlipwayError):
        return Link(step, name, missing=found.message)
    return Link(step, name, facts(found))


def _link(step: str, name: str, facts: Callable[[], dict[str, Any]]) -> Link:
    found = _read(facts, needed=name)
    return _told(step, name, found, dict)


def _behind_a_gap() -> SlipwayError:
    return SlipwayError("NOT_FOUND", "NOT_KNOWN", "its name stands in the link before, which is missing")


def _prediction(client: "Client", found: Any) -> Link:
    facts = {
        "class": found.predicted_label,
        "confidence": found.confidence,
        "label": found.label,
        "label_source": found.label_source,
        "label_annotator": _annotator(client, found.label_source),
        "role": mon.PredictionEvent.Role.Name(found.role).lower(),
        "time": found.time.ToJsonString(),
        "endpoint": found.endpoint,
        "model_version": found.model_version,
        "latency_ms": found.latency_ms,
        "captured": found.captured,
        "trace": found.trace,
        "became": _became(client, found.name),
    }
    return Link("prediction", found.name, facts)


def _annotator(client: "Client", source: str) -> str:
    """Return who gave a late label, where its source is an annotation that labeling knows."""
    if not source.startswith("annotations/"):
        return ""
    first = source.partition(",")[0]
    found = _read(lambda: client.labeling.GetAnnotation(lab.GetAnnotationRequest(name=first)))
    return "" if isinstance(found, SlipwayError) else str(found.annotator)


def _became(client: "Client", name: str) -> list[str]:
    """Return the commits that took the prediction's input in as an example."""
    request = ing.ListChildrenRequest(name=name)
    found = _read(lambda: list(pages(client.ingestion.ListChildren, request, "names")))
    return [] if isinstance(found, SlipwayError) else found


def _serving(client: "Client", found: Any) -> dict[str, Any]:
    """Return the weight in force when the prediction was made.

    Raises:
        SlipwayError: Nothing is kept about the version's weight then.
    """
    at = found.time.ToNanoseconds()
    request = rol.ListServingsRequest(parent=found.endpoint)
    for one in pages(client.rollout.ListServings, request, "servings", MAX_SERVINGS):
        if one.model_version == found.model_version and _covers(one, at):
            told = {"weight": one.weight, "by": one.actor, "why": one.reason}
            told["start_time"] = one.start_time.ToJsonString()
            told["end_time"] = one.end_time.ToJsonString() if one.HasField("end_time") else ""
            return told
    if found.role in _UNSERVED:
        return {"weight": 0, "why": f"it was {_UNSERVED[found.role]}, not part of the split"}
    text = f"{found.endpoint} has no record of what weight {found.model_version} had at that time"
    raise SlipwayError("NOT_FOUND", "SERVING_NOT_FOUND", text)


def _covers(serving: Any, at_ns: int) -> bool:
    ended = serving.HasField("end_time") and serving.end_time.ToNanoseconds() <= at_ns
    return bool(serving.start_time.ToNanoseconds() <= at_ns and not ended)


def _version(version: Any) -> dict[str, Any]:
    return {
        "bundle": version.bundle,
        "state": reg.ModelVersion.State.Name(version.state).lower(),
        "gate_verdict": version.gate_verdict,
        "aliases": list(version.aliases),
        "metrics": dict(version.evaluation.metrics),
        "evaluated_on": version.evaluation.split,
    }


def _run(run: Any) -> dict[str, Any]:
    return {
        "code_digest": run.code_digest,
        "hyperparameters": json_format.MessageToDict(run.params),
        "seed": run.seed,
        "job": run.job,
        "creator": run.creator,
        "environment": dict(run.environment),
    }


def _commit(client: "Client", name: str) -> dict[str, Any]:
    commit = client.ingestion.GetCommit(ing.GetCommitRequest(name=name))
    facts = {"message": commit.message, "author": commit.author, "examples": commit.example_count}
    return {**facts, "parent": commit.parent, "time": commit.create_time.ToJsonString()}


def _labels(client: "Client", commit: str) -> dict[str, Any]:
    """Return where the labels of a commit came from: sources with counts, and annotators."""
    sources = Counter[str]()
    statistics = client.ingestion.GetCommitStatistics(
        ing.GetCommitStatisticsRequest(name=commit), timeout=120
    )
    for source, count in statistics.label_source_counts.items():
        sources["annotations" if source.startswith("annotations/") else source or "unlabelled"] += count
    found = list(_contributors(client, commit)) if sources["annotations"] else []
    return {"sources": dict(sources), "annotators": found}


def _contributors(client: "Client", commit: str) -> Iterator[dict[str, Any]]:
    """Yield who gave labels to the snapshots that the commit stands on, nearest commit first."""
    dataset, _, digest = commit.partition("/commits/")
    log = ing.ListCommitsRequest(parent=dataset, start=digest)
    for one in pages(client.ingestion.ListCommits, log, "commits", MAX_COMMITS):
        request = lab.ListContributorsRequest(parent=one.name)
        for who in pages(client.labeling.ListContributors, request, "contributors", MAX_CONTRIBUTORS):
            yield {
                "annotator": who.annotator,
                "annotations": who.annotation_count,
                "examples": who.example_count,
                "such_as": list(who.annotations),
                "commit": one.name,
            }


__all__ = ["Link", "way_back"]
