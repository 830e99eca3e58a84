"""Objects, patches, and what a Deployment says."""

import copy
import re
from dataclasses import replace
from typing import Any

import pytest
from slipway_rollout.domain import Endpoint, ServedVersion, State
from slipway_rollout.engine import buckets, manifests, route, status

PLACEMENT = manifests.Placement(
    namespace="slipway-models",
    image="slipway-inference:1",
    service_account="inference",
    gateway="slipway/grpc",
    environment=(("SLIPWAY_REGISTRY", "registry:8500"),),
    cpu_request="1",
    cpu_limit="2",
    memory_request="1Gi",
    memory_limit="2Gi",
    progress_deadline_s=60,
)


def endpoint(*weights: int) -> Endpoint:
    versions = tuple(
        ServedVersion(f"models/m/versions/{number}", weight, State.READY, routed=True)
        for number, weight in enumerate(weights, 1)
    )
    return Endpoint("e", "models/m", versions=versions)


def standing(*weights: int, **fields: Any) -> dict[str, Any]:
    asked = replace(endpoint(*weights), **fields)
    made = manifests.virtual_service(asked, asked.versions, PLACEMENT)
    made["metadata"]["resourceVersion"] = "41"
    return copy.deepcopy(made)


def wanted(*weights: int, **fields: Any) -> dict[str, Any]:
    asked = replace(endpoint(*weights), **fields)
    return manifests.virtual_service(asked, asked.versions, PLACEMENT)


def test_testers_come_before_buckets_and_these_before_the_split() -> None:
    names = [r["name"] for r in wanted(90, 10)["spec"]["http"]]

    assert names == ["tester-v1", "tester-v2", "sticky-v1", "sticky-v2", "split"]


@pytest.mark.parametrize(("first", "end"), [(0, 1), (0, 5), (0, 25), (0, 37), (5, 100), (99, 100), (0, 100)])
def test_a_pattern_matches_the_buckets_of_its_range_and_no_others(first: int, end: int) -> None:
    pattern = buckets.pattern(first, end)

    matched = [n for n in range(100) if re.fullmatch(pattern, f"{n:02}")]

    assert matched == list(range(first, end))
    assert not any(re.fullmatch(pattern, said) for said in ("", "1", "000", "none"))


@pytest.mark.parametrize("new", [1, 2])
def test_a_key_that_a_growing_version_got_stays_with_it(new: int) -> None:
    owned: set[int] = set()
    for weight in (0, 1, 5, 25, 50, 100):
        first, end = buckets.ranges({new: weight, 3 - new: 100 - weight})[new]
        assert owned <= set(range(first, end))
        owned = set(range(first, end))

    assert owned == set(range(100))


def test_what_comes_by_a_bucket_is_mirrored_too() -> None:
    routes = wanted(100, 0, shadow="v2", shadow_percent=50)["spec"]["http"]

    assert ["mirror" in route for route in routes] == [False, False, True, True, True]


def test_the_mirror_goes_to_a_subset_of_its_own() -> None:
    split = wanted(100, 0, shadow="v2", shadow_percent=50)["spec"]["http"][-1]
    rule = manifests.destination_rule(replace(endpoint(100, 0), shadow="v2"), ["v1", "v2"], PLACEMENT)

    assert split["mirror"]["subset"] == "shadow"
    assert split["mirrorPercentage"] == {"value": 50}
    assert rule["spec"]["subsets"][-1] == {"name": "shadow", "labels": {"version": "v2"}}


def test_new_weights_are_one_patch_that_tests_what_it_changes() -> None:
    patch = route.patch_to(standing(100, 0), wanted(90, 10, route_serial=1))

    lower, upper = {"regex": "0[0-9]"}, {"regex": "[1-9][0-9]"}
    assert patch[:8] == [
        {"op": "test", "path": "/metadata/resourceVersion", "value": "41"},
        {"op": "test", "path": "/spec/http/2/name", "value": "sticky-v1"},
        {"op": "replace", "path": "/spec/http/2/match", "value": [{"headers": {"slipway-bucket": upper}}]},
        {"op": "test", "path": "/spec/http/3/name", "value": "sticky-v2"},
        {"op": "replace", "path": "/spec/http/3/match", "value": [{"headers": {"slipway-bucket": lower}}]},
        {"op": "test", "path": "/spec/http/4/name", "value": "split"},
        {"op": "replace", "path": "/spec/http/4/route/0/weight", "value": 90},
        {"op": "replace", "path": "/spec/http/4/route/1/weight", "value": 10},
    ]
    assert all(step["path"].startswith("/metadata/annotations/") for step in patch[8:])


def test_a_route_that_stands_already_needs_no_patch() -> None:
    assert route.patch_to(standing(90, 10), wanted(90, 10, route_serial=7)) == []


def test_a_new_version_replaces_the_spec_as_a_whole() -> None:
    patch = route.patch_to(standing(100), wanted(100, 0))

    assert patch[1] == {"op": "replace", "path": "/spec", "value": wanted(100, 0)["spec"]}


def test_a_route_that_we_wrote_is_ours() -> None:
    found = route.read(standing(90, 10, route_serial=4))

    assert (found.intact, found.serial, found.weights) == (True, 5, {"v1": 90, "v2": 10})
    assert not route.is_foreign(found, 5)


def test_a_newer_serial_is_our_own_write_without_its_row() -> None:
    assert not route.is_foreign(route.read(standing(90, 10, route_serial=5)), 5)


def test_a_changed_weight_is_somebody_elses() -> None:
    edited = standing(90, 10)
    edited["spec"]["http"][-1]["route"][1]["weight"] = 50

    assert route.is_foreign(route.read(edited), 1)


def test_an_old_copy_that_was_put_back_is_somebody_elses() -> None:
    assert route.is_foreign(route.read(standing(90, 10, route_serial=2)), 9)


def test_what_differs_is_said_in_weights() -> None:
    found = route.read(standing(50, 50))

    assert route.differs(found, {"v1": 90, "v2": 10}) == "weights there: v1=50, v2=50; here: v1=90, v2=10"


def test_objects_of_two_endpoints_share_no_name_and_no_selector() -> None:
    one, two = replace(endpoint(100), id="a"), replace(endpoint(100), id="a-v1")
    deployments = [manifests.deployment(e, e.versions[0], PLACEMENT) for e in (one, two)]

    selectors = [d["spec"]["selector"]["matchLabels"] for d in deployments]
    labels = [d["spec"]["template"]["metadata"]["labels"] for d in deployments]

    assert deployments[0]["metadata"]["name"] != deployments[1]["metadata"]["name"]
    assert not selectors[0].items() <= labels[1].items()


def test_a_pod_is_told_its_slot_and_where_things_are() -> None:
    e = endpoint(100)
    pod = manifests.deployment(e, e.versions[0], PLACEMENT)["spec"]["template"]["spec"]
    given = {variable["name"]: variable["value"] for variable in pod["containers"][0]["env"]}

    assert given["SLIPWAY_SLOTS"] == "e=models/m/versions/1"
    assert given["SLIPWAY_REGISTRY"] == "registry:8500"


def deployment(asked: int = 2, **fields: Any) -> dict[str, Any]:
    return {
        "metadata": {"generation": 3},
        "spec": {"replicas": asked},
        "status": {"observedGeneration": 3, **fields},
    }


LATE = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "no pod"}


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (deployment(), State.STARTING),
        (deployment(readyReplicas=1), State.STARTING),
        (deployment(readyReplicas=2), State.READY),
        (deployment(conditions=[LATE]), State.FAILED),
        (deployment(readyReplicas=2, observedGeneration=2), State.STARTING),
    ],
)
def test_a_deployment_says_how_ready_its_version_is(found: dict[str, Any], state: State) -> None:
    version = ServedVersion("models/m/versions/1")

    assert status.observed(version, found).state is state


def test_a_version_that_does_not_come_up_says_why() -> None:
    observed = status.observed(ServedVersion("models/m/versions/1"), deployment(conditions=[LATE]))

    assert observed.error == "ProgressDeadlineExceeded: no pod"


def test_a_version_whose_bundle_is_refused_has_failed_and_says_why_at_once() -> None:
    refused = {"type": "ReplicaFailure", "status": "True", "reason": "ModelRefused", "message": "golden off"}
    loading = {"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated", "message": ""}

    observed = status.observed(
        ServedVersion("models/m/versions/1"), deployment(conditions=[loading, refused])
    )

    assert (observed.state, observed.error) == (State.FAILED, "ModelRefused: golden off")


def test_a_version_that_comes_up_late_is_ready_after_all() -> None:
    failed = ServedVersion("models/m/versions/1", state=State.FAILED, error="late")

    observed = status.observed(failed, deployment(readyReplicas=2, conditions=[LATE]))

    assert (observed.state, observed.error) == (State.READY, "")


def test_a_deployment_is_drained_when_its_last_pod_is_gone() -> None:
    assert not status.drained(deployment(0, replicas=1))
    assert not status.drained(deployment(0, observedGeneration=2))
    assert status.drained(deployment(0))
