"""A monitoring that does nothing but say yes: where a front delivers its events. Run with PORT."""

from typing import Any

from sinks import serve
from slipway.monitoring.v1 import monitoring_pb2 as pb
from slipway.monitoring.v1 import monitoring_pb2_grpc as pb_grpc


class Sink(pb_grpc.MonitoringServiceServicer):
    """Acknowledges what it gets."""

    def ReportEvents(self, request: Any, context: Any) -> Any:
        last = request.events[-1].sequence if request.events else request.first_sequence - 1
        return pb.ReportEventsResponse(acknowledged_sequence=last)


if __name__ == "__main__":
    serve(lambda server: pb_grpc.add_MonitoringServiceServicer_to_server(Sink(), server))
