"""Rollout is killed after each of its writes to the cluster, before it can note that it did them."""

import threading
import uuid
from typing import Any

import grpc
import pytest
from cluster import until
from slipway.rollout.v1 import rollout_pb2 as pb


class Killer:
    """Kills the worker after each write whose path has a text in it, once per write; restarts it."""

    def __init__(self, house: Any, text: str) -> None:
        self.house = house
        self.text = text
        self.killed: list[str] = []
        self._dead = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._restart, daemon=True)
        house.meddler.reset(after=self._after)
        self._thread.start()

    def _after(self, number: int, method: str, path: str) -> None:
        if self.text not in path and method != "POST":
            return
        step = f"{method} {path.partition('?')[0].partition('/namespaces/')[2]} {len(self.killed)}"
        self.house.worker.kill()
        self.killed.append(step)
        self._dead.set()
        raise ConnectionAbortedError

    def _restart(self) -> None:
        while not self._stopped.is_set():
            if self._dead.wait(0.05):
                self._dead.clear()
                self._start()

    def _start(self) -> None:
        try:
            self.house.worker.start()
        except RuntimeError:  # killed again before it was seen to be up
            self._dead.set()

    def stop(self) -> None:
        """Kill no more, and leave a worker running."""
        self.house.meddler.reset()
        self._stopped.set()
        self._thread.join()
        if self._dead.is_set():
            self.house.worker.start()


@pytest.mark.timeout(900)
def test_a_worker_killed_after_each_of_its_writes_ends_where_it_should(house: Any) -> None:
    id = house.endpoint()
    killer = Killer(house, id)

    house.deploy(id, 1)
    until(lambda: house.state(id, 1) == "READY", 240)
    house.deploy(id, 2)
    until(lambda: house.state(id, 2) == "READY", 240)
    up = house.operator.weights(id)
    name = "models/m/versions/2"
    house.stub.UndeployVersion(pb.UndeployVersionRequest(name=f"endpoints/{id}", model_version=name))
    until(lambda: house.state(id, 2) == "", 240)
    killer.stop()

    assert up == {"v1": 100, "v2": 0}
    assert house.operator.weights(id) == {"v1": 100}
    assert not house.get(id).route_warning
    assert house.operator.get("Deployment", f"{id}-v2") is None
    assert [s["name"] for s in house.operator.there("DestinationRule", id)["spec"]["subsets"]] == ["v1"]
    assert len(killer.killed) >= 10, killer.killed


def test_a_split_whose_server_was_killed_after_the_write_is_taken_over(house: Any) -> None:
    id, dead = house.endpoint(1, 2), threading.Event()

    def kill(number: int, method: str, path: str) -> None:
        if f"/virtualservices/{id}" not in path:
            return
        house.meddler.reset()
        house.serve.kill()
        dead.set()
        raise ConnectionAbortedError

    house.meddler.reset(after=kill)
    with pytest.raises(grpc.RpcError) as caught:
        house.split(id, v1=90, v2=10)
    assert dead.wait(60)
    house.serve.start()
    until(lambda: [v.weight for v in house.get(id).served_versions] == [90, 10])

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert house.operator.weights(id) == {"v1": 90, "v2": 10}
    assert not house.get(id).route_warning


def test_a_split_that_is_sent_again_after_a_kill_has_one_effect(house: Any) -> None:
    id = house.endpoint(1, 2)
    request_id = uuid.uuid4().hex
    before = house.get(id)

    def kill(number: int, method: str, path: str) -> None:
        if f"/virtualservices/{id}" not in path:
            return
        house.meddler.reset()
        house.serve.kill()
        threading.Thread(target=house.serve.start).start()
        raise ConnectionAbortedError

    house.meddler.reset(after=kill)
    answer = until(lambda: house.split(id, request_id=request_id, v1=90, v2=10), 120)

    assert {v.subset: v.weight for v in answer.served_versions} == {"v1": 90, "v2": 10}
    assert house.split(id, request_id=request_id, v1=90, v2=10) == answer
    assert house.operator.weights(id) == {"v1": 90, "v2": 10}
    assert house.get(id).etag != before.etag
