"""From predictions back to annotators, on a running platform: no edge is missing.

`make test` walks back from 60 rows, `make campaign` from 1,000 (SLIPWAY_FULL_CAMPAIGN).
"""

import os
import random
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from laptop_platform import Platform
from served import PEOPLE, Taught
from slipway.client import Client, pages
from slipway.client.lineage import impact, origin, parents
from slipway.client.provenance import Link, way_back
from slipway.monitoring.v1 import monitoring_pb2 as mon
from slipway.rollout.v1 import rollout_pb2 as rol

FULL = bool(os.environ.get("SLIPWAY_FULL_CAMPAIGN"))
pytestmark = [pytest.mark.xdist_group("platform"), pytest.mark.timeout(1800 if FULL else 600)]
ROWS = 1000 if FULL else 60
BATCH = 5
EVENTS_WITHIN_S = 180.0


@dataclass(frozen=True)
class World:
    """What was made on the platform, and which version answered which row.

    Attributes:
        name: Id of the endpoint.
        dataset: Id of the data set.
        commit: The snapshot that both versions were trained on.
        versions: Two.
        answered: Version by the name of the predicted row.
    """

    name: str
    dataset: str
    commit: str
    versions: tuple[str, ...]
    answered: dict[str, str]


@pytest.fixture(scope="module")
def world(platform: Platform, taught: Taught) -> Iterator[World]:
    """Two versions answer 70 and 30 % of the calls."""
    name = f"lineage-{uuid.uuid4().hex[:8]}"
    with Client.local() as client:
        served(client, platform, name, taught.name)
        answered = asked(client, name, taught)
        wait_for_events(client, name, len(answered))
        yield World(name, taught.name, taught.commit, taught.versions, answered)
        client.rollout.DeleteEndpoint(rol.DeleteEndpointRequest(name=f"endpoints/{name}", force=True))


def served(client: Client, platform: Platform, name: str, model: str) -> None:
    platform.slipway("endpoint", "create", name, "--model", model, "--capture", "all")
    for version in ("v1", "v2"):
        platform.slipway("endpoint", "deploy", name, version)
    platform.slipway("endpoint", "split", name, "v1=70", "v2=30")


def asked(client: Client, name: str, taught: Taught) -> dict[str, str]:
    """Ask about images, some rows a call, until each version has made three; return who answered, by row."""
    images = taught.images[..., None]
    answered: dict[str, str] = {}
    draw = np.random.default_rng(5)
    while len(answered) < 1.5 * ROWS or rarest(answered, taught) < 3 * BATCH:
        rows = images[draw.integers(0, len(images), BATCH)]
        answer = client.infer(name, {"image": rows})
        version = f"models/{taught.name}/versions/{answer.model_version}"
        answered |= {f"predictions/{answer.id}.{row}": version for row in range(BATCH)}
    return answered


def rarest(answered: dict[str, str], taught: Taught) -> int:
    return min([*answered.values()].count(version) for version in taught.versions)


def wait_for_events(client: Client, name: str, count: int) -> None:
    stop_at = time.monotonic() + EVENTS_WITHIN_S
    request = mon.ListPredictionsRequest(endpoint=f"endpoints/{name}")
    while True:
        try:
            seen = sum(1 for _ in pages(client.monitoring.ListPredictions, request, "predictions"))
        except Exception:  # the first event has not come yet
            seen = 0
        if seen >= count:
            return
        assert time.monotonic() < stop_at, f"{seen} of {count} rows have come"
        time.sleep(0.3)


def until_imported(client: Client, name: str) -> Any:
    stop_at = time.monotonic() + EVENTS_WITHIN_S
    while True:
        found = client.monitoring.GetCaptureImport(mon.GetCaptureImportRequest(name=name))
        if found.commit or found.state == mon.CaptureImport.FAILED or time.monotonic() > stop_at:
            assert found.commit, found.error
            return found
        time.sleep(0.3)


def gaps(links: list[Link], world: World, row: str) -> list[str]:
    """Return what is missing or wrong on the way back from a row."""
    found = [f"{row}: {link.step}: {link.missing}" for link in links if link.missing]
    facts = {link.step: link for link in links}
    if facts["version"].name != world.answered[row]:
        found.append(f"{row}: {facts['version'].name} is not {world.answered[row]}")
    if facts["serving"].facts.get("weight") not in {30, 70, 100}:
        found.append(f"{row}: weight {facts['serving'].facts.get('weight')}")
    if facts["commit"].name != world.commit:
        found.append(f"{row}: {facts['commit'].name} is not {world.commit}")
    people = {one["annotator"] for one in facts["labels"].facts.get("annotators", [])}
    if people != {f"annotators/{person.name}" for person in PEOPLE}:
        found.append(f"{row}: {sorted(people)}")
    return found


def test_from_random_predictions_back_to_the_annotators_no_edge_is_missing(world: World) -> None:
    rows = random.Random(7).sample(sorted(world.answered), ROWS)

    with Client.local() as client:
        missing = [gap for row in rows for gap in gaps(way_back(client, row), world, row)]
        straight = [set(parents(client, row)) for row in rows]

    assert missing == []
    endpoint = f"endpoints/{world.name}"
    assert straight == [{world.answered[row], endpoint} for row in rows]
    assert {world.answered[row] for row in rows} == set(world.versions)


def test_the_walk_over_all_services_reaches_each_annotator_and_every_owner_could_tell(world: World) -> None:
    row = next(iter(world.answered))

    with Client.local() as client:
        found = origin(client, row)

    assert found.missing == ()
    assert sorted(found.of_kind("annotators")) == [f"annotators/{person.name}" for person in PEOPLE]
    assert found.of_kind("versions") == [world.answered[row]]
    assert len(found.of_kind("taskCode")) == len(found.of_kind("runs")) == 1


def test_a_captured_input_leads_forward_to_its_commit_and_that_back_to_who_labelled_what_answered_it(
    world: World,
) -> None:
    with Client.local() as client:
        wanted = mon.CaptureImport(
            endpoint=f"endpoints/{world.name}",
            dataset=f"datasets/{world.dataset}",
            branch="caught",
            max_count=5,
        )
        branch = client.ingestion.request(
            "CreateBranch", parent=f"datasets/{world.dataset}", branch_id="caught", commit=world.commit
        )
        client.ingestion.CreateBranch(branch)
        request = mon.CreateCaptureImportRequest(capture_import=wanted)
        made = client.monitoring.CreateCaptureImport(request)
        done = until_imported(client, made.name)
        back = origin(client, done.commit)
        row = back.of_kind("predictions")[0]
        forward = impact(client, row)
        told = way_back(client, row)[0]

    assert set(back.of_kind("predictions")) <= set(world.answered)
    assert len(back.of_kind("predictions")) == 5
    assert back.missing == forward.missing == ()
    assert {f"annotators/{person.name}" for person in PEOPLE} <= set(back.names)
    assert done.commit in forward.of_kind("commits")
    assert told.facts["became"] == [done.commit]


def test_an_annotator_leads_forward_to_the_weight_and_the_share_of_live_traffic(
    world: World, platform: Platform
) -> None:
    with Client.local() as client:
        found = impact(client, f"annotators/{PEOPLE[0].name}")
    told = platform.slipway("impact", f"annotators/{PEOPLE[0].name}")

    assert found.missing == ()
    assert set(world.versions) <= set(found.of_kind("versions"))
    traffic = told["traffic"][f"endpoints/{world.name}"]
    assert (traffic["weight"], traffic["observed_share"]) == (100, 1.0)
    assert traffic["observed_rows"] == len(world.answered)


def test_trace_prints_the_way_back_and_the_spans_and_an_unknown_id_is_refused(
    world: World, platform: Platform
) -> None:
    row = next(reversed(world.answered))

    told = platform.slipway("trace", row.removeprefix("predictions/"))
    unknown = platform.slipway("trace", "predictions/0192f00d-none.0", "--wait", "0", check=False)

    steps = [link["step"] for link in told["way_back"]]
    assert steps == ["prediction", "serving", "version", "run", "commit", "labels"]
    assert {"ingress", "gateway", "inference"} <= set(told["services"])
    assert unknown == {}
