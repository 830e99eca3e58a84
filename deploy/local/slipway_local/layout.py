"""Where a platform keeps its files, and which port is whose.

Every port is the base plus a fixed number, so that two platforms run side by side with two bases.
"""

from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"
DEFAULT_PORT_BASE = 8080
SERVICES = (
    "gateway",
    "ingestion",
    "training-worker",
    "registry",
    "rollout",
    "monitoring",
    "inference",
    "labeling",
    "pipelines",
)
GRPC_OF_SEAWEED = 10_000
_PORTS_BELOW_BASE_OF_PODS = 100
_POD_PORTS = 100


@dataclass(frozen=True)
class Layout:
    """One platform: its state folder and its first port."""

    state: Path
    port_base: int = DEFAULT_PORT_BASE

    @property
    def keys(self) -> Path:
        """Folder of private keys and passwords; ours alone."""
        return self.state / "keys"

    @property
    def jwks(self) -> Path:
        """Public keys of all who sign tokens."""
        return self.keys / "jwks.json"

    @property
    def tokens(self) -> Path:
        """Folder of the services' own tokens."""
        return self.state / "tokens"

    @property
    def admin_token(self) -> Path:
        """File with the API token of the local administrator."""
        return self.state / "admin-token"

    @property
    def logs(self) -> Path:
        """Folder with one log per process."""
        return self.state / "logs"

    @property
    def spool(self) -> Path:
        """Folder with one folder per model pod: events that wait for their consumer."""
        return self.state / "spool"

    @property
    def pods(self) -> Path:
        """Folder with one folder per model pod: its volumes, empty at each start."""
        return self.state / "pods"

    @property
    def work(self) -> Path:
        """Folder for the services' scratch and caches."""
        return self.state / "work"

    @property
    def status(self) -> Path:
        """File in which the supervisor says how things are."""
        return self.state / "platform.json"

    @property
    def lock(self) -> Path:
        """File that a living supervisor keeps locked."""
        return self.state / "lock"

    @property
    def restarts(self) -> Path:
        """Folder with a file `<name>.<anything>` per restart that is asked for; removed when it has begun."""
        return self.state / "restarts"

    @property
    def rest_door(self) -> int:
        """Port of the REST door."""
        return self.port_base

    @property
    def grpc_door(self) -> int:
        """Port of the gRPC door."""
        return self.port_base + 1

    @property
    def envoy_admin(self) -> int:
        """Port of Envoy's admin interface."""
        return self.port_base + 2

    @property
    def kubernetes(self) -> int:
        """Port of the Kubernetes API subset."""
        return self.port_base + 3

    @property
    def postgres(self) -> int:
        """Port of PostgreSQL."""
        return self.port_base + 4

    @property
    def valkey_queues(self) -> int:
        """Port of the Valkey of the queues."""
        return self.port_base + 5

    @property
    def valkey_online(self) -> int:
        """Port of the Valkey of the online features."""
        return self.port_base + 6

    @property
    def s3(self) -> int:
        """Port of S3; SeaweedFS's master, volume and filer follow."""
        return self.port_base + 7

    @property
    def otlp(self) -> int:
        """Port of monitoring's OTLP receiver."""
        return self.port_base + 70

    def app_port(self, service: str) -> int:
        """Port of the service itself."""
        return self.port_base + 20 + SERVICES.index(service)

    def http_port(self, service: str) -> int:
        """Port of the service's metrics and probes."""
        return self.port_base + 30 + SERVICES.index(service)

    def outbound_port(self, service: str) -> int:
        """Port at which the service reaches the mesh."""
        return self.port_base + 40 + SERVICES.index(service)

    def inbound_port(self, service: str) -> int:
        """Port at which the mesh reaches the service."""
        return self.port_base + 50 + SERVICES.index(service)

    def worker_port(self, service: str) -> int:
        """Port of the metrics and probes of the service's worker."""
        return self.port_base + 60 + SERVICES.index(service)

    def pod_ports(self, slot: int) -> tuple[int, int, int]:
        """Ports of a model pod: gRPC, metrics and probes, inbound listener."""
        first = self.port_base + _PORTS_BELOW_BASE_OF_PODS + 3 * slot
        return first, first + 1, first + 2

    @property
    def pod_slots(self) -> int:
        """How many model pods have ports."""
        return _POD_PORTS // 3

    def seaweed_ports(self) -> tuple[int, ...]:
        """S3, master, volume and filer, then the gRPC ports of these."""
        plain = tuple(self.s3 + i for i in range(4))
        return plain + tuple(port + GRPC_OF_SEAWEED for port in plain)

    def addresses(self) -> dict[str, str]:
        """Where clients from outside go."""
        doors = {"rest": self.rest_door, "grpc": self.grpc_door, "kubernetes": self.kubernetes}
        return {name: f"{HOST}:{port}" for name, port in (doors | {"s3": self.s3}).items()}

    def folder(self, name: str) -> Path:
        """Folder of a server's data."""
        return self.state / name

    def make_folders(self) -> None:
        """Make what must be there before anything starts; secrets are ours alone."""
        self.state.mkdir(parents=True, exist_ok=True)
        for path in (self.logs, self.spool, self.pods, self.work):
            path.mkdir(exist_ok=True)
        for path in (self.keys, self.tokens, self.restarts):
            path.mkdir(mode=0o700, exist_ok=True)
        ignore = self.state / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
