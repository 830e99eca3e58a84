"""Real service processes for tests: keys, tokens, ports, start, kill, stop."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import jwt
import psutil
import sqlalchemy as sa
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from grpc_health.v1 import health_pb2, health_pb2_grpc
from slipway_local.testing_ports import free_port
from slipway_runtime.rpc import channel

STARTS_WITHIN_S = 120.0


class Keys:
    """A signing key, its JWKS file, and tokens by it in the two forms of ADR-0004."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.private = Ed25519PrivateKey.generate()
        public = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(self.private.public_key()))
        self.jwks = folder / "jwks.json"
        self.jwks.write_text(json.dumps({"keys": [{**public, "kid": "test", "alg": "EdDSA"}]}))
        self.pem = folder / "key.pem"
        self.pem.write_bytes(
            self.private.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )

    def user(self, name: str = "ann", *roles: str, expires_in_s: float = 86_400) -> str:
        """Return a user's token; an engineer's unless roles are named."""
        return self._sign(f"users/{name}", expires_in_s, roles=list(roles or ("engineer",)))

    def service(self, name: str) -> str:
        """Return a service's token."""
        return self._sign(f"system:serviceaccount:slipway:{name}", 86_400)

    def service_file(self, name: str) -> str:
        """Return the path of a file that holds the service's token."""
        path = self.folder / f"{name}.token"
        path.write_text(self.service(name))
        return str(path)

    def _sign(self, subject: str, expires_in_s: float, **claims: Any) -> str:
        body = {"sub": subject, "iss": "test", "aud": "slipway", "exp": time.time() + expires_in_s, **claims}
        return jwt.encode(body, self.private, algorithm="EdDSA", headers={"kid": "test"})


class Service:
    """One process of a service: `python -m {module} {verb}` with SLIPWAY_* variables.

    Args:
        module: Such as `slipway_registry.main`.
        keys: Whose tokens it accepts.
        settings: Field name → value; ports, keys and host are filled in.
        verb: `serve` or `worker`.
    """

    def __init__(self, module: str, keys: Keys, verb: str = "serve", **settings: object) -> None:
        self.module = module
        self.verb = verb
        self.port = int(settings.get("grpc_port") or free_port())  # type: ignore[call-overload]
        self.http_port = int(settings.get("http_port") or free_port())  # type: ignore[call-overload]
        self.log = keys.folder / f"{module.partition('.')[0]}-{verb}-{self.port}.log"
        self.settings = {name: str(value) for name, value in settings.items()}
        values = {"jwks": keys.jwks, "host": "127.0.0.1", **settings}
        values |= {"grpc_port": self.port, "http_port": self.http_port}
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("SLIPWAY_")}
        self._environment = inherited | {f"SLIPWAY_{k.upper()}": str(v) for k, v in values.items()}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables that it runs with."""
        return dict(self._environment)

    def migrate(self) -> "Service":
        """Run `migrate` to its end."""
        command = [sys.executable, "-m", self.module, "migrate"]
        subprocess.run(command, env=self._environment, check=True, timeout=STARTS_WITHIN_S)
        return self

    def start(self, wait: bool = True) -> "Service":
        """Start it, and wait until its health service says SERVING (a worker: until /readyz answers)."""
        command = [sys.executable, "-m", self.module, self.verb]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self) -> None:
        """Wait until it serves; a process that ended first is an error with the end of its log."""
        stop_at = time.monotonic() + STARTS_WITHIN_S
        while not self._ready():
            ended = self._process is None or self._process.poll() is not None
            if ended or time.monotonic() > stop_at:
                tail = self.log.read_text(errors="replace")[-3000:]
                raise RuntimeError(f"{self.module} {self.verb} did not come up:\n{tail}")
            time.sleep(0.05)

    def _ready(self) -> bool:
        if self.verb != "serve":
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.http_port)) == 0
        with grpc.insecure_channel(self.address) as opened:
            try:
                answer = health_pb2_grpc.HealthStub(opened).Check(health_pb2.HealthCheckRequest(), timeout=1)
            except grpc.RpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def kill(self) -> None:
        """End it as a crash does: SIGKILL."""
        self._end(signal.SIGKILL, 10)

    def halt(self, database_url: str) -> None:
        """Stop it in the middle of its work, where none of its locks holds up who follows it.

        Args:
            database_url: Of the database that it works on.
        """
        busy = sa.text(
            "SELECT count(*) FROM pg_stat_activity a WHERE client_port = ANY(:ports) AND (state <> 'idle' "
            "OR EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND locktype = 'advisory'))"
        )
        process, engine = psutil.Process(self.pid), sa.create_engine(database_url)
        held = True
        while held:
            process.suspend()
            stop_at = time.monotonic() + 1
            while held and time.monotonic() < stop_at:
                time.sleep(0.02)
                ports = [one.laddr.port for one in process.net_connections("tcp")]
                with engine.connect() as connection:
                    stopped = process.status() == psutil.STATUS_STOPPED
                    held = not stopped or bool(connection.execute(busy, {"ports": ports}).scalar())
            if held:
                process.resume()
                time.sleep(0.1)
        engine.dispose()

    def go_on(self) -> None:
        """Let it go on after `halt`."""
        psutil.Process(self.pid).resume()

    def stop(self) -> None:
        """End it as a platform does: SIGTERM, then SIGKILL."""
        self._end(signal.SIGTERM, 15)

    def _end(self, number: int, wait_s: float) -> None:
        ending, self._process = self._process, None
        if ending is None:
            return
        ending.send_signal(number)
        try:
            ending.wait(wait_s)
        except subprocess.TimeoutExpired:
            ending.kill()
            ending.wait(10)

    def channel(self, token: str = "", services: Sequence[Any] = ()) -> grpc.Channel:
        """Open a channel to it as the owner of a token."""
        return channel(self.address, services=services, token=lambda: token, timeout_s=60)
