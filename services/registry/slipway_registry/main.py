"""Wiring of the registry: `python -m slipway_registry.main serve | migrate`."""

from slipway.registry.v1 import registry_pb2, registry_pb2_grpc
from slipway_runtime import telemetry
from slipway_runtime.commands import run
from slipway_runtime.db import Database
from slipway_runtime.identity import ServiceToken, Verifier
from slipway_runtime.objects import ObjectStore
from slipway_runtime.queue import Sweeper
from slipway_runtime.rpc import Channels, Server, serve_until_signal

from slipway_registry.api import RegistryServicer, check_evaluation
from slipway_registry.clients import Ingestion
from slipway_registry.config import Settings
from slipway_registry.usecases.aliases import Aliases
from slipway_registry.usecases.bundles import Bundles
from slipway_registry.usecases.erasures import Erasures
from slipway_registry.usecases.evaluations import Evaluations
from slipway_registry.usecases.gates import Gates
from slipway_registry.usecases.lineage import Lineage
from slipway_registry.usecases.models import Models
from slipway_registry.usecases.runs import Runs

SERVICE = "registry"


def serve(settings: Settings) -> None:
    """Serve the gRPC API and read what was erased, until told to stop."""
    telemetry.configure(SERVICE, settings)
    database = Database.connect(settings)
    objects = ObjectStore.connect(settings)
    bundles = Bundles(
        database=database,
        objects=objects,
        max_bytes=settings.max_bundle_bytes,
        staging=settings.staging_dir,
        check_evaluation=check_evaluation,
    )
    servicer = RegistryServicer(
        runs=Runs(database=database),
        models=Models(database=database),
        bundles=bundles,
        evaluations=Evaluations(database=database, objects=objects),
        gates=Gates(database=database),
        aliases=Aliases(database=database),
        lineage=Lineage(database=database),
    )
    channels = Channels(ServiceToken(settings.token_file))
    sweepers = _sweepers(settings, database, channels)
    server = Server(
        service=SERVICE,
        host=settings.host,
        port=settings.grpc_port,
        threads=settings.rpc_threads,
        verifier=Verifier(settings.jwks),
        reflected=[registry_pb2.DESCRIPTOR.services_by_name["RegistryService"].full_name],
    )
    registry_pb2_grpc.add_RegistryServiceServicer_to_server(servicer, server.grpc)
    for sweeper in sweepers:
        sweeper.start()
    telemetry.ProbeServer(settings.host, settings.http_port).start()
    serve_until_signal(server, settings.drain_s, on_stop=lambda: None)
    for sweeper in sweepers:
        sweeper.stop()
    channels.close()
    database.close()


def _sweepers(settings: Settings, database: Database, channels: Channels) -> list[Sweeper]:
    """Return what reads erasures, where ingestion's address is known."""
    if not settings.ingestion:
        return []
    erasures = Erasures(database=database, ingestion=Ingestion(channels, settings.ingestion))
    return [Sweeper(database, "registry.erasures", settings.erasure_interval_s, erasures.sweep)]


def main() -> None:
    """Do the verb that the command line names."""
    run("slipway_registry", Settings, serve=serve)


if __name__ == "__main__":
    main()
