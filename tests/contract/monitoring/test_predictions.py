"""What callers may rely on: events and labels once each whatever dies, captured inputs in one commit."""

import random
import threading
import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import grpc
import pytest
from running import Keys, Service, free_port
from slipway.ingestion.v1 import ingestion_pb2 as ing
from slipway.ingestion.v1 import ingestion_pb2_grpc as ing_grpc
from slipway.monitoring.v1 import monitoring_pb2 as pb
from slipway.monitoring.v1 import monitoring_pb2_grpc as pb_grpc
from slipway_runtime.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    SlipwayError,
)
from slipway_runtime.rpc import from_rpc_error
from spools import WITHIN_S, Spool, insist, outcomes

ENDPOINT, UNREGISTERED = "endpoints/garden", "models/own/versions/1"


@pytest.fixture
def settings(keys: Keys, postgres: Any, ingestion: Service, registry: Service) -> Iterator[dict[str, Any]]:
    url = postgres.fresh_database()
    yield {
        "database_url": url,
        "registry": registry.address,
        "ingestion": ingestion.address,
        "token_file": keys.service_file("monitoring"),
        "otlp_port": free_port(),
        "sweep_interval_s": 0.3,
        "watch_interval_s": 0.2,
        "import_lease_s": 2,
    }
    postgres.drop(url)


@pytest.fixture
def server(keys: Keys, settings: dict[str, Any]) -> Iterator[Service]:
    """Return a monitoring of this test alone, which may be killed."""
    service = Service("slipway_monitoring.main", keys, **settings).migrate().start()
    yield service
    service.stop()


@pytest.fixture
def front(server: Service, keys: Keys) -> Iterator[Any]:
    with server.channel(keys.service("inference")) as opened:
        yield pb_grpc.MonitoringServiceStub(opened)


@pytest.fixture
def stub(server: Service, keys: Keys) -> Iterator[Any]:
    with server.channel(keys.user(), [pb.DESCRIPTOR.services_by_name["MonitoringService"]]) as opened:
        yield pb_grpc.MonitoringServiceStub(opened)


def refused(call: Any) -> SlipwayError:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return from_rpc_error(caught.value)


def said(stub: Any, *labels: tuple[str, str], request_id: str = "") -> pb.RecordFeedbackResponse:
    feedback = [pb.Feedback(prediction=name, label=label, source="imports/garden") for name, label in labels]
    return stub.RecordFeedback(pb.RecordFeedbackRequest(feedback=feedback, request_id=request_id))


def test_classes_of_a_registered_version_are_called_by_their_names(
    front: Any, stub: Any, a_version: str
) -> None:
    spool = Spool(ENDPOINT, a_version)
    names = [spool.add(0), spool.add(1)]
    spool.deliver(front, closed=True)

    found = [stub.GetPrediction(pb.GetPredictionRequest(name=name)).predicted_label for name in names]

    assert found == ["a", "b"]
    said(stub, (names[0], "a"), (names[1], "a"))
    (version,) = stub.GetQuality(pb.GetQualityRequest(name="monitors/garden")).versions
    assert (version.model_version, version.labelled_count, version.correct_count) == (a_version, 2, 1)
    assert version.accuracy_low < version.accuracy < version.accuracy_high
    assert dict(version.class_counts) == {"a": 1, "b": 1}


def test_users_may_not_report_and_a_front_may(server: Service, front: Any, stub: Any) -> None:
    spool = Spool(ENDPOINT, UNREGISTERED)
    spool.add()

    error = refused(lambda: stub.ReportEvents(spool.batch()))

    assert isinstance(error, PermissionDenied)
    assert front.ReportEvents(spool.batch()).acknowledged_sequence == 1


def test_refusals_name_what_is_wrong(front: Any, stub: Any) -> None:
    spool = Spool(ENDPOINT, UNREGISTERED)
    name = spool.add()
    late = pb.ReportEventsRequest(**{**_fields(spool.batch()), "first_sequence": 9, "events": []})
    gap = refused(lambda: front.ReportEvents(late))
    spool.deliver(front)

    unknown_row = refused(lambda: said(stub, (name.replace(".0", ".7"), "1")))
    unknown = refused(lambda: stub.GetPrediction(pb.GetPredictionRequest(name="predictions/none.0")))
    nothing = refused(
        lambda: stub.CreateCaptureImport(
            pb.CreateCaptureImportRequest(
                capture_import=pb.CaptureImport(endpoint=ENDPOINT, dataset="datasets/none")
            )
        )
    )

    assert (type(gap), gap.reason, gap.metadata["expected_sequence"]) == (
        FailedPrecondition,
        "SEQUENCE_GAP",
        "1",
    )
    assert (type(unknown_row), unknown_row.violations[0].field) == (InvalidArgument, "feedback.prediction")
    assert (type(unknown), unknown.reason) == (NotFound, "PREDICTION_NOT_FOUND")
    assert (type(nothing), nothing.reason) == (NotFound, "DATASET_NOT_FOUND")


def test_a_listing_refuses_pages_that_are_none(front: Any, stub: Any) -> None:
    spool = Spool(ENDPOINT, UNREGISTERED)
    for _ in range(3):
        spool.add()
    spool.deliver(front)

    def page(**fields: Any) -> pb.ListPredictionsResponse:
        return stub.ListPredictions(pb.ListPredictionsRequest(**{"endpoint": ENDPOINT, **fields}))

    first = page(page_size=2)
    rest = page(page_size=2, page_token=first.next_page_token)

    assert [one.name for one in (*first.predictions, *rest.predictions)] == spool.predictions[::-1]
    assert rest.next_page_token == ""
    assert refused(lambda: page(page_size=-1)).violations[0].field == "page_size"
    for other in ({"page_token": "x"}, {"page_token": first.next_page_token, "labelled_only": True}):
        assert refused(lambda fields=other: page(**fields)).reason == "INVALID_PAGE_TOKEN"


def _fields(request: pb.ReportEventsRequest) -> dict[str, Any]:
    return {field.name: value for field, value in request.ListFields()}


def test_events_and_labels_are_counted_once_while_the_service_is_killed(
    server: Service, front: Any, stub: Any
) -> None:
    reporters, rounds, kills = 4, 12, 3
    over = threading.Event()
    spools = [Spool(ENDPOINT, UNREGISTERED) for _ in range(reporters)]
    labelled: list[str] = []
    failed: list[BaseException] = []

    def report(spool: Spool, seed: int) -> None:
        rng = random.Random(seed)
        try:
            for number in count():
                if number >= rounds and over.is_set():
                    break
                names = [spool.add(rng.randrange(2)) for _ in range(3)]
                label = (names[0], "0")
                if rng.random() < 0.5:  # some labels come before their event
                    insist(lambda n=number, one=label: said(stub, one, request_id=f"{spool.id}-{n}"))
                spool.deliver(front)
                insist(lambda n=number, one=label: said(stub, one, request_id=f"{spool.id}-{n}"))
                labelled.append(names[0])
                if rng.random() < 0.3:
                    insist(lambda s=spool: front.ReportEvents(s.batch(), timeout=10))
            spool.deliver(front, closed=True)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=report, args=(spool, seed)) for seed, spool in enumerate(spools)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(kills):
            time.sleep(0.5)
            server.kill()
            server.start()
    finally:
        over.set()
    for thread in threads:
        thread.join(WITHIN_S)

    total = sum(len(spool.predictions) for spool in spools)
    coverage = stub.GetCoverage(pb.GetCoverageRequest(name="monitors/garden"))
    rows, with_label, correct = outcomes(stub, ENDPOINT)
    (version,) = stub.GetQuality(pb.GetQualityRequest(name="monitors/garden")).versions
    assert failed == []
    assert total >= reporters * rounds * 3
    assert (rows, with_label) == (total, len(labelled)) == (version.row_count, version.labelled_count)
    assert correct == version.correct_count
    assert (coverage.received_count, coverage.lost_count, coverage.waiting_count) == (total, 0, 0)
    assert all(spool.closed for spool in coverage.spools)


def test_captured_inputs_are_one_commit_though_the_worker_is_killed(
    keys: Keys, settings: dict[str, Any], server: Service, front: Any, stub: Any, ingestion: Service
) -> None:
    spool = Spool(ENDPOINT, UNREGISTERED)
    names = [spool.add(image=bytes([number % 256] * 15 + [number // 256])) for number in range(300)]
    spool.deliver(front, closed=True)
    with ingestion.channel(keys.user()) as opened:
        data = ing_grpc.IngestionServiceStub(opened)
        data.CreateDataset(ing.CreateDatasetRequest(dataset_id="captured"))
        asked = pb.CaptureImport(
            endpoint=ENDPOINT, dataset="datasets/captured", attributes={"reason": "drift"}
        )
        request = pb.CreateCaptureImportRequest(capture_import=asked, request_id="import-1")
        made = stub.CreateCaptureImport(request)
        again = stub.CreateCaptureImport(request)
        worker = Service("slipway_monitoring.main", keys, verb="worker", **settings)
        for pause_s in (0.1, 0.3, 0.6):
            worker.start()
            time.sleep(pause_s)
            worker.kill()
        worker.start()
        try:
            done = _ended(stub, made.name)
        finally:
            worker.stop()
        assert (done.state, done.example_count, done.error) == (pb.CaptureImport.SUCCEEDED, 300, "")
        history = data.ListCommits(ing.ListCommitsRequest(parent="datasets/captured")).commits
        examples = [
            item
            for part in data.ReadExamples(ing.ReadExamplesRequest(commit=done.commit))
            for item in part.examples
        ]

    assert again == made
    assert [commit.name for commit in history if commit.example_count] == [done.commit]
    assert sorted(item.example.key for item in examples) == sorted(names)
    assert {item.example.media_type for item in examples} == {"image/png"}
    assert examples[0].example.attributes["reason"] == "drift"
    assert examples[0].example.attributes["endpoint"] == ENDPOINT
    children = stub.ListChildren(pb.ListChildrenRequest(name=names[0])).names
    parents = stub.ListParents(pb.ListParentsRequest(name=names[0])).names
    assert (children, parents) == ([done.commit], [UNREGISTERED, ENDPOINT])


def _ended(stub: Any, name: str) -> pb.CaptureImport:
    stop_at = time.monotonic() + WITHIN_S
    while True:
        found = stub.GetCaptureImport(pb.GetCaptureImportRequest(name=name))
        if found.state in (pb.CaptureImport.SUCCEEDED, pb.CaptureImport.FAILED) or time.monotonic() > stop_at:
            return found
        time.sleep(0.2)
