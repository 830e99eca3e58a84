"""A pytest plugin: real PostgreSQL, Valkey and S3, started when first asked for, once per session.

Fixtures: `postgres`, `database_url`, `valkey_url`, `mortal_valkey`, `s3`. To keep servers up between runs:

    python -m slipway_local.testing --keep FILE.json &
    export SLIPWAY_TEST_SERVERS=FILE.json
"""

import argparse
import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psycopg
import pytest

from slipway_local.servers import ObjectServer, Postgres, Server, Valkey
from slipway_local.testing_ports import free_port, free_ports

CONFIG = "SLIPWAY_TEST_SERVERS"


@dataclass(frozen=True)
class TestServers:
    """Where the servers of a test session are."""

    postgres_port: int
    postgres_password: str
    valkey_url: str
    s3_endpoint: str
    s3_access_key: str
    s3_secret_key: str


class PostgresServer:
    """A PostgreSQL that gives out fresh databases and drops them at the end."""

    def __init__(self, servers: TestServers) -> None:
        self._spec = Postgres(Path("/"), servers.postgres_port, servers.postgres_password)
        self._made: list[str] = []

    @property
    def url(self) -> str:
        """SQLAlchemy URL of the maintenance database."""
        return self._spec.url()

    def fresh_database(self) -> str:
        """Return the URL of a new, empty database."""
        name = f"test_{secrets.token_hex(6)}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE template0")
        self._made.append(name)
        return self._spec.url(name)

    def drop(self, url: str) -> None:
        """Drop a database that `fresh_database` gave out."""
        name = url.rpartition("/")[2]
        self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self._made.remove(name)

    def close(self) -> None:
        """Drop what is left."""
        for name in list(self._made):
            self.drop(name)

    def _execute(self, statement: str) -> None:
        url = self.url.replace("postgresql+psycopg", "postgresql")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(statement.encode())


@dataclass(frozen=True)
class S3Server:
    """An S3 that gives out names of fresh buckets."""

    endpoint: str
    access_key: str
    secret_key: str

    def fresh_bucket(self) -> str:
        """Return the name of a bucket that is not there yet; services make theirs."""
        return f"test-{secrets.token_hex(6)}"

    def fresh_settings(self) -> dict[str, str]:
        """Return a service's settings for a fresh bucket."""
        return {
            "s3_endpoint": self.endpoint,
            "s3_access_key": self.access_key,
            "s3_secret_key": self.secret_key,
            "s3_bucket": self.fresh_bucket(),
        }


class Running:
    """The three servers in a temporary folder, owned by this process."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="slipway-test-", dir=_roomy()))
        self._folder.chmod(0o755)
        self._processes: list[tuple[Server, subprocess.Popen[bytes]]] = []

    def start(self) -> TestServers:
        """Start all three side by side, wait until they serve."""
        ports = free_ports(6)
        password = secrets.token_hex(8)
        postgres = Postgres(self._folder / "pg", ports[0], password, max_connections=400)
        valkey = Valkey("valkey", self._folder / "valkey", ports[1], password)
        store = ObjectServer(
            folder=self._folder / "s3",
            port=ports[2],
            master_port=ports[3],
            volume_port=ports[4],
            filer_port=ports[5],
            access_key="test",
            secret_key=password,
            max_volumes=10_000,  # every test has buckets of its own, and each takes a volume, nearly empty
        )
        for server in (store.prepare(), valkey.prepare(), postgres.prepare()):
            self._spawn(server)
        for server, process in self._processes:
            self._await(server, process)
        return TestServers(ports[0], password, valkey.url, store.endpoint, "test", password)

    def stop(self) -> None:
        """Stop all three and remove their data."""
        for server, process in self._processes:
            process.send_signal(server.stop_signal)
        for server, process in self._processes:
            try:
                process.wait(server.stop_within_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _spawn(self, server: Server) -> None:
        log = (self._folder / f"{server.name}.log").open("wb")
        account = server.account
        drop = {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}
        process = subprocess.Popen(
            server.command,
            env={**os.environ, **server.environment},
            cwd=server.folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
            **drop,  # type: ignore[call-overload]
        )
        self._processes.append((server, process))

    def _await(self, server: Server, process: subprocess.Popen[bytes]) -> None:
        stop_at = time.monotonic() + server.ready_within_s
        while not server.ready():
            if process.poll() is not None or time.monotonic() > stop_at:
                log = (self._folder / f"{server.name}.log").read_text(errors="replace")[-2000:]
                self.stop()
                raise RuntimeError(f"{server.name} did not come up:\n{log}")
            time.sleep(0.1)


class MortalValkey:
    """A Valkey of one test, which may kill it and start it again on its port, with its data."""

    def __init__(self, folder: Path) -> None:
        spec = Valkey("valkey", folder, free_port(), secrets.token_hex(8))
        self.url = spec.url
        self._server = spec.prepare()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it serves."""
        self._process = subprocess.Popen(self._server.command, stdout=subprocess.DEVNULL)
        while not self._server.ready():
            if self._process.poll() is not None:
                raise RuntimeError("valkey did not come up")
            time.sleep(0.05)

    def kill(self) -> None:
        """End it as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _roomy() -> str:
    return "/var/tmp" if os.access("/var/tmp", os.W_OK) else tempfile.gettempdir()


@pytest.fixture(scope="session")
def _servers() -> Iterator[TestServers]:
    kept = os.environ.get(CONFIG)
    if kept:
        yield TestServers(**json.loads(Path(kept).read_text()))
        return
    running = Running()
    yield running.start()
    running.stop()


@pytest.fixture(scope="session")
def postgres(_servers: TestServers) -> Iterator[PostgresServer]:
    """Return the session's PostgreSQL; `.fresh_database()` gives a URL."""
    server = PostgresServer(_servers)
    yield server
    server.close()


@pytest.fixture
def database_url(postgres: PostgresServer) -> Iterator[str]:
    """Return the URL of a fresh database, dropped after the test."""
    url = postgres.fresh_database()
    yield url
    postgres.drop(url)


@pytest.fixture(scope="session")
def valkey_url(_servers: TestServers) -> str:
    """Return the redis:// URL of the session's Valkey."""
    return _servers.valkey_url


@pytest.fixture
def mortal_valkey(tmp_path: Path) -> Iterator[MortalValkey]:
    """Return a running Valkey of this test alone."""
    server = MortalValkey(tmp_path / "valkey")
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def s3(_servers: TestServers) -> S3Server:
    """Return the session's S3; `.fresh_bucket()` gives a name."""
    return S3Server(_servers.s3_endpoint, _servers.s3_access_key, _servers.s3_secret_key)


def main() -> None:
    """Keep servers up until told to stop."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--keep", type=Path, required=True, help="file that will say where the servers are")
    arguments = parser.parse_args()
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    running = Running()
    arguments.keep.write_text(json.dumps(asdict(running.start())))
    print(f"export {CONFIG}={arguments.keep}", flush=True)
    done.wait()
    running.stop()
    arguments.keep.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
