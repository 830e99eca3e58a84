"""Nothing acknowledged is lost or doubled, at whatever moment a process is killed.

`make campaign` runs the full form (200 effects and 10 kills per process), `make test` a shorter one.
"""

import os
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from campaign import Audit, Journal, campaign
from door import ADMIN_TOKEN, Gateway
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1 import trace_pb2
from running import Keys, Service, free_port
from slipway.ingestion.v1 import ingestion_pb2 as ing
from slipway.ingestion.v1 import ingestion_pb2_grpc as ing_grpc
from slipway.monitoring.v1 import monitoring_pb2 as mon
from slipway.monitoring.v1 import monitoring_pb2_grpc as mon_grpc
from slipway.registry.v1 import registry_pb2 as reg
from slipway.registry.v1 import registry_pb2_grpc as reg_grpc

FULL = bool(os.environ.get("SLIPWAY_FULL_CAMPAIGN"))
WITHIN_S = 7200 if FULL else 900
pytestmark = [pytest.mark.xdist_group("campaign"), pytest.mark.timeout(WITHIN_S)]
AWAY = {"registry": "127.0.0.1:9", "ingestion": "127.0.0.1:9"}  # peers that a campaign does not need
SIZE = {"effects": 200, "kills": 10} if FULL else {"effects": 40, "kills": 4}


def pages(call: Any, request: Any, field: str) -> Iterator[Any]:
    """Yield every item of a listing."""
    while True:
        page = call(request)
        yield from getattr(page, field)
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def judged(audit: Audit) -> None:
    """Fail unless the campaign was as large as asked and found nothing."""
    assert audit.clean, audit
    assert audit.acknowledged >= SIZE["effects"]
    assert audit.kills >= SIZE["kills"]


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


@pytest.fixture
def started(keys: Keys, database_url: str, objects: dict[str, str]) -> Iterator[Callable[..., Any]]:
    """Return a function that migrates and starts a service."""
    running: list[Service] = []

    def start(what: Callable[..., Any], *arguments: Any, **settings: object) -> Any:
        service = what(*arguments, keys, database_url=database_url, **{**objects, **settings})
        running.append(service)
        return service.migrate().start()

    yield start
    for service in running:
        service.stop()


def test_ingestion_keeps_every_commit_once(started: Callable[..., Any], keys: Keys, journal: Journal) -> None:
    ingestion = started(Service, "slipway_ingestion.main")
    with ingestion.channel(keys.user()) as opened:
        stub = ing_grpc.IngestionServiceStub(opened)
        stub.CreateDataset(ing.CreateDatasetRequest(dataset_id="kept"))

        def effect(id: str) -> None:
            header = ing.UploadHeader(parent="datasets/kept", request_id=f"{id}-upload")
            item = ing.UploadItem(key=id, data=f"text of {id}".encode(), label="x")
            parts = [ing.UploadExamplesRequest(header=header), ing.UploadExamplesRequest(item=item)]
            upload = stub.UploadExamples(iter(parts), timeout=5)
            commit = ing.CreateCommitRequest(
                parent="datasets/kept", uploads=[upload.name], message=id, request_id=id
            )
            stub.CreateCommit(commit, timeout=5)

        def present() -> Iterable[str]:
            history = ing.ListCommitsRequest(parent="datasets/kept", page_size=1000)
            messages = [commit.message for commit in pages(stub.ListCommits, history, "commits")]
            head = stub.GetBranch(ing.GetBranchRequest(name="datasets/kept/branches/main")).commit
            rows = stub.ReadExamples(ing.ReadExamplesRequest(commit=head))
            keys = {e.example.key for part in rows for e in part.examples if e.data}
            return [message for message in messages if message in keys]

        judged(campaign(victims=[ingestion], effect=effect, present=present, journal=journal, **SIZE))


def registry_campaign(registry: Service, keys: Keys, journal: Journal, effects: int, kills: int) -> Audit:
    """Make runs that two attempts write: the second goes on from step 30, the first does not know it."""
    with registry.channel(keys.user()) as opened:
        stub = reg_grpc.RegistryServiceStub(opened)
        stub.CreateExperiment(reg.CreateExperimentRequest(experiment_id="kept"))

        def log(run: str, attempt: int, steps: range, value: float) -> None:
            points = [reg.MetricPoint(key="loss", step=step, value=value) for step in steps]
            stub.LogMetrics(reg.LogMetricsRequest(name=run, attempt=attempt, points=points), timeout=5)

        def effect(id: str) -> None:
            run = stub.CreateRun(
                reg.CreateRunRequest(parent="experiments/kept", run=reg.Run(display_name=id), request_id=id),
                timeout=5,
            ).name
            for attempt, steps in ((1, range(40)), (2, range(30, 50))):
                begin = reg.BeginRunAttemptRequest(name=run, attempt=attempt, resume_step=29)
                try:
                    stub.BeginRunAttempt(begin, timeout=5)
                    log(run, attempt, steps, attempt)
                except grpc.RpcError as error:  # an earlier try of this effect came as far as attempt 2
                    if error.code() is not grpc.StatusCode.FAILED_PRECONDITION or attempt == 2:
                        raise
            try:
                log(run, 1, range(45, 60), 1)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
                    raise

        def present() -> Iterable[str]:
            wanted = [(step, 1 if step < 30 else 2) for step in range(50)]
            listing = reg.ListRunsRequest(parent="experiments/kept", page_size=1000)
            for run in pages(stub.ListRuns, listing, "runs"):
                series = reg.ListMetricPointsRequest(parent=run.name, key="loss", page_size=1000)
                if [(p.step, p.value) for p in pages(stub.ListMetricPoints, series, "points")] == wanted:
                    yield run.display_name

        return campaign(
            victims=[registry], effect=effect, present=present, journal=journal, effects=effects, kills=kills
        )


def test_registry_keeps_every_run_and_point_once(
    started: Callable[..., Any], keys: Keys, journal: Journal
) -> None:
    judged(registry_campaign(started(Service, "slipway_registry.main"), keys, journal, **SIZE))


def test_without_the_fence_the_registrys_campaign_finds_what_a_dead_attempt_wrote(
    started: Callable[..., Any], keys: Keys, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))

    audit = registry_campaign(started(Service, "unfenced"), keys, journal, effects=5, kills=1)

    assert len(audit.missing) == audit.acknowledged


def test_monitoring_keeps_every_span_once(started: Callable[..., Any], keys: Keys, journal: Journal) -> None:
    port = free_port()
    monitoring = started(Service, "slipway_monitoring.main", otlp_port=port, **AWAY)
    with (
        grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.max_reconnect_backoff_ms", 1000)]) as otlp,
        monitoring.channel(keys.user()) as opened,
    ):
        receiver = trace_service_pb2_grpc.TraceServiceStub(otlp)
        stub = mon_grpc.MonitoringServiceStub(opened)
        spans: dict[str, bytes] = {}

        def effect(id: str) -> None:
            now = time.time_ns()
            span = trace_pb2.Span(
                trace_id=bytes.fromhex(id.removeprefix("e-")),
                span_id=spans.setdefault(id, secrets.token_bytes(8)),
                name=id,
                start_time_unix_nano=now,
                end_time_unix_nano=now + 1000,
            )
            scope = trace_pb2.ScopeSpans(spans=[span])
            resource = trace_pb2.ResourceSpans(resource=resource_pb2.Resource(), scope_spans=[scope])
            receiver.Export(trace_service_pb2.ExportTraceServiceRequest(resource_spans=[resource]), timeout=5)

        def present() -> Iterable[str]:
            for id in spans:
                name = f"traces/{id.removeprefix('e-')}"
                yield from (span.operation for span in stub.GetTrace(mon.GetTraceRequest(name=name)).spans)

        judged(campaign(victims=[monitoring], effect=effect, present=present, journal=journal, **SIZE))


def test_the_gateway_keeps_every_token_once(
    started: Callable[..., Any], keys: Keys, journal: Journal, tmp_path: Path
) -> None:
    (tmp_path / "admin").write_text(ADMIN_TOKEN)
    gateway = started(
        Gateway,
        signing_key_file=keys.pem,
        bootstrap_token_file=tmp_path / "admin",
        registry="127.0.0.1:1",
        ingestion="127.0.0.1:1",
        training="127.0.0.1:1",
        rollout="127.0.0.1:1",
    )
    secret_of: dict[str, str] = {}
    with httpx.Client(headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}, timeout=30) as client:

        def effect(id: str) -> None:
            body = {"displayName": id, "requestId": id}
            answer = client.post(f"{gateway.url}/v1/tokens", json=body).raise_for_status()
            secret_of[id] = answer.json()["secret"]

        def present() -> Iterable[str]:
            rows, token = [], ""
            while not rows or token:
                query = {"pageSize": 1000, "pageToken": token}
                page = client.get(f"{gateway.url}/v1/tokens", params=query).json()
                rows, token = rows + page["tokens"], page["nextPageToken"]
            for row in (row for row in rows if row["displayName"] in secret_of):
                bearer = {"Authorization": f"Bearer {secret_of[row['displayName']]}"}
                if client.post(f"{gateway.url}/v1/auth:exchange", headers=bearer).status_code == 200:
                    yield row["displayName"]

        audit = campaign(
            victims=[gateway],
            effect=effect,
            present=present,
            journal=journal,
            passing=lambda error: isinstance(error, httpx.TransportError | socket.error),
            **SIZE,
        )
    judged(audit)
