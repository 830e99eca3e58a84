"""Wiring of the rollout service: `serve`, `worker`, `migrate`."""

import signal
import threading

from slipway.rollout.v1 import rollout_pb2_grpc
from slipway_runtime import telemetry
from slipway_runtime.commands import run
from slipway_runtime.db import Database
from slipway_runtime.identity import ServiceToken, Verifier
from slipway_runtime.queue import Sweeper
from slipway_runtime.rpc import Channels, Server, serve_until_signal
from slipway_runtime.telemetry import ProbeServer

from slipway_rollout.api import SERVICE, Servicer
from slipway_rollout.clients import Cluster, Monitoring, Registry, counters
from slipway_rollout.config import Settings
from slipway_rollout.engine.manifests import Placement
from slipway_rollout.usecases.endpoints import Endpoints
from slipway_rollout.usecases.following import Follower
from slipway_rollout.usecases.judging import Judge
from slipway_rollout.usecases.lineage import Lineage
from slipway_rollout.usecases.rollouts import Rollouts


def serve(settings: Settings) -> None:
    """Answer calls until SIGTERM."""
    telemetry.configure("rollout", settings)
    channels = Channels(ServiceToken(settings.token_file))
    database = Database.connect(settings)
    registry = Registry(channels, settings.registry)
    rollouts = Rollouts(database=database, registry=registry, watch_interval_s=settings.watch_interval_s)
    endpoints = Endpoints(
        database=database,
        registry=registry,
        cluster=_cluster(settings),
        placement=_placement(settings),
        watch_interval_s=settings.watch_interval_s,
    )
    server = Server(
        service="rollout",
        host=settings.host,
        port=settings.grpc_port,
        threads=settings.rpc_threads,
        verifier=Verifier(settings.jwks),
        reflected=[SERVICE],
    )
    servicer = Servicer(
        endpoints=endpoints,
        rollouts=rollouts,
        lineage=Lineage(database=database),
        placement=_placement(settings),
        ready_timeout_s=settings.ready_timeout_s,
    )
    rollout_pb2_grpc.add_RolloutServiceServicer_to_server(servicer, server.grpc)  # type: ignore[no-untyped-call]
    ProbeServer(settings.host, settings.http_port).start()
    serve_until_signal(server, settings.drain_s, on_stop=channels.close)


def worker(settings: Settings) -> None:
    """Make the cluster follow the rows, and move rollouts, until SIGTERM."""
    telemetry.configure("rollout-worker", settings)
    database = Database.connect(settings)
    follower = Follower(
        database=database,
        cluster=_cluster(settings),
        placement=_placement(settings),
        propagation_s=settings.propagation_s,
        resync_interval_s=settings.resync_interval_s,
    )
    channels = Channels(ServiceToken(settings.token_file))
    judge = Judge(
        database=database,
        cluster=_cluster(settings),
        placement=_placement(settings),
        monitoring=Monitoring(channels, settings.monitoring),
        counters=counters(settings.mesh_counters_form, settings.mesh_counters_url, settings.model_namespace),
    )
    sweepers = (
        Sweeper(database, "rollout.follow", settings.reconcile_interval_s, follower.sweep),
        Sweeper(database, "rollout.judge", settings.judge_interval_s, judge.sweep),
    )
    ProbeServer(settings.host, settings.http_port).start()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    for sweeper in sweepers:
        sweeper.start()
    stop.wait()
    for sweeper in sweepers:
        sweeper.stop()
    channels.close()
    telemetry.shutdown()


def _cluster(settings: Settings) -> Cluster:
    return Cluster(
        namespace=settings.model_namespace,
        url=settings.kubernetes_url,
        token_file=settings.kubernetes_token_file,
        ca_file=settings.kubernetes_ca_file,
        timeout_s=settings.kubernetes_timeout_s,
    )


def _placement(settings: Settings) -> Placement:
    return Placement(
        namespace=settings.model_namespace,
        image=settings.model_image,
        service_account=settings.model_service_account,
        gateway=settings.model_gateway,
        environment=settings.pod_environment(),
        cpu_request=settings.model_cpu_request,
        cpu_limit=settings.model_cpu_limit,
        memory_request=settings.model_memory_request,
        memory_limit=settings.model_memory_limit,
        progress_deadline_s=settings.progress_deadline_s,
    )


def main() -> None:
    """Do the verb that the command line names."""
    run("slipway_rollout", Settings, serve=serve, worker=worker)


if __name__ == "__main__":
    main()
