"""What rollout asks of the registry."""

from typing import Any

import grpc
from slipway.registry.v1 import registry_pb2, registry_pb2_grpc
from slipway_runtime.errors import InvalidArgument, NotFound
from slipway_runtime.rpc import Channels, from_rpc_error

from slipway_rollout import domain

REGISTRY_TIMEOUT_S = 5.0


class Registry:
    """What rollout asks of the registry.

    Args:
        channels: Channels of this process.
        address: Of the registry.
    """

    def __init__(self, channels: Channels, address: str) -> None:
        descriptor = registry_pb2.DESCRIPTOR.services_by_name["RegistryService"]
        channel = channels.to(address, descriptor, timeout_s=REGISTRY_TIMEOUT_S)
        self._stub = registry_pb2_grpc.RegistryServiceStub(channel)  # type: ignore[no-untyped-call]

    def check_model(self, name: str) -> None:
        """Pass when the registry knows the model.

        Raises:
            NotFound: It does not; near matches are named (MODEL_NOT_FOUND).
        """
        self._ask("MODEL_NOT_FOUND", self._stub.GetModel, registry_pb2.GetModelRequest(name=name))

    def check_version(self, name: str) -> None:
        """Pass when the registry knows the version and lets it be served.

        Raises:
            NotFound: It does not know it; near matches are named (MODEL_VERSION_NOT_FOUND).
            FailedPrecondition: Its model has a gate policy, and it is not approved (VERSION_NOT_APPROVED).
        """
        request = registry_pb2.GetModelVersionRequest(name=name)
        version = self._ask("MODEL_VERSION_NOT_FOUND", self._stub.GetModelVersion, request)
        if version.gated and version.state != registry_pb2.ModelVersion.APPROVED:
            raise domain.not_approved(name, registry_pb2.ModelVersion.State.Name(version.state))

    def _ask(self, reason: str, method: Any, request: Any) -> Any:
        try:
            return method(request)
        except grpc.RpcError as failed:
            error = from_rpc_error(failed)
            if isinstance(error, NotFound):
                raise NotFound(reason, error.message, metadata=error.metadata) from failed
            if isinstance(error, InvalidArgument):
                raise InvalidArgument.field("model_version", f"{error.message} (registry)") from failed
            raise error from failed
