"""Wiring of labeling: `python -m slipway_labeling.main serve | migrate`."""

from slipway.labeling.v1 import labeling_pb2_grpc
from slipway_runtime import telemetry
from slipway_runtime.commands import run
from slipway_runtime.db import Database
from slipway_runtime.identity import ServiceToken, Verifier
from slipway_runtime.queue import Sweeper
from slipway_runtime.rpc import Channels, Server, serve_until_signal
from slipway_runtime.telemetry import ProbeServer

from slipway_labeling.api.servicer import SERVICE, Servicer
from slipway_labeling.clients import Ingestion
from slipway_labeling.config import Settings
from slipway_labeling.usecases.access import EVERYBODY
from slipway_labeling.usecases.annotators import Annotators
from slipway_labeling.usecases.erasures import Erasures
from slipway_labeling.usecases.errands import Errands
from slipway_labeling.usecases.files import Files
from slipway_labeling.usecases.lineage import Lineage
from slipway_labeling.usecases.projects import Projects
from slipway_labeling.usecases.quality import Quality
from slipway_labeling.usecases.reviews import Reviews
from slipway_labeling.usecases.scores import Scores
from slipway_labeling.usecases.snapshots import Snapshots
from slipway_labeling.usecases.tasks import Tasks
from slipway_labeling.usecases.work import Work


def serve(settings: Settings) -> None:
    """Answer calls, take back leases that ran out, judge annotators, make snapshots, until SIGTERM."""
    telemetry.configure("labeling", settings)
    channels = Channels(ServiceToken(settings.token_file))
    database = Database.connect(settings)
    ingestion = Ingestion(channels, settings.ingestion)
    work, quality = Work(database=database), Quality(database=database)
    errands = Errands(
        database=database,
        ingestion=ingestion,
        lease_s=settings.snapshot_lease_s,
        retry_s=settings.snapshot_interval_s,
    )
    maker = Sweeper(database, "labeling.snapshots", settings.snapshot_interval_s, errands.sweep)
    servicer = Servicer(
        projects=Projects(database=database, ingestion=ingestion),
        tasks=Tasks(database=database, ingestion=ingestion),
        work=work,
        reviews=Reviews(database=database),
        annotators=Annotators(database=database),
        quality=quality,
        scores=Scores(database=database),
        snapshots=Snapshots(database=database, wake=maker.wake, watch_interval_s=settings.watch_interval_s),
        files=Files(database=database, ingestion=ingestion),
        lineage=Lineage(database=database),
    )
    server = _server(settings, servicer)
    leases = Sweeper(database, "labeling.leases", settings.sweep_interval_s, work.sweep)
    judge = Sweeper(database, "labeling.judge", settings.judge_interval_s, quality.sweep)
    erasures = Erasures(database=database, ingestion=ingestion)
    closer = Sweeper(database, "labeling.erasures", settings.erasure_interval_s, erasures.sweep)
    sweepers = (leases, maker, judge, closer)
    for sweeper in sweepers:
        sweeper.start()
    ProbeServer(settings.host, settings.http_port).start()
    serve_until_signal(server, settings.drain_s)
    for sweeper in sweepers:
        sweeper.stop()
    channels.close()
    database.close()


def _server(settings: Settings, servicer: Servicer) -> Server:
    server = Server(
        service="labeling",
        host=settings.host,
        port=settings.grpc_port,
        threads=settings.rpc_threads,
        verifier=Verifier(settings.jwks),
        reflected=[SERVICE],
        allowed=EVERYBODY,
        quick=[f"/{SERVICE}/ClaimTasks", f"/{SERVICE}/SubmitAnnotation"],
        quick_threads=settings.database_pool,
    )
    labeling_pb2_grpc.add_LabelingServiceServicer_to_server(servicer, server.grpc)  # type: ignore[no-untyped-call]
    return server


def main() -> None:
    """Do the verb that the command line names."""
    run("slipway_labeling", Settings, serve=serve)


if __name__ == "__main__":
    main()
