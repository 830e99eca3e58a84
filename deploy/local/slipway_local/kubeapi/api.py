"""The HTTP side: paths, verbs, bearer tokens, and Status objects as the real API server words them."""

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from slipway_runtime.errors import SlipwayError
from slipway_runtime.identity import Verifier

from slipway_local.kubeapi import admission
from slipway_local.kubeapi.kinds import KINDS, Kind, unknown_fields
from slipway_local.kubeapi.store import Conflict, Manifest, Missing, Objects, Unprocessable

HOST = "127.0.0.1"
NAMESPACE = "slipway-models"
ALLOWED = "services/rollout"
MAX_BODY = 3 << 20  # as the real API server
_PATHS = [
    (
        kind,
        re.compile(rf"{kind.group_path}/namespaces/([^/]+)/{kind.plural}(?:/([^/]+))?(?:/(status))?"),
    )
    for kind in KINDS
]


class Refusal(Exception):
    """An answer that is not 2xx, in the fields of a Kubernetes Status."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


@dataclass(frozen=True)
class Target:
    """What a path names; `name` is empty for a whole list."""

    kind: Kind
    namespace: str
    name: str
    part: str

    @property
    def key(self) -> tuple[str, str, str]:
        """Key in the store."""
        return (self.kind.kind, self.namespace, self.name)


class KubernetesApi:
    """Serves the four kinds that rollout writes, to rollout alone, in one namespace.

    Args:
        folder: Where the objects are kept.
        port: Port on 127.0.0.1.
        jwks: Keys that sign tokens.
    """

    def __init__(self, *, folder: Path, port: int, jwks: Path) -> None:
        self._objects = Objects(folder)
        self._port = port
        self._verifier = Verifier(str(jwks))
        self._server: ThreadingHTTPServer | None = None

    @property
    def revision(self) -> int:
        """Grows with every write."""
        return self._objects.revision

    def list(self, kind: str, namespace: str) -> list[Manifest]:
        """Return the objects of a kind."""
        return self._objects.list(kind, namespace)

    def set_status(self, kind: str, namespace: str, name: str, status: dict[str, Any]) -> None:
        """Write an object's status; nothing happens when it is gone."""
        try:
            self._objects.set_status((kind, namespace, name), status)
        except Missing:
            return

    def start(self) -> None:
        """Serve from threads."""
        self._server = ThreadingHTTPServer((HOST, self._port), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="kubernetes-api", daemon=True).start()

    def stop(self) -> None:
        """Stop serving; the objects stay on disk."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def answer(self, verb: str, url: str, headers: dict[str, str], body: bytes) -> tuple[int, Manifest]:
        """Return status and body of one request."""
        split = urlsplit(url)
        try:
            self._authorize(headers, target := _target(split.path))
            strict = parse_qs(split.query).get("fieldValidation") == ["Strict"]
            selector = parse_qs(split.query).get("labelSelector", [""])[0]
            return self._dispatch(verb, target, body, strict, selector)
        except Refusal as refusal:
            return refusal.code, _status(refusal.code, refusal.reason, str(refusal))

    def _authorize(self, headers: dict[str, str], target: Target) -> None:
        try:
            caller = self._verifier.caller(headers)
        except SlipwayError as error:
            raise Refusal(401, "Unauthorized", error.message) from error
        if caller.subject != ALLOWED or target.namespace != NAMESPACE:
            what = f'{target.kind.qualified} is forbidden: User "{caller.subject}" cannot use resource'
            where = f'"{target.kind.plural}" in the namespace "{target.namespace}"'
            raise Refusal(403, "Forbidden", f"{what} {where}")

    def _dispatch(
        self, verb: str, target: Target, body: bytes, strict: bool, selector: str
    ) -> tuple[int, Manifest]:
        kind, name = target.kind, target.name
        try:
            if verb == "GET":
                return 200, self._objects.get(target.key) if name else self._listing(target, selector)
            if verb == "POST" and not name:
                manifest = _manifest(kind, body)
                _check(kind, strict)(manifest)
                key = (kind.kind, target.namespace, str(manifest["metadata"].get("name", "")))
                return 201, self._objects.create(key, manifest)
            if verb == "PUT" and name and not target.part:
                return 200, self._objects.replace(target.key, _manifest(kind, body), _check(kind, strict))
            if verb == "PATCH" and name:
                return 200, self._objects.patch(target.key, _operations(body), _check(kind, strict))
            if verb == "DELETE" and name:
                return 200, self._objects.delete(target.key)
        except Missing:
            raise Refusal(404, "NotFound", f'{kind.qualified} "{name}" not found') from None
        except Conflict as error:
            raise Refusal(409, error.reason, f"{kind.qualified} {error}") from error
        except Unprocessable as error:
            raise Refusal(422, "Invalid", str(error)) from error
        raise Refusal(405, "MethodNotAllowed", f"the server does not allow {verb} on this resource")

    def _listing(self, target: Target, selector: str) -> Manifest:
        wanted = dict(part.split("=", 1) for part in selector.replace("==", "=").split(",") if "=" in part)
        items = [
            item
            for item in self._objects.list(target.kind.kind, target.namespace)
            if wanted.items() <= (item["metadata"].get("labels") or {}).items()
        ]
        metadata = {"resourceVersion": str(self._objects.revision)}
        kind = f"{target.kind.kind}List"
        return {"apiVersion": target.kind.api_version, "kind": kind, "metadata": metadata, "items": items}


def _target(path: str) -> Target:
    for kind, pattern in _PATHS:
        match = pattern.fullmatch(path)
        if match:
            return Target(kind, match[1], match[2] or "", match[3] or "")
    raise Refusal(404, "NotFound", f"the server could not find the requested resource {path}")


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        raise Refusal(400, "BadRequest", f"the object provided is unrecognized: {error}") from error


def _manifest(kind: Kind, body: bytes) -> Manifest:
    manifest = _json(body)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("metadata"), dict):
        raise Refusal(400, "BadRequest", f"the object provided is no {kind.kind}")
    if (manifest.get("apiVersion"), manifest.get("kind")) != (kind.api_version, kind.kind):
        wanted = f"{kind.api_version} {kind.kind}"
        raise Refusal(400, "BadRequest", f"the object provided does not match the path: want {wanted}")
    return manifest


def _operations(body: bytes) -> Any:
    operations = _json(body)
    if not isinstance(operations, list):
        raise Refusal(415, "UnsupportedMediaType", "only JSON patches (a list of operations) are taken")
    return operations


def _check(kind: Kind, strict: bool) -> Callable[[Manifest], None]:
    def check(manifest: Manifest) -> None:
        unknown = unknown_fields(kind, manifest) if strict else []
        if unknown:
            listed = ", ".join(f'unknown field "{path}"' for path in unknown)
            raise Refusal(400, "BadRequest", f"strict decoding error: {listed}")
        found = admission.troubles(manifest)
        if found:
            name = manifest["metadata"].get("name", "")
            raise Refusal(
                422, "Invalid", f'{kind.kind}.{kind.qualified} "{name}" is invalid: {"; ".join(found)}'
            )

    return check


def _status(code: int, reason: str, message: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Status",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }


def _handler(api: KubernetesApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # one packet per answer: two would wait for a delayed acknowledgement

        def _do(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            if length > MAX_BODY:
                self._send(413, _status(413, "RequestEntityTooLarge", f"at most {MAX_BODY} bytes"))
                self.close_connection = True
                return
            body = self.rfile.read(length)
            headers = {key.lower(): value for key, value in self.headers.items()}
            self._send(*api.answer(self.command, self.path, headers, body))

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _do

        def _send(self, status: int, manifest: Manifest) -> None:
            data = json.dumps(manifest).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            return None

    return Handler
