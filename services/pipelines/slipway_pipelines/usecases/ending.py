"""Writes what came of an attempt: once, by the attempt that holds the step."""

import json
from typing import Any

import sqlalchemy as sa

from slipway_pipelines.domain import names
from slipway_pipelines.domain.definition import Step, Version
from slipway_pipelines.domain.errors import FencedError
from slipway_pipelines.domain.runs import Run, StepRun, backoff_s
from slipway_pipelines.engine.process import Answer
from slipway_pipelines.store import Runs, Steps
from slipway_pipelines.store.tables import in_seconds, now
from slipway_pipelines.usecases.moving import Mover

MAX_DEATHS = 10


class Ending:
    """The end of one attempt inside one transaction.

    Args:
        connection: The transaction.
        run: The step's run.
        version: The one that the run is pinned to.
        step: What the definition says of the step.
        row: The step as this attempt claimed it.
    """

    def __init__(
        self, connection: sa.Connection, run: Run, version: Version, step: Step, row: StepRun
    ) -> None:
        self._connection = connection
        self._runs = Runs(connection)
        self._steps = Steps(connection)
        self._version = version
        self._step = step
        self._row = row
        locked = self._runs.get(run.pipeline, run.id, lock=True)
        self._run = locked

    def write(self, answer: Answer, log_tail: str) -> tuple[str, list[str]]:
        """Write it; return the outcome, and the ids of the steps that wait for a worker now.

        Raises:
            FencedError: another attempt holds the step, or it has ended; nothing is written.
        """
        if answer.kind == "fenced":
            raise FencedError(self._row.id, self._row.attempt)
        outcome, values = self._decided(answer)
        ended = values["state"] != "PENDING"
        values |= {"end_time": now(), "due_time": None} if ended else {"sent_time": None}
        self._steps.note(self._row, lease_until=None, log_tail=log_tail, **values)
        if outcome != "WAITS":
            self._steps.log_attempt(self._row, outcome, answer.why)
        self._runs.name_outputs(self._run.id, values.get("names", ()))
        if ended:
            return outcome, Mover(self._connection, self._run, self._version).advance()
        self._runs.change(self._run.id)
        return outcome, []

    def _decided(self, answer: Answer) -> tuple[str, dict[str, Any]]:
        if answer.kind == "output":
            found = names.things(json.loads(answer.output))
            return "SUCCEEDED", {"state": "SUCCEEDED", "output": answer.output, "names": found, "error": ""}
        if answer.kind == "skipped":
            return "SKIPPED", {"state": "SKIPPED", "error": answer.why}
        if answer.kind == "cancelled" or self._run.cancel_requested:
            return "CANCELLED", {"state": "CANCELLED", "error": answer.why}
        if answer.kind == "waits":
            due = in_seconds(self._step.poll_s)
            return "WAITS", {"state": "PENDING", "due_time": due, "failures": 0, "error": ""}
        if answer.kind == "stopped":
            return "LOST", {"state": "PENDING", "due_time": in_seconds(1.0), "error": answer.why}
        return self._failed(answer) if answer.kind == "failed" else self._lost(answer)

    def _failed(self, answer: Answer) -> tuple[str, dict[str, Any]]:
        failures = self._row.failures + 1
        values: dict[str, Any] = {"failures": failures, "error": answer.why}
        if answer.final or failures > self._step.retries:
            return "FAILED", {"state": "FAILED", **values}
        due = in_seconds(backoff_s(self._step.backoff_s, failures))
        return "FAILED", {"state": "PENDING", "due_time": due, **values}

    def _lost(self, answer: Answer) -> tuple[str, dict[str, Any]]:
        """A process that was killed says nothing about the step: it is tried again, a few times."""
        deaths = self._row.deaths + 1
        values: dict[str, Any] = {"deaths": deaths, "error": answer.why}
        if deaths >= MAX_DEATHS:
            why = f"gave up after {deaths} attempts that died; {answer.why}"
            return "FAILED", {**values, "state": "FAILED", "error": why}
        return "LOST", {"state": "PENDING", "due_time": in_seconds(1.0), **values}
