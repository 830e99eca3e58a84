"""The mesh on one machine: one Envoy that enforces the same Istio objects as a cluster."""

from slipway_local.mesh.mesh import Mesh

__all__ = ["Mesh"]
