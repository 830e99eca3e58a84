"""Which versions an endpoint serves, and whether they may be served."""

from typing import Any

import grpc
import pytest
from slipway.rollout.v1 import rollout_pb2 as pb
from slipway_runtime.rpc import from_rpc_error

VERSION = "models/m/versions/7"


def test_a_version_leads_to_every_endpoint_that_serves_it_page_by_page(house: Any) -> None:
    ids = sorted(house.endpoint(7) for _ in range(3))

    first = house.stub.ListChildren(pb.ListChildrenRequest(name=VERSION, page_size=2))
    second = house.stub.ListChildren(
        pb.ListChildrenRequest(name=VERSION, page_size=2, page_token=first.next_page_token)
    )

    assert [*first.names, *second.names] == [f"endpoints/{id}" for id in ids]
    assert not second.next_page_token


def test_an_endpoint_leads_back_to_the_versions_that_it_serves(house: Any) -> None:
    id = house.endpoint(8, 9)

    parents = house.stub.ListParents(pb.ListParentsRequest(name=f"endpoints/{id}"))

    assert list(parents.names) == ["models/m/versions/8", "models/m/versions/9"]


def test_a_version_leads_to_its_rollouts_behind_its_endpoints_and_a_rollout_back_to_both_versions(
    house: Any,
) -> None:
    ids = sorted(house.endpoint(5) for _ in range(2))
    rollouts = [house.rollout(id, 6) for id in ids]
    for id in ids:
        house.ready(id, 6)

    request = pb.ListChildrenRequest(name="models/m/versions/6", page_size=3)
    first = house.stub.ListChildren(request)
    request.page_token = first.next_page_token
    second = house.stub.ListChildren(request)
    back = house.stub.ListParents(pb.ListParentsRequest(name=rollouts[0].name))
    forward = house.stub.ListChildren(pb.ListChildrenRequest(name=rollouts[0].name))

    wanted = [*(f"endpoints/{id}" for id in ids), *(rollout.name for rollout in rollouts)]
    assert [*first.names, *second.names] == wanted
    assert list(back.names) == ["models/m/versions/6", "models/m/versions/5"]
    assert list(forward.names) == [f"endpoints/{ids[0]}"]


def test_a_rollout_that_is_not_there_has_no_lineage(house: Any) -> None:
    name = f"endpoints/{house.endpoint(1)}/rollouts/9"

    for ask in (
        lambda: house.stub.ListChildren(pb.ListChildrenRequest(name=name)),
        lambda: house.stub.ListParents(pb.ListParentsRequest(name=name)),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            ask()
        assert from_rpc_error(caught.value).reason == "ROLLOUT_NOT_FOUND"


def test_the_name_of_something_else_has_no_children_here(house: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        house.stub.ListChildren(pb.ListChildrenRequest(name="models/m"))

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "models/{model}/versions/{number}" in caught.value.details()


def test_a_version_that_its_gate_has_not_approved_is_not_served(house: Any) -> None:
    id = house.endpoint(model="models/gated")

    with pytest.raises(grpc.RpcError) as caught:
        house.deploy(id, 1, model="models/gated")

    refusal = from_rpc_error(caught.value)
    assert (refusal.reason, refusal.metadata["state"]) == ("VERSION_NOT_APPROVED", "CANDIDATE")
    assert "OverrideGate" in refusal.message
    assert not house.get(id).served_versions


def test_a_version_that_its_gate_has_approved_is_served(house: Any) -> None:
    id = house.endpoint(2, model="models/gated")

    assert [v.model_version for v in house.get(id).served_versions] == ["models/gated/versions/2"]
