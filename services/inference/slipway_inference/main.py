"""Wiring of an inference front: `python -m slipway_inference.main serve [--repository DIR]`.

`drain --spool DIR` delivers what a front that is gone has left.
"""

import argparse
import asyncio
import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from opentelemetry.instrumentation.grpc import aio_server_interceptor
from slipway_runtime import telemetry
from slipway_runtime.errors import FailedPrecondition
from slipway_runtime.identity import ServiceToken, Verifier
from slipway_runtime.rpc import Channels
from tritonclient.grpc import service_pb2_grpc

from slipway_inference.api.chassis import Chassis
from slipway_inference.api.events import EventMaker
from slipway_inference.api.servicer import InferenceServicer
from slipway_inference.clients import Monitoring, Registry
from slipway_inference.config import Settings
from slipway_inference.domain import CapturePolicy, model_not_found
from slipway_inference.engine.bundles import BundleOnDisk, clear_leftovers, keep, open_bundle
from slipway_inference.engine.outbox import open_all
from slipway_inference.engine.process import EngineOptions
from slipway_inference.engine.spool import Spool
from slipway_inference.usecases.delivery import Courier, Delivery
from slipway_inference.usecases.slots import Fetch, Front, Slot, SlotLimits

log = logging.getLogger(__name__)

SERVICE = "inference"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Slots:
    """Makes slots: from the registry (one per setting), or from a folder of bundles."""

    def __init__(self, settings: Settings, front: Front, registry: Registry, repository: Path | None) -> None:
        self._settings = settings
        self._front = front
        self._registry = registry
        self._repository = repository
        self.on_state: Callable[[], None] = lambda: None

    def add_all(self) -> None:
        """Add every slot that the settings or the repository name."""
        for slot in self._named():
            self._add(*slot)

    def _named(self) -> Iterator[tuple[str, str, Fetch]]:
        for pair in filter(None, self._settings.slots.split(",")):
            name, _, version = pair.partition("=")
            yield name, version, partial(self._from_registry, version)
        for folder in sorted(self._repository.iterdir()) if self._repository else ():
            if (folder / "manifest.json").exists():
                yield folder.name, f"models/{folder.name}/versions/1", partial(open_bundle, folder)

    @property
    def first(self) -> tuple[str, str]:
        """Name and version of the first slot, as which a front with several of them reports its spool."""
        return next(((name, version) for name, version, _ in self._named()), ("", ""))

    async def load(self, name: str) -> None:
        """Load a bundle of the repository, again when it is loaded already.

        Raises:
            NotFound: The repository has no such folder.
            FailedPrecondition: Its slots are those of its settings.
        """
        repository = self._changeable()
        folder = repository / name
        if "/" in name or name in ("", ".", "..") or not (folder / "manifest.json").exists():
            raise model_not_found(name, [path.name for path in repository.iterdir()])
        while name in self._front.slots:  # again when somebody else loaded it meanwhile
            await self._front.remove(name)
        self._add(name, f"models/{name}/versions/1", lambda: open_bundle(folder))

    async def unload(self, name: str) -> None:
        """Unload a bundle of the repository.

        Raises:
            NotFound: It is not loaded.
            FailedPrecondition: Its slots are those of its settings.
        """
        self._changeable()
        await self._front.remove(name)

    def _changeable(self) -> Path:
        if self._repository is None:
            message = "this front serves what its endpoint deployed; use DeployVersion and UndeployVersion"
            raise FailedPrecondition("REPOSITORY_FIXED", message)
        return self._repository

    def _add(self, name: str, model_version: str, fetch: Fetch) -> None:
        settings = self._settings
        limits = SlotLimits(settings.max_batch_rows, settings.latency_objective_ms, settings.max_queue_rows)
        engine = EngineOptions(
            settings.engine, settings.threads, settings.load_timeout_s, settings.batch_timeout_s
        )
        self._front.add(
            Slot(
                name=name,
                version=model_version.rpartition("/")[2],
                model_version=model_version,
                fetch=fetch,
                limits=limits,
                engine=engine,
                on_state=lambda: self.on_state(),
            )
        )

    def _from_registry(self, version: str) -> BundleOnDisk:
        digest = self._registry.bundle_of(version)
        return keep(Path(self._settings.cache_dir), digest, self._registry.download(digest))


async def serve(settings: Settings, repository: Path | None) -> None:
    """Serve until SIGTERM or SIGINT, then answer what is in flight and keep the events."""
    clear_leftovers(Path(settings.cache_dir))
    front = Front()
    channels = Channels(ServiceToken(settings.token_file))
    slots = Slots(settings, front, Registry(channels, settings.registry), repository)
    monitoring = Monitoring(channels, settings.monitoring) if settings.monitoring else None
    spool, delivery = _spool(settings, slots.first, monitoring)
    events = EventMaker(CapturePolicy.parse(settings.capture_policy), settings.capture_max_bytes)
    health = health_aio.HealthServicer()
    server = _server(
        settings, health, InferenceServicer(front=front, spool=spool, events=events, repository=slots)
    )
    probes = telemetry.ProbeServer(settings.host, settings.http_port, ready=lambda: front.missing)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    telling: set[asyncio.Task[None]] = set()  # a task that nobody holds may be collected

    def tell() -> None:
        state = SERVING if front.ready and not stop.is_set() else NOT_SERVING
        telling.add(task := loop.create_task(health.set("", state)))
        task.add_done_callback(telling.discard)

    slots.on_state = tell
    await health.set("", NOT_SERVING)
    slots.add_all()
    tell()
    await server.start()
    probes.start()
    if delivery is not None:
        delivery.start()
    await stop.wait()
    await health.set("", NOT_SERVING)
    await server.stop(settings.drain_s)
    await front.stop()
    spool.close()
    if delivery is not None and not delivery.stop(settings.spool_drain_s):
        log.warning("monitoring has not taken all events; they stay in %s", settings.spool_dir)
    channels.close()
    telemetry.shutdown()


def _spool(
    settings: Settings, model: tuple[str, str], monitoring: Monitoring | None
) -> tuple[Spool, Delivery | None]:
    """Return the spool of (endpoint's name, model version), and what delivers it."""
    name, version = model
    spool = Spool(
        Path(settings.spool_dir) if settings.spool_dir else None,
        max_bytes=settings.spool_max_bytes,
        endpoint=f"endpoints/{name}" if name else "",
        model_version=version,
    )
    if monitoring is None or spool.outbox is None:
        return spool, None
    return spool, Delivery(outbox=spool.outbox, others=spool.others, report=monitoring.report)


def drain(settings: Settings, folder: Path) -> int:
    """Deliver and close every spool in a folder whose front is gone; return 0 when that was done."""
    channels = Channels(ServiceToken(settings.token_file))
    until = time.monotonic() + settings.spool_drain_s
    courier = Courier(Monitoring(channels, settings.monitoring).report, time.sleep)
    found, left = open_all(folder)
    for _, outbox in found:
        if not courier.finish(outbox, lambda: until - time.monotonic()):
            left.append(f"monitoring at {settings.monitoring!r} has not taken spool {outbox.identity}")
    channels.close()
    telemetry.shutdown()
    print(
        "\n".join(left) or f"{len(found)} spools of {folder} are delivered",
        file=sys.stderr if left else sys.stdout,
    )
    return 1 if left else 0


def _server(
    settings: Settings, health: health_aio.HealthServicer, servicer: InferenceServicer
) -> grpc.aio.Server:
    traced = partial(is_traced, exported=bool(settings.otlp_endpoint))
    server = grpc.aio.server(
        interceptors=(aio_server_interceptor(filter_=traced), Chassis(Verifier(settings.jwks))),
        options=(
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", settings.front_max_message_bytes),
            ("grpc.max_send_message_length", settings.front_max_message_bytes),
            ("grpc.max_metadata_size", 32 << 10),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 5000),
        ),
    )
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    server.add_insecure_port(f"{settings.host}:{settings.grpc_port}")
    return server


def is_traced(details: grpc.HandlerCallDetails, *, exported: bool) -> bool:
    """Say whether a call has a span.

    Probes have none. Without an exporter a span tells nobody, yet a trace that comes from outside goes on.
    """
    if details.method.startswith("/grpc.health.v1."):
        return False
    return exported or any(key == "traceparent" for key, _ in details.invocation_metadata)


def main() -> None:
    """Do the verb that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("verb", choices=["serve", "drain"])
    parser.add_argument(
        "--repository", type=Path, help="folder of bundles, each served under its folder's name"
    )
    parser.add_argument("--spool", type=Path, help="for drain: the folder that a front has left")
    arguments = parser.parse_args()
    settings = Settings.from_env()
    telemetry.configure(SERVICE, settings)
    if arguments.verb == "drain":
        if arguments.spool is None or not settings.monitoring:
            parser.error("drain needs --spool DIR, and the address of monitoring in SLIPWAY_MONITORING")
        sys.exit(drain(settings, arguments.spool))
    asyncio.run(serve(settings, arguments.repository))


if __name__ == "__main__":
    main()
