"""What callers of rollout may rely on."""

import uuid
from typing import Any

import grpc
import pytest
from cluster import until
from google.protobuf.field_mask_pb2 import FieldMask
from slipway.rollout.v1 import rollout_pb2 as pb
from slipway_runtime.rpc import from_rpc_error


def refusal(error: grpc.RpcError) -> tuple[grpc.StatusCode, str]:
    return error.code(), from_rpc_error(error).reason


def test_the_first_version_gets_everything_once_it_is_ready(house: Any) -> None:
    id = house.endpoint(1)

    endpoint = house.get(id)

    assert [(v.subset, v.weight) for v in endpoint.served_versions] == [("v1", 100)]
    assert house.operator.weights(id) == {"v1": 100}
    assert endpoint.host == f"{id}.slipway-models.svc.cluster.local"


def test_a_later_version_gets_nothing_by_itself(house: Any) -> None:
    id = house.endpoint(1, 2)

    assert house.operator.weights(id) == {"v1": 100, "v2": 0}
    names = [r["name"] for r in house.operator.there("VirtualService", id)["spec"]["http"]]
    assert names == ["tester-v1", "tester-v2", "sticky-v1", "sticky-v2", "split"]


def test_an_unknown_endpoint_is_not_found_with_near_matches(house: Any) -> None:
    id = house.endpoint()

    with pytest.raises(grpc.RpcError) as caught:
        house.get(id + "x")

    assert refusal(caught.value) == (grpc.StatusCode.NOT_FOUND, "ENDPOINT_NOT_FOUND")
    assert f"endpoints/{id}" in from_rpc_error(caught.value).metadata["near"]


def test_a_version_that_the_registry_does_not_have_is_not_deployed(house: Any) -> None:
    id = house.endpoint()

    with pytest.raises(grpc.RpcError) as caught:
        house.deploy(id, 77)

    assert refusal(caught.value) == (grpc.StatusCode.NOT_FOUND, "MODEL_VERSION_NOT_FOUND")
    assert not house.get(id).served_versions


def test_an_endpoint_of_a_model_that_the_registry_does_not_have_is_not_made(house: Any) -> None:
    endpoint = pb.Endpoint(model="models/nosuch")

    with pytest.raises(grpc.RpcError) as caught:
        house.stub.CreateEndpoint(pb.CreateEndpointRequest(endpoint_id="nosuch", endpoint=endpoint))

    assert refusal(caught.value) == (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")


def test_a_version_of_another_model_is_refused(house: Any) -> None:
    id = house.endpoint()

    with pytest.raises(grpc.RpcError) as caught:
        house.deploy(id, 1, model="models/other")

    assert refusal(caught.value) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")


def test_a_repeat_returns_the_first_answer(house: Any) -> None:
    id = house.endpoint()
    request_id = uuid.uuid4().hex

    first = house.deploy(id, 1, request_id=request_id)
    house.ready(id, 1)

    assert house.deploy(id, 1, request_id=request_id) == first


def test_a_request_id_is_good_for_one_content(house: Any) -> None:
    id = house.endpoint(1, 2)
    request_id = uuid.uuid4().hex
    house.split(id, request_id=request_id, v1=90, v2=10)

    with pytest.raises(grpc.RpcError) as caught:
        house.split(id, request_id=request_id, v1=80, v2=20)

    assert refusal(caught.value) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED")


def test_a_stale_etag_is_refused(house: Any) -> None:
    id = house.endpoint(1, 2)
    before = house.get(id)
    house.split(id, v1=90, v2=10)

    with pytest.raises(grpc.RpcError) as caught:
        house.split(id, etag=before.etag, v1=50, v2=50)

    assert refusal(caught.value) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    assert house.operator.weights(id) == {"v1": 90, "v2": 10}


def test_only_the_description_can_be_updated(house: Any) -> None:
    endpoint = house.get(house.endpoint())
    changed = pb.Endpoint(name=endpoint.name, etag=endpoint.etag, description="of the front desk", model="x")

    with pytest.raises(grpc.RpcError) as caught:
        mask = FieldMask(paths=["model"])
        house.stub.UpdateEndpoint(pb.UpdateEndpointRequest(endpoint=changed, update_mask=mask))
    mask = FieldMask(paths=["description"])
    after = house.stub.UpdateEndpoint(pb.UpdateEndpointRequest(endpoint=changed, update_mask=mask))

    assert refusal(caught.value) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert (after.description, after.model) == ("of the front desk", "models/m")


def test_pages_hold_every_endpoint_once(house: Any) -> None:
    made = {f"endpoints/{house.endpoint()}" for _ in range(3)}

    seen, token = [], ""
    while True:
        page = house.stub.ListEndpoints(pb.ListEndpointsRequest(page_size=2, page_token=token))
        seen += [endpoint.name for endpoint in page.endpoints]
        token = page.next_page_token
        if not token:
            break

    assert made <= set(seen)
    assert seen == sorted(set(seen))


def test_a_version_stops_after_its_traffic_and_leaves_nothing_behind(house: Any) -> None:
    id = house.endpoint(1, 2)
    version = pb.UndeployVersionRequest(name=f"endpoints/{id}", model_version="models/m/versions/1")
    with pytest.raises(grpc.RpcError) as caught:
        house.stub.UndeployVersion(version)
    house.split(id, v2=100)

    house.stub.UndeployVersion(version)
    until(lambda: house.state(id, 1) == "")

    assert refusal(caught.value) == (grpc.StatusCode.FAILED_PRECONDITION, "VERSION_HAS_TRAFFIC")
    assert house.operator.get("Deployment", f"{id}-v1") is None
    assert house.operator.weights(id) == {"v2": 100}
    subsets = house.operator.there("DestinationRule", id)["spec"]["subsets"]
    assert [subset["name"] for subset in subsets] == ["v2"]


def test_a_stopping_version_keeps_its_pods_until_the_route_has_spread(house: Any) -> None:
    id = house.endpoint(1, 2)
    order: list[str] = []
    house.meddler.reset(after=lambda _, method, path: order.append(f"{method} {path.partition('?')[0]}"))

    name = "models/m/versions/2"
    house.stub.UndeployVersion(pb.UndeployVersionRequest(name=f"endpoints/{id}", model_version=name))
    until(lambda: house.state(id, 2) == "")

    house.meddler.reset()
    mine = [
        step.rpartition("/")[0].rpartition("/")[2] + " " + step.split()[0] for step in order if id in step
    ]
    assert mine == [
        "virtualservices PATCH",
        "deployments PATCH",
        "destinationrules PATCH",
        "deployments DELETE",
    ]


def test_a_deleted_endpoint_leaves_nothing_behind(house: Any) -> None:
    id = house.endpoint(1, 2)
    with pytest.raises(grpc.RpcError) as caught:
        house.stub.DeleteEndpoint(pb.DeleteEndpointRequest(name=f"endpoints/{id}"))

    gone = house.stub.DeleteEndpoint(pb.DeleteEndpointRequest(name=f"endpoints/{id}", force=True))
    house.made.remove(id)
    until(lambda: f"endpoints/{id}" not in names(house))

    assert refusal(caught.value) == (grpc.StatusCode.FAILED_PRECONDITION, "VERSION_HAS_TRAFFIC")
    assert gone.deleting
    for kind in ("Service", "VirtualService", "DestinationRule"):
        assert house.operator.get(kind, id) is None, kind
    assert house.operator.get("Deployment", f"{id}-v1") is None


def names(house: Any) -> list[str]:
    return [e.name for e in house.stub.ListEndpoints(pb.ListEndpointsRequest(page_size=1000)).endpoints]


def test_two_endpoints_share_no_object(house: Any) -> None:
    one, two = house.endpoint(1, 2), house.endpoint(1, 2)

    house.split(one, v1=30, v2=70)

    assert house.operator.weights(two) == {"v1": 100, "v2": 0}
    for mine, other in ((one, two), (two, one)):
        for kind in ("Service", "VirtualService", "DestinationRule"):
            assert other not in str(house.operator.there(kind, mine))
        for number in (1, 2):
            assert other not in str(house.operator.there("Deployment", f"{mine}-v{number}"))


def test_a_watch_shows_every_change(house: Any) -> None:
    id = house.endpoint(1, 2)
    stream = house.stub.WatchEndpoint(pb.WatchEndpointRequest(name=f"endpoints/{id}"), timeout=60)
    shown = ({v.subset: v.weight for v in endpoint.served_versions} for endpoint in stream)

    first = next(shown)
    house.split(id, v1=90, v2=10)
    second = next(shown)
    house.split(id, v1=50, v2=50)

    assert [first, second, next(shown)] == [{"v1": 100, "v2": 0}, {"v1": 90, "v2": 10}, {"v1": 50, "v2": 50}]


def test_a_watch_ends_at_its_deadline(house: Any) -> None:
    id = house.endpoint(1)

    with pytest.raises(grpc.RpcError, match="DEADLINE_EXCEEDED"):
        list(house.stub.WatchEndpoint(pb.WatchEndpointRequest(name=f"endpoints/{id}"), timeout=1))


def test_calls_without_a_token_are_refused(house: Any) -> None:
    from slipway.rollout.v1 import rollout_pb2_grpc

    with house.serve.channel() as channel, pytest.raises(grpc.RpcError) as caught:
        rollout_pb2_grpc.RolloutServiceStub(channel).ListEndpoints(pb.ListEndpointsRequest())

    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_version_whose_pods_do_not_come_up_says_why_and_may_come_up_later(house: Any) -> None:
    id = house.endpoint()
    house.laptop.hold(f"{id}-v1")

    house.deploy(id, 1)
    until(lambda: house.state(id, 1) == "FAILED")
    said = house.get(id).served_versions[0].error
    house.laptop.release(f"{id}-v1")
    house.ready(id, 1)

    assert "it is held back" in said
    assert house.operator.weights(id) == {"v1": 100}
