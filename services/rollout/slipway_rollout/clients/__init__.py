"""Other services, the Kubernetes API and the mesh's counters: domain in, domain out, the deadline inside."""

from slipway_rollout.clients.cluster import Cluster, ClusterRefused
from slipway_rollout.clients.counters import MeshCounters, counters
from slipway_rollout.clients.monitoring import Monitoring
from slipway_rollout.clients.registry import Registry

__all__ = ["Cluster", "ClusterRefused", "MeshCounters", "Monitoring", "Registry", "counters"]
