"""Wiring of the training service: `serve`, `worker`, `migrate`."""

import platform
from pathlib import Path

from slipway.training.v1 import training_pb2_grpc
from slipway_runtime import telemetry
from slipway_runtime.commands import run
from slipway_runtime.db import Database
from slipway_runtime.identity import ServiceToken, Verifier
from slipway_runtime.objects import ObjectStore
from slipway_runtime.queue import Queue, Sweeper
from slipway_runtime.rpc import Channels, Server, serve_until_signal
from slipway_runtime.telemetry import ProbeServer

from slipway_training import tasks
from slipway_training.api import SERVICE, Servicer
from slipway_training.clients import Ingestion, Registry
from slipway_training.config import Settings
from slipway_training.engine.cache import FolderCache
from slipway_training.usecases.attempts import Attempts
from slipway_training.usecases.bench import Bench
from slipway_training.usecases.jobs import Jobs
from slipway_training.usecases.lineage import Lineage
from slipway_training.usecases.scoring_attempts import ScoringAttempts
from slipway_training.usecases.scoring_jobs import ScoringJobs


def serve(settings: Settings) -> None:
    """Answer calls until SIGTERM."""
    telemetry.configure("training-worker", settings)
    channels = Channels(ServiceToken(settings.token_file))
    ingestion = Ingestion(channels, settings.ingestion)
    objects = ObjectStore.connect(settings)
    database = Database.connect(settings)
    queued = {
        "database": database,
        "enqueue": Queue("training", settings.broker_url).enqueue,
        "watch_interval_s": settings.watch_interval_s,
    }
    jobs = Jobs(objects=objects, ingestion=ingestion, **queued)
    registry = Registry(channels, settings.registry)
    scorings = ScoringJobs(
        objects=objects,
        ingestion=ingestion,
        registry=registry,
        part_size=settings.score_part_size,
        **queued,
    )
    server = Server(
        service="training",
        host=settings.host,
        port=settings.grpc_port,
        threads=settings.rpc_threads,
        verifier=Verifier(settings.jwks),
        reflected=[SERVICE],
    )
    servicer = Servicer(jobs, scorings, Lineage(database=database))
    training_pb2_grpc.add_TrainingServiceServicer_to_server(servicer, server.grpc)
    ProbeServer(settings.host, settings.http_port).start()
    serve_until_signal(server, settings.drain_s, on_stop=channels.close)


def worker(settings: Settings) -> None:
    """Make attempts until SIGTERM."""
    telemetry.configure("training-worker", settings)
    channels = Channels(ServiceToken(settings.token_file))
    queue = Queue("training", settings.broker_url)
    work_dir = Path(settings.work_dir).resolve()
    caches = {
        name: FolderCache(work_dir / name, settings.cache_max_bytes) for name in ("checkouts", "bundles")
    }
    for cache in caches.values():
        cache.clear_leftovers()
        cache.evict()
    bench = Bench(
        database=Database.connect(settings),
        objects=ObjectStore.connect(settings),
        ingestion=Ingestion(channels, settings.ingestion),
        registry=Registry(channels, settings.registry),
        work_dir=work_dir,
        **caches,
        threads=settings.attempt_threads,
        checkpoint_s=settings.checkpoint_s,
        host=platform.node(),
    )
    worked = {"enqueue": queue.enqueue, "lease_s": settings.lease_s, "resend_s": settings.resend_s}
    attempts, scorings = Attempts(bench=bench, **worked), ScoringAttempts(bench=bench, **worked)
    tasks.register(queue, attempts, scorings)
    sweepers = [
        Sweeper(bench.database, f"training.sweep{task}", settings.sweep_interval_s, sweep)
        for task, sweep in (("", attempts.sweep), (".score", scorings.sweep))
    ]
    ProbeServer(settings.host, settings.http_port).start()
    for sweeper in sweepers:
        sweeper.start()

    def stop() -> None:
        attempts.stop()
        scorings.stop()

    queue.work(settings.worker_threads, on_stop=stop)
    for sweeper in sweepers:
        sweeper.stop()
    telemetry.shutdown()


def main() -> None:
    """Do the verb that the command line names."""
    run("slipway_training", Settings, serve=serve, worker=worker)


if __name__ == "__main__":
    main()
