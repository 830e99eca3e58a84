"""What stands around rollout in its contract tests: an operator, a meddler in the middle, a registry."""

import http.client
import json
import threading
import time
from collections.abc import Callable
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import httpx
from slipway.registry.v1 import registry_pb2, registry_pb2_grpc

Manifest = dict[str, Any]
NAMESPACE = "slipway-models"
_PATHS = {
    "Service": "/api/v1/namespaces/{}/services",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "VirtualService": "/apis/networking.istio.io/v1/namespaces/{}/virtualservices",
    "DestinationRule": "/apis/networking.istio.io/v1/namespaces/{}/destinationrules",
}


class Operator:
    """A person with kubectl: reads objects and edits them by JSON patch.

    Args:
        url: Of the Kubernetes API.
        token_file: With the operator's token; empty for none.
    """

    def __init__(self, url: str, token_file: str = "") -> None:
        headers = {"Authorization": f"Bearer {Path(token_file).read_text().strip()}"} if token_file else {}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=60)

    def get(self, kind: str, name: str) -> Manifest | None:
        """Return an object, or None."""
        answer = self._http.get(f"{_PATHS[kind].format(NAMESPACE)}/{name}")
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        return dict(answer.json())

    def there(self, kind: str, name: str) -> Manifest:
        """Return an object that must be there."""
        found = self.get(kind, name)
        assert found is not None, f"there is no {kind} {name}"
        return found

    def patch(self, kind: str, name: str, *steps: Manifest) -> None:
        """Edit an object."""
        headers = {"Content-Type": "application/json-patch+json"}
        path = f"{_PATHS[kind].format(NAMESPACE)}/{name}"
        self._http.patch(path, content=json.dumps(list(steps)), headers=headers).raise_for_status()

    def delete(self, kind: str, name: str) -> None:
        """Delete an object."""
        self._http.delete(f"{_PATHS[kind].format(NAMESPACE)}/{name}").raise_for_status()

    def weights(self, name: str) -> dict[str, int]:
        """Return the weights in force."""
        split = next(r for r in self.there("VirtualService", name)["spec"]["http"] if r["name"] == "split")
        return {d["destination"]["subset"]: d["weight"] for d in split["route"]}

    def set_weights(self, name: str, *weights: int) -> None:
        """Edit the weights by hand, behind rollout's back."""
        routes = self.there("VirtualService", name)["spec"]["http"]
        index = next(i for i, r in enumerate(routes) if r["name"] == "split")
        path = f"/spec/http/{index}/route"
        self.patch(
            "VirtualService",
            name,
            *(
                {"op": "replace", "path": f"{path}/{position}/weight", "value": weight}
                for position, weight in enumerate(weights)
            ),
        )


class Meddler:
    """Stands between rollout and the API, and does something at chosen writes.

    `before` and `after` are called with the number of the write since the last `reset` (from 1), its
    method and its path; what they raise breaks the connection, as a cut cable does.
    """

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._lock = threading.Lock()
        self.reset()
        meddler = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # one packet per answer: two would wait for a delayed acknowledgement

            def do_GET(self) -> None:
                self._pass_on(0)

            def _write(self) -> None:
                with meddler._lock:
                    meddler.writes += 1
                    number = meddler.writes
                try:
                    meddler.before(number, self.command, self.path)
                    self._pass_on(number)
                except ConnectionAbortedError:
                    self.close_connection = True

            do_POST = do_PATCH = do_DELETE = _write

            def _pass_on(self, number: int) -> None:
                size = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(size) if size else None
                target = meddler._target
                onward = http.client.HTTPConnection(target.hostname or "", target.port, timeout=60)
                onward.request(self.command, self.path, body, dict(self.headers))
                answer = onward.getresponse()
                content = answer.read()
                onward.close()
                if number:
                    meddler.after(number, self.command, self.path)
                self.send_response(answer.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                return None

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def reset(
        self,
        before: Callable[[int, str, str], None] = lambda *_: None,
        after: Callable[[int, str, str], None] = lambda *_: None,
    ) -> None:
        """Count from 1 again, with other callbacks."""
        self.writes, self.before, self.after = 0, before, after

    def close(self) -> None:
        """Stop passing on."""
        self._server.shutdown()
        self._server.server_close()


class KnownModels(registry_pb2_grpc.RegistryServiceServicer):
    """A registry that knows some versions, and refuses as the real one.

    It has versions 1 to 9 of `m`, 1 of `other`, and of `gated`, which has a gate policy, 1 (a candidate) and
    2 (approved).
    """

    def GetModel(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Get a model."""
        if request.name not in ("models/m", "models/other", "models/gated"):
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is no model {request.name!r}")
        return registry_pb2.Model(name=request.name)

    def GetModelVersion(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Get a version."""
        known = [f"models/m/versions/{number}" for number in range(1, 10)] + ["models/other/versions/1"]
        gated = {f"models/gated/versions/{state}": state for state in (1, 2)}
        if request.name not in (*known, *gated):
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is no version {request.name!r}")
        state = gated.get(request.name, registry_pb2.ModelVersion.CANDIDATE)
        return registry_pb2.ModelVersion(name=request.name, state=state, gated=request.name in gated)


def serve_known_models() -> tuple[grpc.Server, str]:
    """Start a registry of known models; return it and its address."""
    server = grpc.server(futures.ThreadPoolExecutor(4))
    registry_pb2_grpc.add_RegistryServiceServicer_to_server(KnownModels(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, f"127.0.0.1:{port}"


def until(what: Callable[[], Any], within_s: float = 60.0) -> Any:
    """Return what a condition gives once it holds."""
    stop_at = time.monotonic() + within_s
    while True:
        try:
            given = what()
        except (AssertionError, StopIteration, grpc.RpcError) as error:
            given, last = None, error
        else:
            last = None
        if given:
            return given
        if time.monotonic() > stop_at:
            raise AssertionError(f"it did not come within {within_s} s") from last
        time.sleep(0.05)
