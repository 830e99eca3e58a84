"""Wiring of ingestion: `python -m slipway_ingestion.main serve | migrate`."""

from slipway.ingestion.v1 import ingestion_pb2, ingestion_pb2_grpc
from slipway_runtime import telemetry
from slipway_runtime.commands import run
from slipway_runtime.db import Database
from slipway_runtime.identity import Verifier
from slipway_runtime.objects import ObjectStore
from slipway_runtime.queue import Sweeper
from slipway_runtime.rpc import Server, serve_until_signal

from slipway_ingestion.api import IngestionServicer
from slipway_ingestion.config import Settings
from slipway_ingestion.usecases.commits import Commits
from slipway_ingestion.usecases.content import Content
from slipway_ingestion.usecases.datasets import Datasets
from slipway_ingestion.usecases.erasures import Erasures
from slipway_ingestion.usecases.intake import Intakes, Limits
from slipway_ingestion.usecases.lineage import Lineage
from slipway_ingestion.usecases.predictions import Predictions
from slipway_ingestion.usecases.reads import Reads
from slipway_ingestion.usecases.removal import Removal
from slipway_ingestion.usecases.uploads import Uploads
from slipway_ingestion.usecases.views import Views

SERVICE = "ingestion"


def serve(settings: Settings) -> None:
    """Serve the gRPC API and remove what was erased, until told to stop."""
    telemetry.configure(SERVICE, settings)
    database = Database.connect(settings)
    content = Content(objects=ObjectStore.connect(settings), cache_bytes=settings.cache_bytes)
    limits = Limits(
        item_bytes=settings.max_item_bytes,
        items=settings.max_upload_items,
        bytes=settings.max_upload_bytes,
        pack_bytes=settings.pack_bytes,
    )
    views = Views(database=database, content=content)
    intakes = Intakes(database=database, content=content, views=views, limits=limits)
    commits = Commits(database=database, content=content, views=views)
    removal = Removal(database=database, content=content)
    sweeper = Sweeper(database, "ingestion.erasures", settings.erasure_interval_s, removal.sweep)
    servicer = IngestionServicer(
        datasets=Datasets(database=database, content=content),
        uploads=Uploads(database=database, content=content, intakes=intakes),
        predictions=Predictions(database=database, intakes=intakes, commits=commits),
        commits=commits,
        reads=Reads(database=database, content=content, views=views),
        erasures=Erasures(database=database, content=content, views=views, wake=sweeper.wake),
        lineage=Lineage(database=database),
    )
    server = Server(
        service=SERVICE,
        host=settings.host,
        port=settings.grpc_port,
        threads=settings.rpc_threads,
        verifier=Verifier(settings.jwks),
        reflected=[ingestion_pb2.DESCRIPTOR.services_by_name["IngestionService"].full_name],
    )
    ingestion_pb2_grpc.add_IngestionServiceServicer_to_server(servicer, server.grpc)
    sweeper.start()
    telemetry.ProbeServer(settings.host, settings.http_port).start()
    serve_until_signal(server, settings.drain_s)
    sweeper.stop()
    database.close()


def main() -> None:
    """Do the verb that the command line names."""
    run("slipway_ingestion", Settings, serve=serve)


if __name__ == "__main__":
    main()
