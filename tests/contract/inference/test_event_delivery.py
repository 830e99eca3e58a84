"""Events of a real front in a real monitoring: once each while both are killed; what is lost is counted."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from running import Keys, Service, free_port
from slipway.monitoring.v1 import monitoring_pb2 as mon
from slipway.monitoring.v1 import monitoring_pb2_grpc as mon_grpc
from slipway_inference.engine.segments import read_segment
from tritonclient.utils import InferenceServerException

WITHIN_S = 60.0
SILENCE_S = 4.0
NOBODY = "127.0.0.1:9"


@pytest.fixture(scope="module")
def monitor(keys: Keys, postgres: Any, registry: Service) -> Iterator[Service]:
    """Return a monitoring of this module alone, which tests kill, and which gives spools up soon."""
    service = Service(
        "slipway_monitoring.main",
        keys,
        database_url=postgres.fresh_database(),
        registry=registry.address,
        ingestion=NOBODY,
        token_file=keys.service_file("monitoring"),
        otlp_port=free_port(),
        spool_silence_s=SILENCE_S,
        sweep_interval_s=0.5,
    )
    yield service.migrate().start()
    service.stop()


@pytest.fixture
def stub(monitor: Service, keys: Keys) -> Iterator[Any]:
    with monitor.channel(keys.user(), [mon.DESCRIPTOR.services_by_name["MonitoringService"]]) as opened:
        yield mon_grpc.MonitoringServiceStub(opened)


class Fronts:
    """Makes fronts of one version, each of an endpoint of its own, and stops them."""

    def __init__(self, keys: Keys, folder: Path, **settings: object) -> None:
        self._keys = keys
        self._folder = folder
        self._settings = settings
        self._made: list[Service] = []

    def __call__(self, endpoint: str, version: str, **settings: object) -> Service:
        front = Service(
            "slipway_inference.main",
            self._keys,
            slots=f"{endpoint}={version}",
            token_file=self._keys.service_file("inference"),
            cache_dir=self._folder / "bundles",
            spool_drain_s=WITHIN_S / 2,
            **{**self._settings, "spool_dir": self._folder / endpoint, **settings},
        )
        self._made.append(front)
        return front.start()

    def stop(self) -> None:
        for front in self._made:
            leave(front)


def leave(front: Service) -> None:
    """End a front by SIGTERM, and let it take its time to deliver."""
    front._end(signal.SIGTERM, WITHIN_S)


@pytest.fixture
def fronts(keys: Keys, tmp_path: Path, registry: Service, monitor: Service) -> Iterator[Fronts]:
    made = Fronts(keys, tmp_path, registry=registry.address, monitoring=monitor.address)
    yield made
    made.stop()


class Load:
    """Callers that go on until told to stop; they keep the ids of what was answered."""

    def __init__(self, front: Service, endpoint: str, keys: Keys, callers: int = 3) -> None:
        self.answered: list[tuple[float, str]] = []
        self._stopped = threading.Event()
        self._headers = {"authorization": f"Bearer {keys.user()}"}
        self._threads = [
            threading.Thread(target=self._call, args=(front.address, endpoint), daemon=True)
            for _ in range(callers)
        ]
        for thread in self._threads:
            thread.start()

    def _call(self, address: str, endpoint: str) -> None:
        while not self._stopped.is_set():
            with triton.InferenceServerClient(address) as client:
                try:
                    while not self._stopped.is_set():
                        self.answered.append((time.monotonic(), infer(client, endpoint, self._headers)))
                except InferenceServerException:
                    time.sleep(0.1)

    def stop(self) -> list[str]:
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        return [prediction for _, prediction in self.answered]


@pytest.fixture
def load(keys: Keys) -> Iterator[Callable[[Service, str], Load]]:
    """Make callers; those that a failed test leaves are stopped."""
    made: list[Load] = []

    def begin(front: Service, endpoint: str) -> Load:
        made.append(Load(front, endpoint, keys))
        return made[-1]

    yield begin
    for one in made:
        one.stop()


def infer(client: Any, endpoint: str, headers: dict[str, str], rows: int = 1) -> str:
    """Return the id of one prediction."""
    images = np.random.default_rng().integers(0, 4, size=(rows, 4), dtype=np.uint8)
    made = triton.InferInput("image", images.shape, "UINT8")
    made.set_data_from_numpy(images)
    result = client.infer(endpoint, [made], headers=headers, client_timeout=WITHIN_S)
    return str(result.get_response().parameters["prediction_id"].string_param)


def until(true: Callable[[], bool], within_s: float = WITHIN_S) -> None:
    stop_at = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < stop_at
        time.sleep(0.1)


def arrived(stub: Any, endpoint: str) -> list[Any]:
    """Return every row of an endpoint that monitoring has."""
    found, token = [], ""
    while True:
        request = mon.ListPredictionsRequest(
            endpoint=f"endpoints/{endpoint}", page_size=1000, page_token=token
        )
        page = stub.ListPredictions(request)
        found += page.predictions
        token = page.next_page_token
        if not token:
            return found


def coverage(stub: Any, endpoint: str) -> Any:
    """Return the coverage of an endpoint, empty while monitoring has heard nothing of it."""
    try:
        return stub.GetCoverage(mon.GetCoverageRequest(name=f"monitors/{endpoint}"))
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            raise
        return mon.Coverage()


def drain(front: Service, folder: Path, **settings: object) -> subprocess.CompletedProcess[str]:
    named = {f"SLIPWAY_{name.upper()}": str(value) for name, value in settings.items()}
    command = [sys.executable, "-m", "slipway_inference.main", "drain", "--spool", str(folder)]
    environment = {**front.environment, **named}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=2 * WITHIN_S)


@pytest.mark.parametrize("seed", [1, 2])
def test_events_arrive_once_while_fronts_and_monitoring_are_killed(
    seed: int,
    fronts: Fronts,
    monitor: Service,
    stub: Any,
    load: Callable[[Service, str], Load],
    a_version: str,
) -> None:
    endpoint = f"killed-{seed}"
    front = fronts(endpoint, a_version)
    callers = load(front, endpoint)
    draw = np.random.default_rng(seed)

    for _ in range(3):
        for victim in (front, monitor):
            time.sleep(draw.uniform(0.5, 1.5))
            victim.kill()
            time.sleep(draw.uniform(0.0, 1.0))
            victim.start()
    before = len(callers.answered)

    def outlived() -> bool:
        told = coverage(stub, endpoint)
        gone_by = min(told.received_count + told.lost_count, len(callers.answered))
        return gone_by > before + 100 and told.lost_count < 0.2 * told.received_count

    until(outlived)
    answered = callers.stop()
    leave(front)

    told = coverage(stub, endpoint)
    names = [row.name.removeprefix("predictions/").removesuffix(".0") for row in arrived(stub, endpoint)]
    missing = set(answered) - set(names)
    assert [spool.closed for spool in told.spools] == [True]
    assert len(names) == len(set(names)) == told.received_count
    assert len(missing) <= told.lost_count
    assert told.received_count + told.lost_count >= len(answered) > 100
    assert told.waiting_count == 0
    assert told.lost_count < 0.2 * len(answered)


class Lost:
    """The spool of a front that is killed with its disk: the newest of so many."""

    def __init__(self, stub: Any, endpoint: str, number: int, front: Service) -> None:
        self._stub, self._endpoint, self._number, self._front = stub, endpoint, number, front

    def told(self) -> Any:
        spools = coverage(self._stub, self._endpoint).spools
        return spools[0] if len(spools) == self._number else mon.SpoolCoverage()

    def knows(self, events: int) -> bool:
        """Say whether monitoring has heard of so many events."""
        told = self.told()
        return bool(told.received_count + told.lost_count + told.waiting_count >= events)

    def owes(self) -> bool:
        """Say whether it owes events that monitoring knows of; then the front stands still."""
        os.kill(self._front.pid, signal.SIGSTOP)
        owed = bool(self.told().waiting_count)
        if not owed:
            os.kill(self._front.pid, signal.SIGCONT)
        return owed


def test_a_front_that_is_killed_with_its_disk_is_given_up_and_its_loss_counted(
    fronts: Fronts,
    stub: Any,
    load: Callable[[Service, str], Load],
    a_version: str,
    tmp_path: Path,
) -> None:
    endpoint, lost = "lost-node", 0
    for attempt in range(5):  # a report that was on its way leaves nothing to count
        front = fronts(endpoint, a_version, spool_dir=tmp_path / f"node-{attempt}")
        callers = load(front, endpoint)
        spool = Lost(stub, endpoint, attempt + 1, front)
        until(partial(_answered, callers, 100))
        before = len(callers.answered)
        until(partial(spool.knows, before))
        until(spool.owes)
        front.kill()
        callers.stop()
        shutil.rmtree(tmp_path / f"node-{attempt}")
        until(lambda: all(spool.closed for spool in coverage(stub, endpoint).spools))
        told = spool.told()

        assert told.waiting_count == 0
        assert told.received_count + told.lost_count >= before
        lost += told.lost_count
        if lost:
            break

    assert lost > 0
    assert coverage(stub, endpoint).lost_count == lost


def _answered(callers: Load, count: int) -> bool:
    return len(callers.answered) >= count


def test_a_spool_left_by_a_killed_front_is_drained_from_outside_and_closed(
    fronts: Fronts, monitor: Service, stub: Any, keys: Keys, a_version: str, tmp_path: Path
) -> None:
    endpoint, folder = "orphan", tmp_path / "orphan"
    front = fronts(endpoint, a_version, monitoring=NOBODY)
    with triton.InferenceServerClient(front.address) as client:
        headers = {"authorization": f"Bearer {keys.user()}"}
        answered = {infer(client, endpoint, headers) for _ in range(50)}
    until(lambda: sum(1 for path in folder.glob("*.events") for _ in read_segment(path)) == 50)
    while_it_lives = drain(front, folder, monitoring=monitor.address)
    front.kill()

    while_away = drain(front, folder, spool_drain_s=1)
    then = drain(front, folder, monitoring=monitor.address)
    again = drain(front, folder, monitoring=monitor.address)

    assert while_it_lives.returncode == 1
    assert "another process's" in while_it_lives.stderr
    assert while_away.returncode == 1
    assert (then.returncode, again.returncode) == (0, 0), then.stderr
    assert list(folder.iterdir()) == []
    assert {row.name for row in arrived(stub, endpoint)} == {f"predictions/{one}.0" for one in answered}
    (told,) = coverage(stub, endpoint).spools
    assert (told.received_count, told.lost_count, told.closed) == (50, 0, True)
    assert told.model_version == a_version


def test_rows_say_who_saw_them_and_inputs_are_captured_by_the_policy(
    fronts: Fronts, stub: Any, keys: Keys, a_version: str
) -> None:
    endpoint, bound = "captured", 0.7
    front = fronts(endpoint, a_version, capture_policy=f"low_confidence:{bound}")
    base = {"authorization": f"Bearer {keys.user()}"}
    roles = {
        mon.PredictionEvent.LIVE: {"x-request-id": "one"},
        mon.PredictionEvent.TESTER: {"slipway-version": "v1", "x-request-id": "two"},
        mon.PredictionEvent.SHADOW: {"slipway-role": "shadow", "x-request-id": "one"},
    }
    began = time.monotonic()
    with triton.InferenceServerClient(front.address) as client:
        made = {role: infer(client, endpoint, {**base, **headers}, rows=8) for role, headers in roles.items()}
    took_ms = (time.monotonic() - began) * 1000

    until(lambda: _count(stub, endpoint) == 24)

    rows = arrived(stub, endpoint)
    for role, prediction in made.items():
        mine = [row for row in rows if row.name.startswith(f"predictions/{prediction}.")]
        assert {row.role for row in mine} == {role}
        assert {row.request_id for row in mine} == {roles[role]["x-request-id"]}
        assert len(mine) == 8
    assert [row.captured for row in rows] == [row.confidence < bound for row in rows]
    assert {row.captured for row in rows} == {True, False}
    assert all(0 < row.latency_ms < took_ms for row in rows)
    assert {row.predicted_label for row in rows} <= {"a", "b", "c"}


def _count(stub: Any, endpoint: str) -> int:
    try:
        return len(arrived(stub, endpoint))
    except Exception:  # no event of it came yet
        return 0
