"""The small subset of the Kubernetes API that the rollout driver uses, over HTTP, durable on disk."""

from slipway_local.kubeapi.api import KubernetesApi

__all__ = ["KubernetesApi"]
