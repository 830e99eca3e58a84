"""Wiring of monitoring: `python -m slipway_monitoring.main serve | worker | migrate`."""

import signal
import threading
from concurrent import futures

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from slipway.monitoring.v1 import monitoring_pb2_grpc
from slipway_runtime import telemetry
from slipway_runtime.commands import run
from slipway_runtime.db import Database
from slipway_runtime.identity import ServiceToken, Verifier
from slipway_runtime.queue import Sweeper
from slipway_runtime.rpc import Channels, Server, serve_until_signal

from slipway_monitoring.api.otlp import OtlpReceiver
from slipway_monitoring.api.servicer import SERVICE as API
from slipway_monitoring.api.servicer import Servicer
from slipway_monitoring.clients import Ingestion, Pipelines, Registry, post_webhook
from slipway_monitoring.config import Settings
from slipway_monitoring.usecases.actions import PIPELINE, WEBHOOK, Actions
from slipway_monitoring.usecases.alerts import Alerts, Silences
from slipway_monitoring.usecases.captures import CaptureImports
from slipway_monitoring.usecases.drift import Drift, DriftWatch
from slipway_monitoring.usecases.errands import Errands
from slipway_monitoring.usecases.events import Events
from slipway_monitoring.usecases.feedback import Feedback
from slipway_monitoring.usecases.lineage import Lineage
from slipway_monitoring.usecases.monitors import Monitors
from slipway_monitoring.usecases.objectives import ObjectiveWatch
from slipway_monitoring.usecases.outcomes import Outcomes
from slipway_monitoring.usecases.predictions import Predictions
from slipway_monitoring.usecases.references import Acceptance
from slipway_monitoring.usecases.retention import Retention
from slipway_monitoring.usecases.sources import Sources
from slipway_monitoring.usecases.traces import Traces

SERVICE = "monitoring"
RECEIVER_THREADS = 4


def serve(settings: Settings) -> None:
    """Serve the gRPC API and the OTLP receiver until told to stop."""
    telemetry.configure(SERVICE, settings)
    channels = Channels(ServiceToken(settings.token_file))
    database = Database.connect(settings)
    registry = Registry(channels, settings.registry)
    traces = Traces(database=database)
    events = Events(database=database, sources=Sources(database=database, registry=registry))
    servicer = Servicer(
        events=events,
        feedback=Feedback(database=database),
        predictions=Predictions(database=database),
        outcomes=Outcomes(database=database),
        captures=CaptureImports(database=database, ingestion=Ingestion(channels, settings.ingestion)),
        lineage=Lineage(database=database),
        monitors=Monitors(database=database),
        drift=Drift(database=database),
        acceptance=Acceptance(database=database, profile=registry.profile),
        alerts=Alerts(database=database),
        silences=Silences(database=database),
        traces=traces,
    )
    server, receiver = _server(settings, servicer), _receiver(settings, traces)
    sweepers = _sweepers(settings, database, traces, events)
    receiver.start()
    for sweeper in sweepers:
        sweeper.start()
    telemetry.ProbeServer(settings.host, settings.http_port).start()
    serve_until_signal(server, settings.drain_s, on_stop=lambda: receiver.stop(settings.drain_s))
    for sweeper in sweepers:
        sweeper.stop()
    channels.close()
    database.close()


def worker(settings: Settings) -> None:
    """Compare windows, judge objectives, act on alerts, import captured inputs, until told to stop."""
    telemetry.configure(SERVICE, settings)
    channels = Channels(ServiceToken(settings.token_file))
    database = Database.connect(settings)
    watchers = _watchers(settings, database, channels)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    for watcher in watchers:
        watcher.start()
    telemetry.ProbeServer(settings.host, settings.http_port).start()
    stopped.wait()
    for watcher in watchers:
        watcher.stop()
    channels.close()
    database.close()


def _watchers(settings: Settings, database: Database, channels: Channels) -> list[Sweeper]:
    drift = DriftWatch(database=database, profile=Registry(channels, settings.registry).profile)
    objectives = ObjectiveWatch(database=database, down_s=settings.downtime_s)
    actions = Actions(
        database=database,
        callers={PIPELINE: Pipelines(channels, settings.pipelines).start, WEBHOOK: post_webhook},
    )
    errands = Errands(
        database=database,
        ingestion=Ingestion(channels, settings.ingestion),
        lease_s=settings.import_lease_s,
    )
    works = {
        "watch-drift": (settings.watch_interval_s, drift.sweep),
        "watch-objectives": (settings.objective_interval_s, objectives.sweep),
        "alert-actions": (settings.watch_interval_s, actions.sweep),
        "import-captures": (settings.watch_interval_s, errands.sweep),
        "forget-alerts": (settings.sweep_interval_s, objectives.forget),
    }
    return [Sweeper(database, name, interval_s, work) for name, (interval_s, work) in works.items()]


def _sweepers(settings: Settings, database: Database, traces: Traces, events: Events) -> list[Sweeper]:
    retention = Retention(
        database=database,
        hours=settings.event_retention_hours,
        max_rows=settings.max_rows,
        max_captured_bytes=settings.max_captured_bytes,
    )
    works = {
        "forget-spans": lambda: traces.forget(settings.retention_hours, settings.max_spans),
        "forget-events": retention.sweep,
        "give-up-spools": lambda: events.give_up(settings.spool_silence_s),
    }
    return [Sweeper(database, name, settings.sweep_interval_s, work) for name, work in works.items()]


def _server(settings: Settings, servicer: Servicer) -> Server:
    server = Server(
        service=SERVICE,
        host=settings.host,
        port=settings.grpc_port,
        threads=settings.rpc_threads,
        verifier=Verifier(settings.jwks),
        reflected=[API],
    )
    monitoring_pb2_grpc.add_MonitoringServiceServicer_to_server(servicer, server.grpc)  # type: ignore[no-untyped-call]
    return server


def _receiver(settings: Settings, traces: Traces) -> grpc.Server:
    receiver = grpc.server(
        futures.ThreadPoolExecutor(max_workers=RECEIVER_THREADS, thread_name_prefix="otlp"),
        options=(("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 32 << 20)),
    )
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(OtlpReceiver(traces=traces), receiver)
    receiver.add_insecure_port(f"{settings.host}:{settings.otlp_port}")
    return receiver


def main() -> None:
    """Do the verb that the command line names."""
    run("slipway_monitoring", Settings, serve=serve, worker=worker)


if __name__ == "__main__":
    main()
