"""The worker is killed between any two writes of a rollout's steps; what it decided is done once."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from callers import Behaviour
from cluster import until
from slipway.rollout.v1 import rollout_pb2 as pb
from test_rollouts import GOOD, LABELS_ONLY, State, servings, steps, verdicts

SEAMS = ("before a write", "after a write", "while looking")


class Killer:
    """Kills the worker at one seam of each step, and starts it again.

    `before a write`: the decision is committed, and the next object is not written. `after a write`: it is
    written, and that is not committed. `while looking`: what arrived is read, and nothing is committed.
    """

    def __init__(self, house: Any, id: str, seam: str) -> None:
        self.kills = 0
        self._house, self._id = house, id
        self._dead, self._stopped = threading.Event(), threading.Event()
        self._calls = 0
        if seam == "while looking":
            house.outcomes.asked = self._now_and_then
        elif seam == "before a write":
            house.meddler.reset(before=lambda _, method, path: self._kill(path))
        else:
            house.meddler.reset(after=lambda _, method, path: self._kill(path))
        self._seen: set[tuple[str, str]] = set()
        self._thread = threading.Thread(target=self._restart, daemon=True)
        self._thread.start()

    def _kill(self, path: str) -> None:
        """Kill at a write of the endpoint; a write that comes again after a kill passes."""
        if self._id not in path:
            return
        mark = (path, str(self._house.operator.weights(self._id)))
        if mark in self._seen:
            return
        self._seen.add(mark)
        self._end()
        raise ConnectionAbortedError

    def _now_and_then(self) -> None:
        self._calls += 1
        if self._calls % 3 == 1 and self.kills < 8:
            self._end()

    def _end(self) -> None:
        self._house.worker.kill()
        self.kills += 1
        self._dead.set()

    def _restart(self) -> None:
        while not self._stopped.is_set():
            if self._dead.wait(0.05):
                self._dead.clear()
                self._start()

    def _start(self) -> None:
        try:
            self._house.worker.start()
        except RuntimeError:  # killed again before it came up
            self._dead.set()

    def stop(self) -> None:
        """Kill no more, and leave a worker running."""
        self._house.meddler.reset()
        self._house.outcomes.asked = lambda: None
        self._stopped.set()
        self._thread.join()
        if self._dead.is_set():
            self._house.worker.start()


@pytest.fixture
def killers(house: Any) -> Iterator[list[Killer]]:
    made: list[Killer] = []
    yield made
    for killer in made:
        killer.stop()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seam", SEAMS)
def test_a_good_version_arrives_whatever_is_killed(house: Any, killers: list[Killer], seam: str) -> None:
    id = house.endpoint(1, 2)
    house.callers(id, {"v1": GOOD, "v2": GOOD})
    killers.append(Killer(house, id, seam))

    rollout = house.rollout(id, 2, steps=steps(0, 20, 60, 100))
    ended = house.ended(rollout, 600)

    log = [v for v in reversed(verdicts(house, rollout)) if v.decision == pb.Verdict.PASS]
    served = [(s.model_version[-1], s.weight) for s in reversed(servings(house, id))]
    assert State.Name(ended.state) == "SUCCEEDED"
    assert house.operator.weights(id) == {"v1": 0, "v2": 100}
    assert [v.step for v in log] == [0, 1, 2, 3]
    assert sorted(served) == sorted([("1", 100), ("1", 80), ("2", 20), ("1", 40), ("2", 60), ("2", 100)])
    assert not house.get(id).route_warning
    assert killers[0].kills >= 3


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seam", SEAMS)
def test_a_bad_version_loses_its_traffic_whatever_is_killed(
    house: Any, killers: list[Killer], seam: str
) -> None:
    id = house.endpoint(1, 2)
    callers = house.callers(id, {"v1": GOOD, "v2": GOOD})
    rollout = house.rollout(id, 2, steps=steps(50, 100, count=10**6), gates=LABELS_ONLY)
    until(lambda: house.operator.weights(id) == {"v1": 50, "v2": 50})
    killers.append(Killer(house, id, seam))

    callers.versions["v2"] = Behaviour(accuracy=0.5)
    ended = house.ended(rollout, 600)

    assert State.Name(ended.state) == "FAILED"
    assert house.operator.weights(id) == {"v1": 100, "v2": 0}
    assert [v.decision for v in verdicts(house, rollout)].count(pb.Verdict.FAIL) == 1
    assert killers[0].kills >= 1


@pytest.mark.timeout(900)
def test_every_row_counts_once_however_often_the_worker_is_killed(house: Any, killers: list[Killer]) -> None:
    id = house.endpoint(1, 2)
    rollout = house.rollout(id, 2, steps=steps(50, 100, count=10**6), gates=LABELS_ONLY)
    until(lambda: house.now(rollout).step_time.seconds)
    callers = house.callers(id, {"v1": GOOD, "v2": GOOD})
    killers.append(Killer(house, id, "while looking"))
    until(lambda: killers[0].kills >= 6, 400)

    callers.stop()

    until(lambda: house.now(rollout).exposed_count == callers.exposed["v2"], 200)
    (quality,) = house.now(rollout).verdict.gates
    assert quality.count == callers.exposed["v2"]
