"""The servicer: to domain, call the use case, to proto."""

from slipway_pipelines.api.servicer import SERVICE, Servicer

__all__ = ["SERVICE", "Servicer"]
