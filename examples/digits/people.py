"""Simulated annotators: each has a token of his own, and answers over the public API as anyone does."""

import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slipway.client import Client, SlipwayError
from slipway.labeling.v1 import labeling_pb2 as lab

AT_ONCE = 5
WORK_WITHIN_S = 180.0
LOOK_AGAIN_S = 1.0


@dataclass(frozen=True)
class Person:
    """Somebody who answers wrongly in a share of the cases."""

    name: str
    error_rate: float


def hire(client: Client, person: Person) -> str:
    """Make the user with the role annotator, and return an API token of his."""
    path = f"/v1/users/{person.name}"
    client.rest.send("PUT", path, token=client.token(), json={"roles": ["annotator"]})
    body = {"user": person.name, "displayName": "story"}
    return str(client.rest.send("POST", "/v1/tokens", token=client.token(), json=body).json()["secret"])


class Worker(threading.Thread):
    """One person at work on a project until there is nothing left for him, or he is paused.

    Args:
        person: Who.
        token: His API token.
        project: `labelingProjects/{project}`.
        truth: What each example really shows, by key; the person sees it, and sometimes errs.
        labels: What may be answered.
        seed: Of his errors.
        until: He waits for more tasks until this is set; without it he goes when there are none.
    """

    def __init__(
        self,
        person: Person,
        token: str,
        project: str,
        truth: Mapping[str, str],
        labels: list[str],
        seed: int,
        until: threading.Event | None = None,
    ) -> None:
        super().__init__(name=person.name, daemon=True)
        self.person = person
        self.answers = 0
        self.wrong = 0
        self.paused = False
        self.failure: BaseException | None = None
        self._token = token
        self._project = project
        self._truth = truth
        self._labels = labels
        self._random = random.Random(f"{person.name}/{seed}")
        self._until = until

    def run(self) -> None:
        """Claim and answer."""
        try:
            with Client(token=self._token) as client:
                while self._answer_some(client) or self._waits():
                    pass
        except BaseException as error:
            self.failure = error

    def _answer_some(self, client: Client) -> bool:
        """Answer what one claim gives; say whether there may be more."""
        claim = lab.ClaimTasksRequest(parent=self._project, count=AT_ONCE)
        try:
            given = client.labeling.ClaimTasks(claim).assignments
            for assignment in given:
                self._answer(client, assignment)
        except SlipwayError as error:
            self.paused = error.reason == "ANNOTATOR_PAUSED" or self._is_paused(client)
            if not self.paused:
                raise
            return False
        return bool(given)

    def _waits(self) -> bool:
        """Wait a little for more tasks; say whether to ask again."""
        return self._until is not None and not self.paused and not self._until.wait(LOOK_AGAIN_S)

    def _is_paused(self, client: Client) -> bool:
        """Say whether a lease that was taken away was so because of a pause."""
        try:
            client.labeling.ClaimTasks(lab.ClaimTasksRequest(parent=self._project))
        except SlipwayError as error:
            return error.reason == "ANNOTATOR_PAUSED"
        return False

    def _answer(self, client: Client, assignment: Any) -> None:
        begin = time.monotonic()
        label = self._truth[assignment.key]
        if self._random.random() < self.person.error_rate:
            label = self._random.choice([other for other in self._labels if other != label])
            self.wrong += 1
        answer = lab.Answer(choice=lab.Choice(labels=[label]))
        lead_ms = round(1000 * (time.monotonic() - begin))
        client.labeling.SubmitAnnotation(
            lab.SubmitAnnotationRequest(name=assignment.name, answer=answer, lead_ms=lead_ms)
        )
        self.answers += 1


def work(workers: list[Worker]) -> float:
    """Let all work side by side to the end; return the seconds.

    Raises:
        TimeoutError: Somebody is not done in time.
    """
    begin = time.monotonic()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(max(0.0, begin + WORK_WITHIN_S - time.monotonic()))
        if worker.is_alive():
            raise TimeoutError(f"{worker.person.name} was not done within {WORK_WITHIN_S:.0f} s")
        if worker.failure is not None:
            raise worker.failure
    return time.monotonic() - begin
