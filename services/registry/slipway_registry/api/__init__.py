"""The gRPC door of the registry."""

from slipway_registry.api.messages import check_evaluation
from slipway_registry.api.servicer import RegistryServicer

__all__ = ["RegistryServicer", "check_evaluation"]
