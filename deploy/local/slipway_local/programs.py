"""The bill of materials: everything that a platform runs, in which order, with which settings."""

import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence

from slipway_local.credentials import Passwords
from slipway_local.databases import Owned, Plan
from slipway_local.layout import HOST, SERVICES, Layout
from slipway_local.probes import grpc_serving, http_ok
from slipway_local.processes import Program
from slipway_local.servers import ObjectServer, Postgres, Server, Valkey, listens

PACKAGES = {service: f"slipway_{service.partition('-')[0]}" for service in SERVICES}
WITH_DATABASE = (
    "gateway", "ingestion", "training-worker", "registry", "rollout", "monitoring", "labeling",
    "pipelines",
)  # fmt: skip
WITH_TASKS = ("training-worker", "rollout", "monitoring", "pipelines")
SERVERS = ("postgres", "valkey-queues", "valkey-online", "s3", "envoy")
# Services whose peers they may call (DESIGN, section 2), by the name of the setting.
PEERS = {
    "gateway": ("ingestion", "labeling", "training-worker", "registry", "rollout", "monitoring", "pipelines"),
    "pipelines": ("ingestion", "labeling", "training-worker", "registry", "rollout", "monitoring"),
    "labeling": ("ingestion",),
    "training-worker": ("ingestion", "registry"),
    "registry": ("ingestion",),
    "rollout": ("registry", "monitoring"),
    "inference": ("registry", "monitoring"),
    "monitoring": ("registry", "ingestion", "pipelines"),
}
MODEL_NAMESPACE = "slipway-models"


def programs(layout: Layout, passwords: Passwords, envoy: Callable[[], Server]) -> list[Program]:
    """Return all programs of a platform; how Envoy is run is the mesh's to say."""
    return [
        *_servers(layout, passwords),
        Program("envoy", envoy),
        _databases(layout, passwords),
        _service(layout, passwords, "gateway"),
        _service(layout, passwords, "ingestion"),
        _service(layout, passwords, "registry"),
        _service(layout, passwords, "training-worker"),
        _worker(layout, passwords, "training-worker"),
        _service(layout, passwords, "rollout"),
        _worker(layout, passwords, "rollout"),
        _service(layout, passwords, "monitoring"),
        _worker(layout, passwords, "monitoring"),
        _service(layout, passwords, "labeling"),
        _service(layout, passwords, "pipelines"),
        _worker(layout, passwords, "pipelines"),
    ]


def chosen(everything: Sequence[Program], only: Iterable[str]) -> list[Program]:
    """Return the programs of these names and all that they come after; all when no name is given.

    Raises:
        ValueError: There is no program of that name.
    """
    by_name = {program.name: program for program in everything}
    wanted: set[str] = set()
    open_names = list(only)
    if not open_names:
        return list(everything)
    while open_names:
        name = open_names.pop()
        if name not in by_name:
            raise ValueError(f"there is no program {name!r}; programs: {', '.join(by_name)}")
        if name not in wanted:
            wanted.add(name)
            open_names += by_name[name].after
    return [program for program in everything if program.name in wanted]


def chosen_names(layout: Layout, only: Iterable[str]) -> list[str]:
    """Return the names of these programs and of all that they come after.

    Raises:
        ValueError: There is no program of that name.
    """
    nothing = Passwords(
        postgres="", valkey="", s3_access_key="", s3_secret_key="", roles=dict.fromkeys(SERVICES, "")
    )
    everything = programs(layout, nothing, lambda: Server("envoy", (), (), bool))
    return [program.name for program in chosen(everything, only)]


def postgres(layout: Layout, passwords: Passwords) -> Postgres:
    """Return the platform's PostgreSQL."""
    return Postgres(layout.folder("pg"), layout.postgres, passwords.postgres)


def port_uses(layout: Layout, only: Sequence[str] = ()) -> dict[int, str]:
    """Return the fixed ports of the programs of these names (none: of all) with whose they are.

    Ports of model pods are not fixed: a pod takes those that are free.
    """
    owners: dict[str, list[int]] = {
        "postgres": [layout.postgres],
        "valkey-queues": [layout.valkey_queues],
        "valkey-online": [layout.valkey_online],
        "s3": list(layout.seaweed_ports()),
        "envoy": [layout.rest_door, layout.grpc_door, layout.envoy_admin, layout.kubernetes],
    }
    for service in SERVICES:
        owners["envoy"] += [layout.outbound_port(service), layout.inbound_port(service)]
        if service != "inference":
            owners[service] = [layout.app_port(service), layout.http_port(service)]
    for service in WITH_TASKS:
        owners[worker_name(service)] = [layout.worker_port(service)]
    owners["monitoring"].append(layout.otlp)
    wanted = set(only) or set(owners)
    return {port: name for name, found in owners.items() if name in wanted for port in found}


def inference_environment(layout: Layout) -> dict[str, str]:
    """Return the settings that every model pod gets besides its slot and its ports."""
    cache = {"SLIPWAY_CACHE_DIR": str(layout.work / "bundles")}
    return _settings(layout, "inference") | _peers(layout, "inference") | cache


def _servers(layout: Layout, passwords: Passwords) -> list[Program]:
    queues = Valkey("valkey-queues", layout.folder("valkey-queues"), layout.valkey_queues, passwords.valkey)
    online = Valkey("valkey-online", layout.folder("valkey-online"), layout.valkey_online, passwords.valkey)
    s3, master, volume, filer = layout.seaweed_ports()[:4]
    objects = ObjectServer(
        folder=layout.folder("s3"),
        port=s3,
        master_port=master,
        volume_port=volume,
        filer_port=filer,
        access_key=passwords.s3_access_key,
        secret_key=passwords.s3_secret_key,
    )
    database = postgres(layout, passwords)
    return [
        Program("postgres", database.prepare, death_signal=signal.SIGQUIT),
        Program("valkey-queues", queues.prepare),
        Program("valkey-online", online.prepare),
        Program("s3", objects.prepare),
    ]


def _databases(layout: Layout, passwords: Passwords) -> Program:
    database = postgres(layout, passwords)

    def prepare() -> Server:
        owned = [
            Owned(
                PACKAGES[service], _role(service), passwords.roles[service], _url(layout, passwords, service)
            )
            for service in WITH_DATABASE
        ]
        maintenance = database.url().replace("postgresql+psycopg", "postgresql")
        plan = Plan(maintenance, owned).write(layout.keys / "databases.json")
        return Server(
            "databases", (sys.executable, "-m", "slipway_local.databases", str(plan)), (), lambda: True
        )

    return Program("databases", prepare, after=("postgres",), once=True)


def _service(layout: Layout, passwords: Passwords, service: str) -> Program:
    port, http_port = layout.app_port(service), layout.http_port(service)
    ports = (port, http_port, *((layout.otlp,) if service == "monitoring" else ()))

    def prepare() -> Server:
        return _python(layout, passwords, service, "serve", ports, _serves(layout, service))

    alive = http_ok(http_port, "/healthz")
    return Program(service, prepare, after=("databases", *_needs(service)), alive=alive)


def _worker(layout: Layout, passwords: Passwords, service: str) -> Program:
    port = layout.worker_port(service)

    def prepare() -> Server:
        return _python(layout, passwords, service, "worker", (port,), http_ok(port, "/readyz"))

    after = ("databases", *_needs(service))
    return Program(worker_name(service), prepare, after=after, alive=http_ok(port, "/healthz"))


def worker_name(service: str) -> str:
    """Return what the process is called that works off a service's queue and rows."""
    return f"{service}-tasks"


def _python(
    layout: Layout,
    passwords: Passwords,
    service: str,
    verb: str,
    ports: tuple[int, ...],
    ready: Callable[[], bool],
) -> Server:
    name = service if verb == "serve" else worker_name(service)
    environment = _settings(layout, service) | _peers(layout, service) | _stores(layout, passwords, service)
    environment |= _of_its_own(layout, service)
    if verb == "worker":
        environment["SLIPWAY_HTTP_PORT"] = str(layout.worker_port(service))
    return Server(
        name=name,
        command=(sys.executable, "-m", f"{PACKAGES[service]}.main", verb),
        ports=ports,
        ready=ready,
        stop_within_s=15,
        environment=environment,
        folder=layout.work,
    )


def _serves(layout: Layout, service: str) -> Callable[[], bool]:
    port, http_port = layout.app_port(service), layout.http_port(service)
    if service != "gateway":
        return grpc_serving(port)
    ready = http_ok(http_port, "/readyz")
    return lambda: listens(port) and ready()


def _needs(service: str) -> tuple[str, ...]:
    needs = {
        "gateway": ("envoy",),
        "ingestion": ("s3",),
        "registry": ("s3", "envoy"),
        "training-worker": ("s3", "valkey-queues", "envoy"),
        "rollout": ("envoy",),
        "monitoring": ("envoy",),
        "labeling": ("envoy",),
        "pipelines": ("s3", "valkey-queues", "envoy"),
    }
    return needs[service]


def _settings(layout: Layout, service: str) -> dict[str, str]:
    settings = {
        "SLIPWAY_HOST": HOST,
        "SLIPWAY_GRPC_PORT": str(layout.app_port(service)),
        "SLIPWAY_HTTP_PORT": str(layout.http_port(service)),
        "SLIPWAY_JWKS": str(layout.jwks),
        "SLIPWAY_TOKEN_FILE": str(layout.tokens / service),
        "MALLOC_ARENA_MAX": "2",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "PYTHONUNBUFFERED": "1",
    }
    if service != "monitoring":
        settings["SLIPWAY_OTLP_ENDPOINT"] = f"{HOST}:{layout.otlp}"
    return settings


def _peers(layout: Layout, service: str) -> dict[str, str]:
    """Addresses of whom it may call, at its own outbound listener."""
    listener = f"{HOST}:{layout.outbound_port(service)}"
    return {
        f"SLIPWAY_{peer.partition('-')[0].upper()}": f"{peer}.slipway.svc.cluster.local:8500@{listener}"
        for peer in PEERS.get(service, ())
    }


def _stores(layout: Layout, passwords: Passwords, service: str) -> dict[str, str]:
    endpoint = f"{HOST}:{layout.s3}"
    return {
        "SLIPWAY_DATABASE_URL": _url(layout, passwords, service),
        "SLIPWAY_BROKER_URL": f"redis://:{passwords.valkey}@{HOST}:{layout.valkey_queues}/0",
        "SLIPWAY_S3_ENDPOINT": endpoint,
        "SLIPWAY_S3_PUBLIC_ENDPOINT": endpoint,
        "SLIPWAY_S3_ACCESS_KEY": passwords.s3_access_key,
        "SLIPWAY_S3_SECRET_KEY": passwords.s3_secret_key,
        "SLIPWAY_S3_BUCKET": service.partition("-")[0],
    }


def _of_its_own(layout: Layout, service: str) -> dict[str, str]:
    own = {
        "gateway": {
            "SLIPWAY_REST_PORT": str(layout.app_port("gateway")),
            "SLIPWAY_GRPC_PORT": "0",
            "SLIPWAY_SIGNING_KEY_FILE": str(layout.keys / "gateway.pem"),
            "SLIPWAY_EXTRA_JWKS": str(layout.jwks),
            "SLIPWAY_BOOTSTRAP_TOKEN_FILE": str(layout.admin_token),
            "SLIPWAY_MODELS": f"{HOST}:{layout.outbound_port('gateway')}",
        },
        "training-worker": {"SLIPWAY_WORK_DIR": str(layout.work / "training")},
        "pipelines": {"SLIPWAY_WORK_DIR": str(layout.work / "pipelines")},
        "rollout": {
            "SLIPWAY_KUBERNETES_URL": f"http://{HOST}:{layout.kubernetes}",
            "SLIPWAY_KUBERNETES_TOKEN_FILE": str(layout.tokens / "rollout"),
            "SLIPWAY_MODEL_NAMESPACE": MODEL_NAMESPACE,
            "SLIPWAY_MESH_COUNTERS_URL": f"http://{HOST}:{layout.envoy_admin}",
            "SLIPWAY_MESH_COUNTERS_FORM": "envoy",
            "SLIPWAY_PROPAGATION_S": "1",
        },
        "monitoring": {"SLIPWAY_OTLP_PORT": str(layout.otlp)},
    }
    return own.get(service, {})


def _role(service: str) -> str:
    return f"slipway_{service.partition('-')[0]}"


def _url(layout: Layout, passwords: Passwords, service: str) -> str:
    role = _role(service)
    password = passwords.roles.get(service, "")
    return postgres(layout, passwords).url(role, role, password)
