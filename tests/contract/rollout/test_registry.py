"""What rollout relies on in the registry, asked of the real one."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from running import Keys, Service
from slipway.registry.v1 import registry_pb2, registry_pb2_grpc
from slipway_rollout.clients import Registry
from slipway_runtime.errors import NotFound
from slipway_runtime.identity import ServiceToken
from slipway_runtime.rpc import Channels


@pytest.fixture
def client(registry: Service, keys: Keys) -> Iterator[Registry]:
    """Return rollout's own client of the running registry."""
    channels = Channels(ServiceToken(keys.service_file("rollout")))
    yield Registry(channels, registry.address)
    channels.close()


@pytest.fixture
def model(registry: Service, keys: Keys) -> Iterator[str]:
    """Return the name of a model that has no versions."""
    id = f"m{uuid.uuid4().hex[:8]}"
    with registry.channel(keys.user()) as channel:
        stub: Any = registry_pb2_grpc.RegistryServiceStub(channel)  # type: ignore[no-untyped-call]
        yield stub.CreateModel(registry_pb2.CreateModelRequest(model_id=id)).name


def test_a_model_that_is_there_passes(client: Registry, model: str) -> None:
    client.check_model(model)


def test_a_model_that_is_not_there_is_not_found_with_near_matches(client: Registry, model: str) -> None:
    with pytest.raises(NotFound) as caught:
        client.check_model(model + "x")

    assert caught.value.reason == "MODEL_NOT_FOUND"
    assert model.rpartition("/")[2] in caught.value.metadata["near"]


def test_a_version_that_is_not_there_is_not_found(client: Registry, model: str) -> None:
    with pytest.raises(NotFound) as caught:
        client.check_version(f"{model}/versions/7")

    assert caught.value.reason == "MODEL_VERSION_NOT_FOUND"
