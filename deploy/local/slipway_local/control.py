"""The mesh's side of the supervisor: the Kubernetes API, the mesh that follows it, and the model pods."""

from collections.abc import Callable
from typing import Any

from slipway_local.kubeapi import KubernetesApi
from slipway_local.layout import Layout
from slipway_local.mesh import Mesh
from slipway_local.pods import Pods
from slipway_local.programs import MODEL_NAMESPACE, inference_environment


class Control:
    """Serves the Kubernetes API and keeps the mesh true to it; a companion of the supervisor."""

    def __init__(self, layout: Layout) -> None:
        self._api = KubernetesApi(folder=layout.folder("kube"), port=layout.kubernetes, jwks=layout.jwks)
        self._started = False
        self.mesh = Mesh(layout=layout, cluster=self._api)
        self.pods = Pods(
            layout=layout,
            cluster=self._api,
            namespace=MODEL_NAMESPACE,
            environment=inference_environment(layout),
            route_to=self.mesh.set_pods,
        )

    def tick(self, ready: Callable[[str], bool]) -> None:
        """Serve from the first turn on; render what has changed once Envoy is there."""
        if not self._started:
            self._api.start()
            self._started = True
        if ready("envoy"):
            self.mesh.tick()

    def report(self) -> dict[str, Any]:
        """Say nothing: Envoy is in the status as a process."""
        return {}

    def restart(self, name: str) -> bool:
        """Restart nothing: what is ours lives in the supervisor's own process."""
        return False

    def stop(self) -> bool:
        """Close the API."""
        if self._started:
            self._api.stop()
            self._started = False
        return True
