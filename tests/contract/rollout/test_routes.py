"""How the route is written: in one patch, under conflicts, and never over somebody else's edit."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from cluster import until
from slipway.rollout.v1 import rollout_pb2 as pb
from slipway_runtime.rpc import from_rpc_error


def reason(error: grpc.RpcError) -> str:
    return from_rpc_error(error).reason


def test_a_split_is_in_force_when_it_returns(house: Any) -> None:
    id = house.endpoint(1, 2)

    answer = house.split(id, v1=90, v2=10)

    assert house.operator.weights(id) == {"v1": 90, "v2": 10}
    assert {v.subset: v.weight for v in answer.served_versions} == {"v1": 90, "v2": 10}


def test_a_split_is_one_write(house: Any) -> None:
    id = house.endpoint(1, 2, 3)
    writes: list[str] = []
    house.meddler.reset(before=lambda _, method, path: writes.append(path) if id in path else None)

    house.split(id, v1=50, v2=30, v3=20)

    assert len(writes) == 1


def test_a_route_that_changed_under_the_patch_is_read_again(house: Any) -> None:
    id = house.endpoint(1, 2)
    touched: list[int] = []

    def touch(number: int, method: str, path: str) -> None:
        if f"/virtualservices/{id}" in path and len(touched) < 3:
            touched.append(number)
            step = {"op": "add", "path": "/metadata/annotations/team", "value": f"t{number}"}
            house.operator.patch("VirtualService", id, step)

    house.meddler.reset(before=touch)
    house.split(id, v1=60, v2=40)
    house.meddler.reset()

    assert len(touched) == 3
    assert house.operator.weights(id) == {"v1": 60, "v2": 40}


def test_splits_at_once_end_in_one_of_them(house: Any) -> None:
    id = house.endpoint(1, 2)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda share: house.split(id, v1=100 - share, v2=share), range(1, 25)))

    row = {v.subset: v.weight for v in house.get(id).served_versions}
    assert sum(row.values()) == 100
    assert house.operator.weights(id) == row


def test_an_edit_by_hand_is_not_overwritten(house: Any) -> None:
    id = house.endpoint(1, 2)
    house.operator.set_weights(id, 55, 45)

    with pytest.raises(grpc.RpcError) as caught:
        house.split(id, v1=90, v2=10)

    assert reason(caught.value) == "ROUTE_EDITED"
    assert "v1=55, v2=45" in caught.value.details()
    assert house.operator.weights(id) == {"v1": 55, "v2": 45}


def test_an_edit_by_hand_is_shown_and_can_be_taken_over(house: Any) -> None:
    id = house.endpoint(1, 2)
    house.operator.set_weights(id, 55, 45)
    seen = until(lambda: (e := house.get(id)).route_warning and e)

    with pytest.raises(grpc.RpcError) as caught:
        house.split(id, v1=90, v2=10)
    after = house.split(id, etag=seen.etag, v1=90, v2=10)

    assert "v1=55, v2=45" in caught.value.details()
    assert {v.subset: v.weight for v in seen.served_versions} == {"v1": 55, "v2": 45}
    assert after.route_warning == ""
    assert house.operator.weights(id) == {"v1": 90, "v2": 10}


def test_an_edit_after_the_one_that_was_seen_is_not_overwritten(house: Any) -> None:
    id = house.endpoint(1, 2)
    house.operator.set_weights(id, 55, 45)
    seen = until(lambda: (e := house.get(id)).route_warning and e)
    house.operator.set_weights(id, 20, 80)

    with pytest.raises(grpc.RpcError) as caught:
        house.split(id, etag=seen.etag, v1=90, v2=10)

    assert reason(caught.value) in ("ROUTE_EDITED", "ETAG_MISMATCH")
    assert house.operator.weights(id) == {"v1": 20, "v2": 80}


def test_an_old_copy_that_was_applied_again_is_an_edit(house: Any) -> None:
    id = house.endpoint(1, 2)
    old = house.operator.there("VirtualService", id)
    house.split(id, v1=90, v2=10)

    house.operator.patch(
        "VirtualService",
        id,
        {"op": "replace", "path": "/spec", "value": old["spec"]},
        {"op": "replace", "path": "/metadata/annotations", "value": old["metadata"]["annotations"]},
    )

    assert until(lambda: house.get(id).route_warning)
    assert house.operator.weights(id) == {"v1": 100, "v2": 0}


def test_a_version_that_starts_while_an_edit_stands_waits_for_its_route(house: Any) -> None:
    id = house.endpoint(1, 2)
    house.operator.set_weights(id, 55, 45)
    until(lambda: house.get(id).route_warning)

    house.deploy(id, 3)
    house.ready(id, 3)
    with pytest.raises(grpc.RpcError) as caught:
        house.split(id, v1=50, v3=50)

    assert reason(caught.value) == "INVALID_SPLIT"
    assert house.operator.weights(id) == {"v1": 55, "v2": 45}


def test_a_route_that_was_deleted_comes_back(house: Any) -> None:
    id = house.endpoint(1, 2)
    house.split(id, v1=70, v2=30)

    house.operator.delete("VirtualService", id)

    until(lambda: house.operator.get("VirtualService", id))
    assert house.operator.weights(id) == {"v1": 70, "v2": 30}


def test_a_shadow_has_a_subset_of_its_own_and_no_weight(house: Any) -> None:
    id = house.endpoint(1, 2)

    answer = house.stub.SetShadow(pb.SetShadowRequest(name=f"endpoints/{id}", subset="v2", percent=25))
    with pytest.raises(grpc.RpcError) as caught:
        house.split(id, v1=90, v2=10)

    split = house.operator.there("VirtualService", id)["spec"]["http"][-1]
    assert split["mirror"]["subset"] == "shadow"
    assert split["mirrorPercentage"] == {"value": 25}
    subsets = {s["name"]: s["labels"] for s in house.operator.there("DestinationRule", id)["spec"]["subsets"]}
    assert subsets["shadow"] == {"version": "v2"}
    assert answer.shadow_version == "models/m/versions/2"
    assert reason(caught.value) == "INVALID_SPLIT"


def test_a_shadow_that_ended_leaves_no_subset(house: Any) -> None:
    id = house.endpoint(1, 2)
    house.stub.SetShadow(pb.SetShadowRequest(name=f"endpoints/{id}", subset="v2"))

    house.stub.SetShadow(pb.SetShadowRequest(name=f"endpoints/{id}"))

    assert "mirror" not in house.operator.there("VirtualService", id)["spec"]["http"][-1]
    subsets = house.operator.there("DestinationRule", id)["spec"]["subsets"]
    assert [subset["name"] for subset in subsets] == ["v1", "v2"]


def test_an_api_that_is_away_is_said_to_be(house: Any) -> None:
    id = house.endpoint(1, 2)

    def cut(number: int, method: str, path: str) -> None:
        raise ConnectionAbortedError

    house.meddler.reset(before=cut)
    with pytest.raises(grpc.RpcError) as caught:
        house.split(id, v1=90, v2=10)
    house.meddler.reset()

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert reason(caught.value) == "CLUSTER_UNAVAILABLE"
    assert house.get(id).served_versions[0].weight == 100
