"""An OTLP receiver that does nothing: where a traced front sends its spans. Run with PORT."""

from typing import Any

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as pb_grpc
from sinks import serve


class Sink(pb_grpc.TraceServiceServicer):
    """Says yes."""

    def Export(self, request: Any, context: Any) -> Any:
        return pb.ExportTraceServiceResponse()


if __name__ == "__main__":
    serve(lambda server: pb_grpc.add_TraceServiceServicer_to_server(Sink(), server))
