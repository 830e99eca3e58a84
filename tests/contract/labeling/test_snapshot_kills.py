"""Each snapshot has exactly one commit, wherever the service dies and whenever ingestion is away."""

import random
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from desk import Desk, State, by_key
from dying import Clock, errands
from running import Keys, Service
from slipway.labeling.v1 import labeling_pb2 as pb
from slipway_labeling.domain.snapshots import Snapshot, SnapshotSpec, SnapshotState
from slipway_labeling.store.snapshots import SnapshotStore
from slipway_labeling.usecases.snapshots import Snapshots
from slipway_runtime.db import Database, Repeat
from slipway_runtime.identity import Caller, acting_as
from sqlalchemy import text

RANDOM_KILLS = 12
EVA = Caller("users/eva", frozenset({"engineer"}))


@pytest.fixture(scope="module")
def own(keys: Keys, postgres: Any, objects: dict[str, str]) -> Iterator[Any]:
    """Return an ingestion and a labeling of this module's own, which it may end as it likes."""
    ingestion = Service("slipway_ingestion.main", keys, database_url=postgres.fresh_database(), **objects)
    url = postgres.fresh_database()
    labeling = Service(
        "slipway_labeling.main",
        keys,
        database_url=url,
        ingestion=ingestion.address,
        token_file=keys.service_file("labeling"),
        snapshot_interval_s=0.1,
        snapshot_lease_s=0.5,
    )
    ingestion.migrate().start()
    labeling.migrate().start()
    desk = Desk(keys, ingestion, labeling)
    yield SimpleNamespace(ingestion=ingestion, labeling=labeling, desk=desk, url=url, keys=keys)
    desk.close()
    labeling.stop()
    ingestion.stop()


def labelled(desk: Desk, dataset: str, number: int) -> str:
    """Make a project with one labelled example; return its name."""
    project = desk.project(dataset)
    desk.tasks(project, keys=[f"k{number:03d}.txt"])
    desk.answer(project, "ann", by_key({}))
    return project


def commits(desk: Desk, dataset: str, message: str) -> list[str]:
    return [one.name for one in desk.history(dataset) if one.message == message]


def check_one_commit(desk: Desk, dataset: str, snapshot: Any, message: str, number: int) -> None:
    """Check that the snapshot succeeded with the one commit of its message, which has its label."""
    assert str(snapshot.state) in {"SUCCEEDED", str(State.SUCCEEDED)}, snapshot
    assert commits(desk, dataset, message) == [snapshot.commit]
    assert desk.rows(snapshot.commit)[f"k{number:03d}.txt"].label == "daisy"


def test_a_service_that_is_killed_at_any_moment_makes_one_commit(own: Any) -> None:
    desk, dataset = own.desk, own.desk.dataset(RANDOM_KILLS)
    draw = random.Random()
    waits_s = [draw.uniform(0, 0.15) for _ in range(RANDOM_KILLS)]

    for number, wait_s in enumerate(waits_s):
        project = labelled(desk, dataset, number)
        asked = pb.CreateSnapshotRequest(
            parent=project, snapshot=pb.Snapshot(message=f"kill {number}"), request_id=uuid.uuid4().hex
        )
        call = desk.stub().CreateSnapshot.future(asked, timeout=60)
        time.sleep(wait_s)
        own.labeling.kill()
        call.cancel()
        own.labeling.start()

        snapshot = desk.ended(_again(desk, asked))

        check_one_commit(desk, dataset, snapshot, f"kill {number}", number)
    assert len(desk.history(dataset)) == RANDOM_KILLS + 2  # the empty one and the import


def _again(desk: Desk, asked: pb.CreateSnapshotRequest) -> pb.Snapshot:
    """Return the answer to a request whose first answer may have been lost."""
    stop_at = time.monotonic() + 120
    while True:
        try:
            return desk.stub().CreateSnapshot(asked, timeout=20)
        except grpc.RpcError:
            if time.monotonic() > stop_at:
                raise
            time.sleep(0.05)


def test_ingestion_that_is_away_is_waited_for(own: Any) -> None:
    desk, dataset = own.desk, own.desk.dataset(1)
    project = labelled(desk, dataset, 0)
    own.ingestion.stop()

    asked = desk.snapshot(project, message="patience")
    waiting = desk.until(asked, lambda found: found.error.startswith("UNAVAILABLE"))
    own.ingestion.start()
    snapshot = desk.ended(asked)

    assert waiting.state in (State.PENDING, State.RUNNING)
    assert snapshot.error == ""
    check_one_commit(desk, dataset, snapshot, "patience", 0)


def test_a_data_set_that_vanished_ends_the_snapshot_by_name(own: Any) -> None:
    desk = own.desk
    project = labelled(desk, desk.dataset(1), 0)
    database = Database(own.url)
    with database.transaction() as connection:
        statement = text("UPDATE projects SET dataset = 'datasets/vanished' WHERE id = :id")
        connection.execute(statement, {"id": project.partition("/")[2]})
    database.close()

    snapshot = desk.ended(desk.snapshot(project))

    assert snapshot.state == State.FAILED
    assert snapshot.error.startswith("DATASET_NOT_FOUND: ")
    assert "vanished" in snapshot.error


class Mortal:
    """Snapshots that no service takes up: processes that die at a point, and one that goes on.

    Args:
        own: Running services; labeling is stopped.
        database: Of labeling.
    """

    def __init__(self, own: Any, database: Database) -> None:
        self._own = own
        self._database = database
        self._snapshots = Snapshots(database=database, wake=lambda: None, watch_interval_s=0.1)
        self._token = own.keys.service_file("labeling")
        command = [sys.executable, str(Path(__file__).with_name("dying.py"))]
        command += [own.url, own.ingestion.address, self._token]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)

    def ask(self, project: str, message: str) -> Snapshot:
        """Keep a snapshot."""
        with acting_as(EVA):
            spec = SnapshotSpec(branch="", message=message)
            return self._snapshots.create(project, spec, Repeat("Test", "", b""))

    def sweep(self, point: int, *, fence: bool) -> str:
        """Sweep in a process that dies at a point; return `killed`, or `ended n`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{point} {'fence' if fence else 'none'}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def go_on(self, snapshot: Snapshot, *, fence: bool) -> Snapshot:
        """Sweep in this process until the snapshot ends; return it."""
        maker = errands(self._own.url, self._own.ingestion.address, self._token, Clock(), fence, 0.3)
        stop_at = time.monotonic() + 180
        while time.monotonic() < stop_at:
            maker.sweep()
            with self._database.transaction() as connection:
                found = SnapshotStore(connection).get(snapshot.project, snapshot.id)
            assert found is not None
            if found.state.ended:
                return found
            time.sleep(0.1)
        raise AssertionError("the snapshot did not end")


@pytest.fixture
def mortal(own: Any) -> Iterator[Callable[[], Mortal]]:
    """Return a function that stops labeling and gives the stage; projects are made before."""
    database = Database(own.url)
    opened: list[Mortal] = []

    def stage() -> Mortal:
        own.labeling.stop()
        opened.append(Mortal(own, database))
        return opened[-1]

    yield stage
    for one in opened:
        one.close()
    database.close()
    own.labeling.start()


def test_a_death_before_or_after_any_step_makes_one_commit(own: Any, mortal: Callable[[], Mortal]) -> None:
    desk, dataset, most = own.desk, own.desk.dataset(40), 40
    projects = [labelled(desk, dataset, number) for number in range(most)]
    stage = mortal()
    whole = stage.ask(projects[0], "point 0")
    points = int(stage.sweep(0, fence=True).split()[1])
    assert 12 <= points < most
    check_one_commit(desk, dataset, stage.go_on(whole, fence=True), "point 0", 0)

    for point in range(1, points + 1):
        asked = stage.ask(projects[point], f"point {point}")
        assert stage.sweep(point, fence=True) == "killed"

        snapshot = stage.go_on(asked, fence=True)

        check_one_commit(desk, dataset, snapshot, f"point {point}", point)
    assert len(desk.history(dataset)) == points + 3


def test_without_the_request_id_a_death_after_the_commit_is_not_survived(
    own: Any, mortal: Callable[[], Mortal]
) -> None:
    desk, dataset, most = own.desk, own.desk.dataset(40), 40
    projects = [labelled(desk, dataset, number) for number in range(most)]
    stage = mortal()
    stage.ask(projects[0], "bare 0")
    points = int(stage.sweep(0, fence=False).split()[1])

    outcomes = []
    for point in range(1, points + 1):
        asked = stage.ask(projects[point], f"bare {point}")
        assert stage.sweep(point, fence=False) == "killed"
        outcomes.append(stage.go_on(asked, fence=False).state)

    assert SnapshotState.FAILED in outcomes
