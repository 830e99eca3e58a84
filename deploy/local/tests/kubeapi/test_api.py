"""The Kubernetes API subset, through the official client: conflicts, refusals, durability."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from kubernetes import client as kubernetes
from kubernetes.client.exceptions import ApiException
from slipway_local.credentials import _public, service_token
from slipway_local.kubeapi import KubernetesApi
from slipway_local.testing_ports import free_port

NAMESPACE = "slipway-models"
ISTIO = ("networking.istio.io", "v1", NAMESPACE)


class Cluster:
    """An API in a folder, and clients of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = Ed25519PrivateKey.generate()
        self.jwks = folder / "jwks.json"
        self.jwks.write_text(json.dumps({"keys": [_public("platform", self.key)]}))
        self.port = free_port()
        self.api = self.start()

    def start(self) -> KubernetesApi:
        self.api = KubernetesApi(folder=self.folder / "kube", port=self.port, jwks=self.jwks)
        self.api.start()
        return self.api

    def client(self, token: str = "") -> Any:
        configuration = kubernetes.Configuration(host=f"http://127.0.0.1:{self.port}")
        configuration.api_key["authorization"] = token or service_token(self.key, "rollout")
        configuration.api_key_prefix["authorization"] = "Bearer"
        return kubernetes.ApiClient(configuration)

    def routes(self, token: str = "") -> Any:
        return kubernetes.CustomObjectsApi(self.client(token))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    yield made
    made.api.stop()


def route(name: str = "flowers", *weights: int) -> dict[str, Any]:
    listed = [
        {"destination": {"host": name, "subset": f"v{n}"}, "weight": weight}
        for n, weight in enumerate(weights or (100,), start=1)
    ]
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"hosts": [name], "http": [{"name": "split", "route": listed}]},
    }


def refused(call: Any) -> tuple[int, dict[str, Any]]:
    with pytest.raises(ApiException) as caught:
        call()
    return caught.value.status, json.loads(caught.value.body)


def create(api: Any, body: Any, **options: Any) -> Any:
    return api.create_namespaced_custom_object(*ISTIO, "virtualservices", body, **options)


def patch(api: Any, *steps: Any, name: str = "flowers") -> Any:
    return api.patch_namespaced_custom_object(*ISTIO, "virtualservices", name, list(steps))


def test_what_was_created_is_read_and_a_second_create_conflicts(cluster: Cluster) -> None:
    api = cluster.routes()
    made = create(api, route())

    status, body = refused(lambda: create(api, route()))

    assert api.get_namespaced_custom_object(*ISTIO, "virtualservices", "flowers") == made
    assert (status, body["reason"]) == (409, "AlreadyExists")


def test_a_patch_whose_test_fails_changes_nothing(cluster: Cluster) -> None:
    api = cluster.routes()
    made = create(api, route("flowers", 90, 10))
    version = made["metadata"]["resourceVersion"]
    weights = [
        {"op": "replace", "path": "/spec/http/0/route/0/weight", "value": 50},
        {"op": "replace", "path": "/spec/http/0/route/1/weight", "value": 50},
    ]
    test = {"op": "test", "path": "/metadata/resourceVersion", "value": version}

    changed = patch(api, test, *weights)
    status, _ = refused(lambda: patch(api, test, *weights))

    assert changed["metadata"]["generation"] == 2
    assert status == 422
    assert api.get_namespaced_custom_object(*ISTIO, "virtualservices", "flowers") == changed


def test_a_stale_replace_conflicts(cluster: Cluster) -> None:
    api = cluster.routes()
    made = create(api, route())
    changed = {**made, "spec": {**made["spec"], "hosts": ["other"]}}
    api.replace_namespaced_custom_object(*ISTIO, "virtualservices", "flowers", changed)

    status, body = refused(
        lambda: api.replace_namespaced_custom_object(*ISTIO, "virtualservices", "flowers", changed)
    )

    assert (status, body["reason"]) == (409, "Conflict")


@pytest.mark.parametrize("weights", [(-5, 105), (60, 30), (100, 100), (None, None)])
def test_weights_that_are_none_are_refused_by_field(cluster: Cluster, weights: Any) -> None:
    status, body = refused(lambda: create(cluster.routes(), route("flowers", *weights)))

    assert status == 422
    assert "spec.http[0].route.weight" in body["message"]


def test_a_misspelt_field_is_refused_by_name_when_strict(cluster: Cluster) -> None:
    body = route()
    body["spec"]["http"][0]["retrys"] = {}

    status, answer = refused(lambda: create(cluster.routes(), body, field_validation="Strict"))

    assert status == 400
    assert 'unknown field "spec.http[0].retrys"' in answer["message"]


def test_only_rollout_is_let_in_and_only_in_its_namespace(cluster: Cluster) -> None:
    gateway = cluster.routes(service_token(cluster.key, "gateway"))
    nobody = cluster.routes("nonsense")
    elsewhere = ("networking.istio.io", "v1", "slipway", "virtualservices")

    assert refused(lambda: create(gateway, route()))[0] == 403
    assert refused(lambda: create(nobody, route()))[0] == 401
    assert refused(lambda: cluster.routes().list_namespaced_custom_object(*elsewhere))[0] == 403


def test_a_list_is_filtered_by_label_and_a_missing_name_is_not_found(cluster: Cluster) -> None:
    api = cluster.routes()
    for name in ("flowers", "trees"):
        create(api, route(name))

    found = api.list_namespaced_custom_object(*ISTIO, "virtualservices", label_selector="app=trees")

    assert [item["metadata"]["name"] for item in found["items"]] == ["trees"]
    status, body = refused(lambda: api.get_namespaced_custom_object(*ISTIO, "virtualservices", "grass"))
    assert (status, body["reason"]) == (404, "NotFound")


def test_a_restart_keeps_objects_and_versions_never_go_back(cluster: Cluster) -> None:
    made = create(cluster.routes(), route())
    cluster.api.stop()

    cluster.start()

    api = cluster.routes()
    assert api.get_namespaced_custom_object(*ISTIO, "virtualservices", "flowers") == made
    again = create(api, route("trees"))
    assert int(again["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])


def test_a_status_changes_the_version_and_not_the_generation(cluster: Cluster) -> None:
    made = create(cluster.routes(), route())

    cluster.api.set_status("VirtualService", NAMESPACE, "flowers", {"seen": True})
    cluster.api.set_status("VirtualService", NAMESPACE, "none", {"seen": True})

    (after,) = cluster.api.list("VirtualService", NAMESPACE)
    assert after["status"] == {"seen": True}
    assert after["metadata"]["generation"] == made["metadata"]["generation"]
    assert after["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"]


def test_an_expired_token_is_no_token(cluster: Cluster) -> None:
    claims = {"iss": "slipway-platform", "aud": "slipway", "sub": "system:serviceaccount:slipway:rollout"}
    expired = jwt.encode(
        {**claims, "exp": time.time() - 60}, cluster.key, algorithm="EdDSA", headers={"kid": "platform"}
    )

    assert refused(lambda: create(cluster.routes(expired), route()))[0] == 401
