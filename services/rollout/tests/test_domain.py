"""Rules about weights, shadows and what may be deployed."""

from dataclasses import replace

import pytest
from slipway_rollout import domain
from slipway_rollout.domain import Endpoint, ServedVersion, ServingConfig, State
from slipway_runtime.errors import Aborted, AlreadyExists, FailedPrecondition, InvalidArgument, NotFound


def served(number: int, weight: int = 0, state: State = State.READY) -> ServedVersion:
    return ServedVersion(f"models/m/versions/{number}", weight, state, routed=state is State.READY)


def endpoint(*versions: ServedVersion, **fields: object) -> Endpoint:
    return replace(Endpoint("e", "models/m", versions=versions), **fields)  # type: ignore[arg-type]


def test_a_split_gives_versions_that_are_not_named_nothing() -> None:
    before = endpoint(served(1, 60), served(2, 40), served(3))

    after = domain.split(before, {"v1": 90, "v3": 10})

    assert after.weights == {"v1": 90, "v2": 0, "v3": 10}


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"v1": 110, "v2": -10}, "v2=-10 is negative"),
        ({"v1": 90, "v2": 9}, "sums to 99"),
        ({}, "sums to 0"),
        ({"v1": 50, "v3": 50}, "v3 is STARTING"),
    ],
)
def test_a_split_that_cannot_be_is_refused_with_what_is_wrong(weights: dict[str, int], said: str) -> None:
    before = endpoint(served(1, 100), served(2), served(3, state=State.STARTING))

    with pytest.raises(InvalidArgument, match=said) as caught:
        domain.split(before, weights)

    assert caught.value.reason == "INVALID_SPLIT"


def test_a_split_over_an_unknown_version_names_those_that_are_served() -> None:
    with pytest.raises(NotFound) as caught:
        domain.split(endpoint(served(1, 100), served(2)), {"v1": 50, "v7": 50})

    assert caught.value.reason == "VERSION_NOT_DEPLOYED"
    assert caught.value.metadata["near"] == "v1, v2"


def test_a_version_that_gets_the_mirror_gets_no_weight() -> None:
    before = endpoint(served(1, 100), served(2), shadow="v2", shadow_percent=100)

    with pytest.raises(InvalidArgument, match="end the shadow first"):
        domain.split(before, {"v1": 50, "v2": 50})


def test_a_version_with_weight_gets_no_mirror() -> None:
    with pytest.raises(FailedPrecondition, match="100 %") as caught:
        domain.shadow(endpoint(served(1, 100)), "v1", 100)

    assert caught.value.reason == "VERSION_HAS_TRAFFIC"


def test_a_shadow_without_a_percentage_mirrors_everything() -> None:
    after = domain.shadow(endpoint(served(1, 100), served(2)), "v2", 0)

    assert (after.shadow, after.shadow_percent) == ("v2", 100)


def test_a_version_is_deployed_once() -> None:
    with pytest.raises(AlreadyExists, match="undeploy it first"):
        domain.deploy(endpoint(served(1, 100)), "models/m/versions/1")


def test_a_version_of_another_model_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="is not of 'models/m'"):
        domain.deploy(endpoint(), "models/other/versions/1")


@pytest.mark.parametrize("fields", [{}, {"shadow": "v2"}])
def test_what_still_gets_requests_is_not_stopped(fields: dict[str, str]) -> None:
    weight = 0 if fields else 10
    before = endpoint(served(1, 100 - weight), served(2, weight), **fields)

    with pytest.raises(FailedPrecondition) as caught:
        domain.undeploy(before, "models/m/versions/2")

    assert caught.value.reason == "VERSION_HAS_TRAFFIC"


def test_stopping_a_version_twice_is_stopping_it_once() -> None:
    once = domain.undeploy(endpoint(served(1, 100), served(2)), "models/m/versions/2")

    assert domain.undeploy(once, "models/m/versions/2") == once


def test_an_endpoint_with_traffic_is_deleted_by_force_alone() -> None:
    before = endpoint(served(1, 100))

    domain.check_deletable(before, force=True)
    with pytest.raises(FailedPrecondition, match="pass force"):
        domain.check_deletable(before, force=False)


def test_a_stale_etag_is_refused_and_none_is_not() -> None:
    now = endpoint(revision=17)

    domain.check_etag(now, "")
    domain.check_etag(now, "11")
    with pytest.raises(Aborted, match="stale"):
        domain.check_etag(now, "10")


@pytest.mark.parametrize("id", ["", "Numbers", "1st", "a.b", "-a", "a-", "a" * 41, "../x", "a/b"])
def test_an_id_that_is_no_host_name_is_refused(id: str) -> None:
    with pytest.raises(InvalidArgument, match="DNS label"):
        domain.endpoint_id(id)


@pytest.mark.parametrize("name", ["models/m/versions/0", "models/m/versions/01", "models/m", "m/1", ""])
def test_a_name_of_no_version_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match="is not of the form"):
        domain.parse_version(name)


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (ServingConfig(engine="tensorflow"), "engine"),
        (ServingConfig(replicas=0), "replicas"),
        (ServingConfig(max_batch_rows=5000), "max_batch_rows"),
        (ServingConfig(max_batch_rows=64, max_queue_rows=32), "max_queue_rows"),
        (ServingConfig(latency_objective_ms=0.0), "latency_objective_ms"),
        (ServingConfig(capture_policy="sample:2"), "capture_policy"),
    ],
)
def test_a_configuration_out_of_range_names_the_field(config: ServingConfig, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        domain.checked_config(config)

    assert caught.value.violations[0].field == f"endpoint.serving_config.{field}"
