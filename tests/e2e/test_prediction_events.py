"""Predictions through a running platform arrive in monitoring once, whatever of it is killed."""

import os
import signal
import threading
import time
import uuid
from collections.abc import Iterator

import pytest
from laptop_platform import Platform
from served import Taught, images, removed, running, serve, until
from slipway.client import Client, SlipwayError
from slipway.client.paging import pages
from slipway.monitoring.v1 import monitoring_pb2 as mon
from slipway.rollout.v1 import rollout_pb2 as rol

pytestmark = [pytest.mark.xdist_group("platform"), pytest.mark.timeout(600)]


@pytest.fixture
def endpoint(platform: Platform, taught: Taught) -> Iterator[str]:
    """Return an endpoint that serves one version and captures all that it answers."""
    name = f"events-{uuid.uuid4().hex[:8]}"
    with Client.local() as client:
        serve(client, platform, name, taught.name)
        yield name
        removed(client, platform, name)


class Callers:
    """Ask until told to stop; a call that fails is made again, and what was answered is noted."""

    def __init__(self, endpoint: str, count: int = 2) -> None:
        self.answered: list[str] = []
        self._endpoint = endpoint
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        rows = images(2)[..., None]
        with Client.local() as client:
            while not self._stopped.is_set():
                try:
                    self.answered += client.infer(self._endpoint, {"image": rows}).rows
                except SlipwayError:
                    time.sleep(0.1)

    def stop(self) -> list[str]:
        """Stop; return the rows that were answered."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        return self.answered


def kill(platform: Platform, name: str) -> None:
    """End a process as a crash does, and wait until another is there."""
    pid = running(platform, name)["pid"]
    assert pid
    os.kill(pid, signal.SIGKILL)
    until(lambda: (now := running(platform, name))["pid"] not in (0, pid) and now["state"] == "ready")


def test_predictions_arrive_once_while_pods_and_monitoring_are_killed_and_when_the_pod_is_gone(
    platform: Platform, endpoint: str
) -> None:
    callers = Callers(endpoint)
    until(lambda: len(callers.answered) > 50)
    for name in (f"{endpoint}-v1", "monitoring", f"{endpoint}-v1"):
        kill(platform, name)
        time.sleep(1.0)
    until(lambda: len(callers.answered) > 100)
    rows = callers.stop()
    with Client.local() as client:
        pod = running(platform, f"{endpoint}-v1")["pid"]
        assert pod
        os.kill(pod, signal.SIGSTOP)
        client.rollout.DeleteEndpoint(rol.DeleteEndpointRequest(name=f"endpoints/{endpoint}", force=True))
        os.kill(pod, signal.SIGKILL)  # it cannot drain its spool: the platform has to

        def told() -> mon.Coverage:
            return client.monitoring.GetCoverage(mon.GetCoverageRequest(name=f"monitors/{endpoint}"))

        until(lambda: all(spool.closed for spool in told().spools))
        coverage = told()
        found = list(
            pages(
                client.monitoring.ListPredictions,
                mon.ListPredictionsRequest(endpoint=f"endpoints/{endpoint}", page_size=1000),
                "predictions",
            )
        )

    names = [row.name.removeprefix("predictions/") for row in found]
    missing = {row.rpartition(".")[0] for row in set(rows) - set(names)}
    assert len(names) == len(set(names)) == 2 * coverage.received_count
    assert len(missing) <= coverage.lost_count
    assert 2 * (coverage.received_count + coverage.lost_count) >= len(rows) > 100
    assert coverage.waiting_count == 0
    assert all(row.captured and row.request_id and row.trace for row in found)
    spools = platform.folder / ".slipway" / "spool"
    until(lambda: not list(spools.glob(f"{endpoint}-*/*")))
