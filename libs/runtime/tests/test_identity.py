"""Keys from a URL: read when they must be, and no call waits for a source that is away."""

import json
import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from slipway_runtime import identity
from slipway_runtime.errors import Unavailable
from slipway_runtime.identity import KeySet


class Source(ThreadingHTTPServer):
    """Serves one key set, or fails, and counts how often it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        public = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(Ed25519PrivateKey.generate().public_key()))
        self.document = json.dumps({"keys": [{**public, "kid": "one", "alg": "EdDSA"}]}).encode()
        self.status, self.asked = 200, 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/jwks.json"


class Answer(BaseHTTPRequestHandler):
    """Answers as the source is told to."""

    server: Source

    def do_GET(self) -> None:
        self.server.asked += 1
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(self.server.document)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def source() -> Iterator[Source]:
    server = Source()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_source_that_is_away_is_asked_now_and_then_while_the_known_keys_serve(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = KeySet(source.url)
    assert keys.key("one") is not None
    monkeypatch.setattr(identity, "_KEYS_FRESH_S", 0.0)
    monkeypatch.setattr(identity, "_KEYS_RETRY_S", 3600.0)
    monkeypatch.setattr(keys, "_tried_at", -math.inf)
    source.status = 503

    found = [keys.key("one") for _ in range(50)]

    assert None not in found
    assert source.asked == 2


def test_an_unknown_key_makes_no_caller_ask_the_source_more_often(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "_KEYS_RETRY_S", 3600.0)
    keys = KeySet(source.url)

    assert {keys.key("other") for _ in range(50)} == {None}
    assert source.asked == 1


def test_without_any_key_the_source_is_named(source: Source) -> None:
    source.status = 503

    with pytest.raises(Unavailable, match=source.url):
        KeySet(source.url).key("one")
