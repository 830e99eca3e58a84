"""The servicer: to domain, call the use case, to proto."""

from slipway_rollout.api.servicer import SERVICE, Servicer

__all__ = ["SERVICE", "Servicer"]
