"""The platform keeps its data over restarts, and services call only whom they may."""

import pytest
from laptop_platform import Platform
from slipway.client import Client
from slipway.ingestion.v1 import ingestion_pb2 as ing
from slipway.monitoring.v1 import monitoring_pb2 as mon

pytestmark = [pytest.mark.xdist_group("platform"), pytest.mark.timeout(300)]

# DESIGN, section 2: who may call whom. Queue edges stay inside a service (ADR-0001).
ALLOWED = {
    "gateway": {"ingestion", "labeling", "training-worker", "registry", "rollout", "monitoring", "inference"},
    "labeling": {"ingestion"},
    "training-worker": {"ingestion", "registry", "training-worker"},
    "registry": {"ingestion"},
    "rollout": {"registry", "monitoring"},
    "inference": {"registry", "monitoring"},
    "monitoring": {"registry", "ingestion", "pipelines"},
}


def test_a_restart_keeps_what_was_acknowledged(platform: Platform) -> None:
    with Client.local() as client:
        made = client.ingestion.CreateDataset(
            ing.CreateDatasetRequest(dataset_id="kept-over-restart", dataset=ing.Dataset(description="stays"))
        )
    platform.slipway("down")
    platform.slipway("up", "--port-base", str(platform.port_base))

    with Client.local() as client:
        again = client.ingestion.GetDataset(ing.GetDatasetRequest(name=made.name))

    assert again == made


def test_services_call_only_whom_the_design_lets_them_call(platform: Platform) -> None:
    with Client.local() as client:
        client.ingestion.ListDatasets(ing.ListDatasetsRequest())
        edges = client.monitoring.ListServiceEdges(mon.ListServiceEdgesRequest(window_s=3600)).edges

    crossed = {(e.source, e.destination) for e in edges if e.source in ALLOWED}
    assert {(a, b) for a, b in crossed if b not in ALLOWED[a]} == set()
