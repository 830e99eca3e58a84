"""The laptop's Kubernetes API, with a controller whose pods come up when the test says so."""

import threading
from pathlib import Path
from typing import Any

from running import Keys, free_port
from slipway_local.deployments import status
from slipway_local.kubeapi import KubernetesApi

NAMESPACE = "slipway-models"


class Laptop:
    """The platform's own API; pods are counted, not run: what they do is inference's contract.

    Args:
        folder: Where the API keeps its objects.
        keys: Sign the token of rollout, the one caller that the API takes.
    """

    def __init__(self, folder: Path, keys: Keys) -> None:
        port = free_port()
        self._api = KubernetesApi(folder=folder, port=port, jwks=keys.jwks)
        self._api.start()
        self.url = f"http://127.0.0.1:{port}"
        self.token_file = keys.service_file("rollout")
        self._held: set[str] = set()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._control, daemon=True)
        self._thread.start()

    def hold(self, name: str) -> None:
        """Let the pods of a Deployment not come up: it says so, past its deadline."""
        self._held.add(name)

    def release(self, name: str) -> None:
        """Let them come up after all."""
        self._held.discard(name)

    def close(self) -> None:
        """Stop the controller and the API."""
        self._stopped.set()
        self._thread.join(5)
        self._api.stop()

    def _control(self) -> None:
        seen: object = None
        while not self._stopped.wait(0.02):
            revision = (self._api.revision, frozenset(self._held))
            if revision == seen:
                continue
            for deployment in self._api.list("Deployment", NAMESPACE):
                self._settle(deployment)
            seen = (self._api.revision, frozenset(self._held))

    def _settle(self, deployment: dict[str, Any]) -> None:
        name = deployment["metadata"]["name"]
        wanted = int(deployment["spec"].get("replicas", 1))
        up = 0 if name in self._held else wanted
        new = status(
            deployment, replicas=up, updated=up, ready=up, age_s=60 * (up < wanted), trouble="it is held back"
        )
        if deployment.get("status") != new:
            self._api.set_status("Deployment", NAMESPACE, name, new)
