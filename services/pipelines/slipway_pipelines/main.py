"""The pipelines service: `python -m slipway_pipelines.main serve | worker | migrate`."""

import platform
from collections.abc import Callable
from pathlib import Path

from slipway.pipelines.v1 import pipelines_pb2_grpc
from slipway_runtime import telemetry
from slipway_runtime.commands import run
from slipway_runtime.db import Database
from slipway_runtime.identity import ServiceToken, Verifier
from slipway_runtime.objects import ObjectStore
from slipway_runtime.queue import Queue, Sweeper
from slipway_runtime.rpc import Server, serve_until_signal
from slipway_runtime.telemetry import ProbeServer

from slipway_pipelines import tasks
from slipway_pipelines.api import SERVICE, Servicer
from slipway_pipelines.config import Settings
from slipway_pipelines.usecases.attempts import Attempts, Bench
from slipway_pipelines.usecases.definitions import Library
from slipway_pipelines.usecases.lineage import Lineage
from slipway_pipelines.usecases.runs import RunBook
from slipway_pipelines.usecases.sweeping import Sweep


def serve(settings: Settings) -> None:
    """Answer calls until SIGTERM."""
    telemetry.configure("pipelines", settings)
    database = Database.connect(settings)
    servicer = Servicer(
        library=Library(database=database, objects=ObjectStore.connect(settings)),
        runs=RunBook(
            database=database,
            enqueue=Queue("pipelines", settings.broker_url).enqueue,
            watch_interval_s=settings.watch_interval_s,
        ),
        lineage=Lineage(database=database),
    )
    server = Server(
        service="pipelines",
        host=settings.host,
        port=settings.grpc_port,
        threads=settings.rpc_threads,
        verifier=Verifier(settings.jwks),
        reflected=[SERVICE],
    )
    pipelines_pb2_grpc.add_PipelinesServiceServicer_to_server(servicer, server.grpc)
    ProbeServer(settings.host, settings.http_port).start()
    serve_until_signal(server, settings.drain_s)


def worker(settings: Settings) -> None:
    """Make attempts until SIGTERM."""
    telemetry.configure("pipelines", settings)
    queue = Queue("pipelines", settings.broker_url)
    database = Database.connect(settings)
    bench = Bench(
        database=database,
        objects=ObjectStore.connect(settings),
        work_dir=Path(settings.work_dir).resolve(),
        environment=_environment(settings),
        host=platform.node(),
        lease_s=settings.lease_s,
    )
    attempts = Attempts(bench=bench, enqueue=queue.enqueue)
    attempts.clear_leftovers()
    tasks.register(queue, attempts)
    sweep = Sweep(
        database=database,
        enqueue=queue.enqueue,
        resend_s=settings.resend_s,
        grace_s=settings.schedule_grace_s,
    )
    sweeper = Sweeper(database, "pipelines.sweep", settings.sweep_interval_s, sweep.run)
    ProbeServer(settings.host, settings.http_port).start()
    sweeper.start()
    queue.work(settings.worker_threads, on_stop=attempts.stop)
    sweeper.stop()
    telemetry.shutdown()


def _environment(settings: Settings) -> Callable[[], dict[str, str]]:
    """Return what tells a step's client where the services are, and with which token."""
    token = ServiceToken(settings.token_file)
    doors = ",".join(f"{name}={address}" for name, address in settings.services().items())
    return lambda: {"SLIPWAY_GRPC": doors, "SLIPWAY_TOKEN": token()}


def main() -> None:
    """Do the verb that the command line names."""
    run("slipway_pipelines", Settings, serve=serve, worker=worker)


if __name__ == "__main__":
    main()
