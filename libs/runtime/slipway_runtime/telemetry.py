"""Spans, logs and metrics of one process.

Spans leave as OTLP over gRPC (W3C trace context crosses REST, gRPC and queues). Logs are JSON lines
with the trace id. Metrics and health are served over HTTP for Prometheus and probes.
"""

import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

from slipway_runtime.settings import ServiceSettings

tracer = trace.get_tracer("slipway")


def configure(service: str, settings: ServiceSettings) -> None:
    """Set up logs and, when an endpoint is set, the export of spans. Once per process."""
    _configure_logs(service, settings.log_level)
    if not settings.otlp_endpoint:
        return
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(settings.trace_sample_ratio)),
        resource=Resource.create({"service.name": service}),
        shutdown_on_exit=True,
    )
    exporter = OTLPSpanExporter(endpoint=settings.otlp_endpoint, insecure=True, timeout=5)
    provider.add_span_processor(
        BatchSpanProcessor(
            exporter, max_queue_size=8192, schedule_delay_millis=500, export_timeout_millis=5000
        )
    )
    trace.set_tracer_provider(provider)


def shutdown() -> None:
    """Send the spans that wait; bounded by the exporter's timeout."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.shutdown()


def trace_id() -> str:
    """Return the current trace id as 32 hexadecimal characters, or nothing outside of a trace."""
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else ""


class _JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
        }
        current = trace_id()
        if current:
            line["trace_id"] = current
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def _configure_logs(service: str, level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("alembic", "httpx", "opentelemetry.exporter", "kombu", "amqp"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


class ProbeServer:
    """Serves /metrics, /healthz (the process lives) and /readyz (it can do its work).

    Args:
        host: Address to listen on.
        port: Port; 0 picks a free one.
        healthy: Says why the process should be restarted; nothing means that it is well.
        ready: Says what is missing; nothing means ready.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        healthy: Callable[[], str] = str,
        ready: Callable[[], str] = str,
    ) -> None:
        checks = {"/healthz": healthy, "/readyz": ready}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == "/metrics":
                    self._answer(200, generate_latest(REGISTRY), CONTENT_TYPE_LATEST)
                elif path in checks:
                    trouble = checks[path]()
                    self._answer(503 if trouble else 200, (trouble or "ok").encode(), "text/plain")
                else:
                    self._answer(404, b"/metrics, /healthz or /readyz", "text/plain")

            def _answer(self, status: int, body: bytes, content_type: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                return None

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])

    def start(self) -> None:
        """Serve from a thread of its own."""
        threading.Thread(target=self._server.serve_forever, name="probes", daemon=True).start()

    def stop(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
