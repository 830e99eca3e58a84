"""What rollout relies on in monitoring, asked of the real one: all that arrives is counted once."""

import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from running import Keys, Service
from slipway.monitoring.v1 import monitoring_pb2 as pb
from slipway.monitoring.v1 import monitoring_pb2_grpc
from slipway.registry.v1 import registry_pb2_grpc as reg_grpc
from slipway_rollout.clients import Monitoring
from slipway_runtime.identity import ServiceToken
from slipway_runtime.rpc import Channels

sys.path.insert(0, str(Path(__file__).parents[1] / "monitoring"))

from faded_traffic import Traffic, referenced_version


@pytest.fixture(scope="module")
def version(registry: Service, keys: Keys, a_commit: str) -> str:
    """Return a version whose bundle monitoring can read."""
    with registry.channel(keys.user()) as opened:
        return referenced_version(reg_grpc.RegistryServiceStub(opened), a_commit, "battery-arrivals")


@pytest.fixture
def client(monitoring: Service, keys: Keys) -> Iterator[Monitoring]:
    """Return rollout's own client of the running monitoring."""
    channels = Channels(ServiceToken(keys.service_file("rollout")))
    yield Monitoring(channels, monitoring.address)
    channels.close()


@pytest.fixture
def front(monitoring: Service, keys: Keys) -> Iterator[Any]:
    """Return monitoring as an inference front calls it."""
    with monitoring.channel(keys.service("inference")) as opened:
        yield monitoring_pb2_grpc.MonitoringServiceStub(opened)


@pytest.fixture
def annotator(monitoring: Service, keys: Keys) -> Iterator[Any]:
    """Return monitoring as somebody calls it who says what was right."""
    with monitoring.channel(keys.user()) as opened:
        yield monitoring_pb2_grpc.MonitoringServiceStub(opened)


def test_rows_and_late_labels_arrive_once_whatever_is_sent_again(
    client: Monitoring, front: Any, annotator: Any, version: str
) -> None:
    endpoint, since = f"endpoints/e{uuid.uuid4().hex[:8]}", datetime.now(UTC)
    traffic = Traffic(endpoint, version)
    nothing = client.arrivals(endpoint, "", since)
    batch = traffic.batch(30)

    for _ in range(2):
        front.ReportEvents(batch)
    first = client.arrivals(endpoint, nothing.cursor, since)
    label = pb.Feedback(prediction=f"predictions/{batch.events[0].event.prediction_id}.0", label="rose")
    for _ in range(2):
        annotator.RecordFeedback(pb.RecordFeedbackRequest(feedback=[label]))
    front.ReportEvents(traffic.batch(5))
    second = client.arrivals(endpoint, first.cursor, since)
    third = client.arrivals(endpoint, second.cursor, since)

    assert (nothing.outcomes, nothing.cursor) == ((), "")
    assert sum(outcome.rows.count for outcome in first.outcomes) == 30
    assert sum(sum(outcome.rows.by_class.values()) for outcome in first.outcomes) == 30
    assert {(outcome.model_version, outcome.shadow) for outcome in first.outcomes} == {(version, False)}
    assert since - timedelta(seconds=1) < first.outcomes[0].moment <= datetime.now(UTC)
    assert [sum(getattr(o.rows, what) for o in second.outcomes) for what in ("count", "labelled")] == [5, 1]
    assert third.outcomes == ()


def test_mirrored_rows_are_told_apart_and_testers_left_out(
    client: Monitoring, front: Any, version: str
) -> None:
    endpoint, since = f"endpoints/e{uuid.uuid4().hex[:8]}", datetime.now(UTC)
    for role in (pb.PredictionEvent.SHADOW, pb.PredictionEvent.TESTER):
        batch = Traffic(endpoint, version).batch(4)
        for sequenced in batch.events:
            sequenced.event.role = role
        front.ReportEvents(batch)

    found = client.arrivals(endpoint, "", since)

    assert [(outcome.shadow, outcome.rows.count) for outcome in found.outcomes] == [(True, 4)]
