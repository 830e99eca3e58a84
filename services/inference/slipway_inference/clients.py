"""The registry: which bundle a version has, and its files. Monitoring: it takes the events."""

import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import count

from opentelemetry import trace
from slipway.monitoring.v1 import monitoring_pb2
from slipway.registry.v1 import registry_pb2, registry_pb2_grpc
from slipway_runtime.rpc import Channels, our_errors

from slipway_inference.engine.outbox import Batch

_DOWNLOAD_S = 300.0
# One in so many reports is traced: each would be a trace of its own, and they would crowd out the requests'.
_TRACED = 25
_REPORT = "/slipway.monitoring.v1.MonitoringService/ReportEvents"


class Registry:
    """What a front asks of the registry.

    Args:
        channels: Channels of this process.
        address: Of the registry.
    """

    def __init__(self, channels: Channels, address: str) -> None:
        service = registry_pb2.DESCRIPTOR.services_by_name["RegistryService"]
        self._stub = registry_pb2_grpc.RegistryServiceStub(channels.to(address, service))

    def bundle_of(self, version: str) -> str:
        """Return the digest of a version's bundle.

        Raises:
            NotFound: There is no such version.
        """
        with our_errors():
            found = self._stub.GetModelVersion(registry_pb2.GetModelVersionRequest(name=version))
        return str(found.bundle).removeprefix("bundles/")

    def download(self, digest: str) -> Iterator[tuple[str, bytes]]:
        """Yield (file, next bytes of it)."""
        request = registry_pb2.DownloadBundleRequest(name=f"bundles/{digest}")
        name = ""
        with our_errors():
            for part in self._stub.DownloadBundle(request, timeout=_DOWNLOAD_S):
                if part.WhichOneof("payload") == "file":
                    name = str(part.file.name)
                    yield name, b""
                else:
                    yield name, part.chunk


class Monitoring:
    """Where events go.

    Args:
        channels: Channels of this process.
        address: Of monitoring.
    """

    def __init__(self, channels: Channels, address: str) -> None:
        self._calls = count()
        self._report = channels.to(address).unary_unary(
            _REPORT,
            request_serializer=bytes,
            response_deserializer=monitoring_pb2.ReportEventsResponse.FromString,
        )

    def report(self, batch: Batch, timeout_s: float) -> int:
        """Send a batch; return the sequence up to which nothing needs to be kept.

        Each record is a ReportEventsRequest with one event in it. Serialized messages one after the other are
        their merge, so no event is parsed again here, where it would cost the replies the interpreter's lock.

        Raises:
            SlipwayError: It was refused, or monitoring cannot be reached.
        """
        head = monitoring_pb2.ReportEventsRequest(
            spool=batch.spool,
            first_sequence=batch.first_sequence,
            produced_sequence=batch.produced_sequence,
            endpoint=batch.endpoint,
            model_version=batch.model_version,
            closed=batch.closed,
        )
        message = b"".join((head.SerializeToString(), *(record for _, record in batch.records)))
        with our_errors(), nullcontext() if next(self._calls) % _TRACED == 0 else _untraced():
            return int(self._report(message, timeout=timeout_s).acknowledged_sequence)


def _untraced() -> AbstractContextManager[trace.Span]:
    """Return a context in which calls belong to a trace that nobody keeps, the mesh's sidecars neither."""
    ids = random.getrandbits(128) | 1, random.getrandbits(64) | 1
    nobodys = trace.SpanContext(*ids, is_remote=True, trace_flags=trace.TraceFlags(0))
    return trace.use_span(trace.NonRecordingSpan(nobodys))
