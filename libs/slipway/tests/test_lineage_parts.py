"""The walk over the services and the way back, where the owners are simple listings."""

from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from rich.console import Console
from slipway.cli.provenance import tree_of
from slipway.client import SlipwayError
from slipway.client.lineage import Graph, Missing, impact, kind_of, origin
from slipway.client.provenance import Link
from slipway.client.reproduction import Member, Reproduction
from slipway.registry.v1 import registry_pb2 as reg

VERSION = "models/flowers/versions/3"
COMMIT = "datasets/flowers/commits/" + "a" * 64


class Owner:
    """A service that knows edges by name, two a page; an error stands for a name that it cannot tell."""

    def __init__(self, edges: dict[str, list[str] | SlipwayError]) -> None:
        self.edges = edges
        self.asked: list[str] = []

    def request(self, verb: str, name: str) -> Any:
        return reg.ListChildrenRequest(name=name)

    def ListChildren(self, request: Any) -> Any:
        self.asked.append(request.name)
        found = self.edges.get(request.name, [])
        if isinstance(found, SlipwayError):
            raise found
        start = int(request.page_token or 0)
        token = str(start + 2) if start + 2 < len(found) else ""
        return reg.ListChildrenResponse(names=found[start : start + 2], next_page_token=token)

    ListParents = ListChildren


class Services:
    """Owners by name; those not named know nothing."""

    def __init__(self, **owners: dict[str, list[str] | SlipwayError]) -> None:
        self._owners = {name: Owner(edges) for name, edges in owners.items()}

    def __getattr__(self, name: str) -> Owner:
        return self._owners.setdefault(name, Owner({}))


def walked(walk: Any, root: str, **owners: dict[str, list[str] | SlipwayError]) -> Graph:
    return walk(Services(**owners), root)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (VERSION, "versions"),
        ("pipelines/retrain/versions/" + "b" * 64, "pipelineVersions"),
        ("experiments/flowers/runs/1", "runs"),
        ("pipelines/retrain/runs/1", "pipelineRuns"),
        ("endpoints/flowers/rollouts/2", "rollouts"),
        ("predictions/0192-a.0", "predictions"),
        ("imports/flowers", "other"),
    ],
)
def test_a_name_says_what_kind_of_thing_it_is(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_an_alert_leads_over_its_pipeline_run_to_what_that_made_and_where_it_serves() -> None:
    run = "pipelines/retrain/runs/1"

    found = walked(
        impact,
        "alerts/7",
        pipelines={"alerts/7": [run], run: [COMMIT, VERSION, "endpoints/flowers/rollouts/2"]},
        rollout={VERSION: ["endpoints/flowers"]},
    )

    assert found.of_kind("endpoints") == ["endpoints/flowers"]
    assert found.of_kind("rollouts") == ["endpoints/flowers/rollouts/2"]
    assert found.missing == ()


def test_an_owner_that_cannot_tell_is_named_and_the_walk_goes_on() -> None:
    gone = SlipwayError("UNAVAILABLE", "UNAVAILABLE", "rollout cannot be reached")

    found = walked(
        impact,
        COMMIT,
        registry={COMMIT: ["experiments/flowers/runs/1"], "experiments/flowers/runs/1": [VERSION]},
        rollout={VERSION: gone},
        training={VERSION: ["scoringJobs/9"]},
    )

    assert found.missing == (Missing(VERSION, "rollout", "rollout cannot be reached"),)
    assert found.of_kind("scoringJobs") == ["scoringJobs/9"]


def test_a_walk_that_nobody_can_begin_is_refused_by_the_owners_reason() -> None:
    unknown = SlipwayError("NOT_FOUND", "ANNOTATOR_NOT_FOUND", "there is no annotator 'an'")

    with pytest.raises(SlipwayError, match="no annotator 'an'"):
        walked(impact, "annotators/an", labeling={"annotators/an": unknown})


def test_a_way_back_does_not_go_on_from_an_endpoint_to_other_versions_that_it_serves() -> None:
    prediction = "predictions/0192-a.0"

    found = walked(
        origin,
        prediction,
        monitoring={prediction: [VERSION, "endpoints/flowers"]},
        rollout={"endpoints/flowers": ["models/flowers/versions/1"]},
        registry={VERSION: ["experiments/flowers/runs/1"]},
    )

    assert found.of_kind("versions") == [VERSION]
    assert found.of_kind("runs") == ["experiments/flowers/runs/1"]


def printed(links: list[Link]) -> str:
    screen = Console(width=200, file=StringIO())
    screen.print(tree_of(links))
    return screen.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_the_way_back_is_printed_with_what_is_missing_where_it_should_stand() -> None:
    facts = {"class": "rose", "confidence": 0.982, "label": "tulip", "label_source": "annotations/4"}
    facts |= {
        "label_annotator": "annotators/ann",
        "role": "live",
        "time": "",
        "latency_ms": 1.0,
        "became": [],
    }
    who = {"annotator": "annotators/ann", "annotations": 298, "examples": 298, "such_as": ["annotations/1"]}
    sources = {"annotations": 298, "imports/flowers": 1497}

    text = printed(
        [
            Link("prediction", "predictions/0199-a.0", facts),
            Link("serving", "endpoints/flowers", missing="rollout cannot be reached"),
            Link("version", VERSION, {"bundle": "bundles/9c", "state": "approved", "gate_verdict": "",
                                      "aliases": ["champion"], "metrics": {"accuracy": 0.9713}}),
            Link("labels", COMMIT, {"sources": sources, "annotators": [{**who, "commit": COMMIT}]}),
        ]
    )  # fmt: skip

    assert "rose 0.982, wrong: it is tulip (annotators/ann)" in text
    assert "serving endpoints/flowers  missing: rollout cannot be reached" in text
    assert "approved (champion) accuracy=0.9713" in text
    assert "298 from annotations, 1,497 from imports/flowers" in text
    assert "annotators/ann 298 annotations of 298 examples" in text


def test_why_a_reproduction_differs_names_what_was_other_around_it() -> None:
    names = {"run": "r", "repeated_run": "s", "version": "v", "repeated_version": "w"}
    files = (Member("weights.safetensors", "1", "2"), Member("signature.json", "3", "3"))
    one = Reproduction(
        **names, bundle="a", repeated_bundle="b", files=files, conditions={"torch": ("2.1", "2.2")}
    )

    assert not one.equal
    assert [member.file for member in files if not member.equal] == ["weights.safetensors"]
    assert "torch 2.1 → 2.2" in one.why()
    assert "the seed does not reach" in replace(one, conditions={}).why()
    assert replace(one, repeated_bundle="a").why() == ""
