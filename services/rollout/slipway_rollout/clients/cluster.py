"""The Kubernetes API."""

import json
import threading
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway_runtime import deadline
from slipway_runtime.errors import SlipwayError, Unavailable

from slipway_rollout.engine.route import Manifest, Patch

if TYPE_CHECKING:
    from kubernetes.client import ApiClient, Configuration

_PATHS = {
    "Service": "/api/v1/namespaces/{namespace}/services",
    "Deployment": "/apis/apps/v1/namespaces/{namespace}/deployments",
    "VirtualService": "/apis/networking.istio.io/v1/namespaces/{namespace}/virtualservices",
    "DestinationRule": "/apis/networking.istio.io/v1/namespaces/{namespace}/destinationrules",
}
_CONFLICTS = (409, 422)


class Cluster:
    """The four kinds of object that rollout writes, in one namespace, over the Kubernetes API.

    Unknown fields are refused by the server (`fieldValidation=Strict`): by default an Istio field that is
    misspelt would be dropped in silence.

    Args:
        namespace: Where model pods and routes live.
        url: Of the API; empty means the pod's own cluster, else the kubeconfig.
        token_file: Bearer token for `url`, read again on every call since it may rotate.
        ca_file: CA for an https `url`.
        timeout_s: Of one call.
    """

    def __init__(
        self,
        *,
        namespace: str,
        url: str = "",
        token_file: str = "",
        ca_file: str = "",
        timeout_s: float = 5.0,
    ) -> None:
        self._namespace = namespace
        self._url = url
        self._token_file = token_file
        self._ca_file = ca_file
        self._timeout_s = timeout_s
        self._connecting = threading.Lock()

    def get(self, kind: str, name: str) -> Manifest | None:
        """Return an object, or None."""
        status, body = self._call("GET", kind, name)
        return None if status == 404 else self._good(status, body, kind, name)

    def create(self, manifest: Manifest) -> bool:
        """Create an object; False when there is one of that name already."""
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        status, body = self._call("POST", kind, body=manifest)
        if status == 409:
            return False
        self._good(status, body, kind, name)
        return True

    def patch(self, kind: str, name: str, patch: Patch) -> bool:
        """Apply a JSON patch; False when the object is not (any more) what the patch tests for."""
        status, body = self._call("PATCH", kind, name, body=patch)
        if status == 404 or status in _CONFLICTS:
            return False
        self._good(status, body, kind, name)
        return True

    def delete(self, kind: str, name: str) -> None:
        """Delete an object; one that is not there is as good, and costs no write."""
        if self.get(kind, name) is None:
            return
        status, body = self._call("DELETE", kind, name)
        if status not in (404, 409):
            self._good(status, body, kind, name)

    def _good(self, status: int, body: bytes, kind: str, name: str) -> Manifest:
        if 200 <= status < 300:
            return dict(json.loads(body))
        said = _message(body)
        if status >= 500 or status == 429:
            message = f"the Kubernetes API answered {status} for {kind} {name!r} ({said}); try again"
            raise Unavailable("CLUSTER_UNAVAILABLE", message, retry_after_s=1)
        raise ClusterRefused(f"the Kubernetes API refused {kind} {name!r}: {status} {said}")

    def _call(self, method: str, kind: str, name: str = "", body: Any = None) -> tuple[int, bytes]:
        import urllib3.exceptions

        path = _PATHS[kind].format(namespace=self._namespace) + (f"/{name}" if name else "")
        query = [("fieldValidation", "Strict")] if method in ("POST", "PATCH") else []
        content = "application/json-patch+json" if method == "PATCH" else "application/json"
        try:
            client = self._client
            prepared = client.param_serialize(
                method,
                path,
                query_params=query,
                header_params={"Accept": "application/json", "Content-Type": content},
                body=body,
                auth_settings=["BearerToken"],
            )
            response = client.call_api(*prepared, _request_timeout=self._bounded_s())
            body_read = response.read()  # type: ignore[no-untyped-call]
            return int(response.status), bytes(body_read or b"")
        except (urllib3.exceptions.HTTPError, OSError) as error:
            message = f"the Kubernetes API cannot be reached ({type(error).__name__}); try again"
            raise Unavailable("CLUSTER_UNAVAILABLE", message, retry_after_s=1) from error

    def _bounded_s(self) -> float:
        left_s = deadline.remaining_s()
        return self._timeout_s if left_s is None else max(min(self._timeout_s, left_s), 0.01)

    @property
    def _client(self) -> "ApiClient":
        with self._connecting:
            return self._connected

    @cached_property
    def _connected(self) -> "ApiClient":
        # Imported at the first use: it takes most of a second, which no command line should pay.
        import urllib3
        from kubernetes.client import ApiClient, Configuration

        configuration = Configuration()
        if self._url:
            self._configure(configuration)
        else:
            _own_cluster(configuration)
        configuration.retries = urllib3.Retry(0)
        return ApiClient(configuration)

    def _configure(self, configuration: "Configuration") -> None:
        configuration.host = self._url.rstrip("/")
        configuration.ssl_ca_cert = self._ca_file or None
        if self._token_file:
            path = Path(self._token_file)
            configuration.api_key_prefix["authorization"] = "Bearer"

            def refresh(changed: "Configuration") -> None:
                changed.api_key["authorization"] = path.read_text().strip()

            refresh(configuration)
            refresh(configuration)  # without a key at the start the client asks for none later
            configuration.refresh_api_key_hook = refresh  # type: ignore[assignment]


class ClusterRefused(SlipwayError):
    """The Kubernetes API took an object of ours for wrong: a fault of this program or of its rights."""

    def __init__(self, message: str) -> None:
        super().__init__("CLUSTER_REFUSED", message)


def _own_cluster(configuration: "Configuration") -> None:
    from kubernetes import config

    try:
        config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except config.ConfigException:
        config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body).get("message", ""))[:500]
    except (ValueError, AttributeError):
        return body[:200].decode(errors="replace")
