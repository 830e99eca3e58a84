"""What rollout asks of monitoring."""

from datetime import UTC, datetime

import grpc
from slipway.monitoring.v1 import monitoring_pb2 as pb
from slipway.monitoring.v1 import monitoring_pb2_grpc
from slipway_runtime.errors import InvalidArgument
from slipway_runtime.rpc import Channels, from_rpc_error

from slipway_rollout.domain import Arrivals, Outcomes, Rows

TIMEOUT_S = 5.0
_PAGES = 20  # at one look; what is left comes at the next


class Monitoring:
    """Predicted rows and late labels, counted.

    Args:
        channels: Channels of this process.
        address: Of monitoring.
    """

    def __init__(self, channels: Channels, address: str) -> None:
        descriptor = pb.DESCRIPTOR.services_by_name["MonitoringService"]
        channel = channels.to(address, descriptor, timeout_s=TIMEOUT_S)
        self._stub = monitoring_pb2_grpc.MonitoringServiceStub(channel)  # type: ignore[no-untyped-call]

    def arrivals(self, endpoint: str, cursor: str, since: datetime) -> Arrivals:
        """Return what arrived after a cursor; an empty one begins at a time.

        Raises:
            SlipwayError: Monitoring cannot be reached, or refused.
        """
        outcomes: list[Outcomes] = []
        pairs = disagreements = 0
        for _ in range(_PAGES):
            request = pb.ListOutcomesRequest(endpoint=endpoint, cursor=cursor)
            if not cursor:
                request.start_time.FromDatetime(since)
            try:
                answer = self._stub.ListOutcomes(request)
            except grpc.RpcError as failed:
                error = from_rpc_error(failed)
                if isinstance(error, InvalidArgument) and cursor:  # what follows it is forgotten: begin now
                    cursor, since = "", datetime.now(UTC)
                    continue
                raise error from failed
            outcomes += [
                _outcomes(count) for count in answer.outcomes if count.role != pb.PredictionEvent.TESTER
            ]
            pairs += answer.shadow_pair_count
            disagreements += answer.shadow_disagreement_count
            cursor = answer.cursor
            if not answer.more:
                break
        return Arrivals(tuple(outcomes), cursor, pairs, disagreements)


def _outcomes(count: pb.OutcomeCount) -> Outcomes:
    return Outcomes(
        moment=count.second.ToDatetime(tzinfo=UTC),
        model_version=count.model_version,
        shadow=count.role == pb.PredictionEvent.SHADOW,
        rows=Rows(count.row_count, dict(count.class_counts), count.labelled_count, count.correct_count),
    )
