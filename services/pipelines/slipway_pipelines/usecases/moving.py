"""Moves a run on: what became possible is written in the transaction of what made it possible."""

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from slipway_pipelines.domain import graph
from slipway_pipelines.domain.definition import Definition, Kind, Step, Version
from slipway_pipelines.domain.runs import Run, RunState, Trigger
from slipway_pipelines.store import Runs, Steps
from slipway_pipelines.store.tables import now

SENT_AT_ONCE = 16  # each may wait for a broker that is away


class Mover:
    """One run inside one transaction that holds the run's lock.

    Args:
        connection: The transaction.
        run: The run.
        version: The one that the run is pinned to.
    """

    def __init__(self, connection: sa.Connection, run: Run, version: Version) -> None:
        self._runs = Runs(connection)
        self._steps = Steps(connection)
        self._run = run
        self._definition: Definition = version.definition
        self._code_digest = version.code_digest
        self._outputs: dict[str, Any] = {}

    def advance(self) -> list[str]:
        """Make everything so that is due; return the ids of steps to send now, the sweeper sends the rest."""
        ready: list[str] = []
        while due := graph.moves(self._definition, self._states(), self._run.parameters, self.output):
            for name, count in due.expand.items():
                self._steps.expand(self._run.id, name, count)
            for (name, index), (state, why) in due.end.items():
                values = {"state": state.value, "error": why, "end_time": now()}
                self._steps.change(self._run.id, name, index, **values)
            for name, index in due.ready:
                at_once = len(ready) < SENT_AT_ONCE
                if not self._from_cache(name, index, at_once=at_once) and at_once:
                    ready.append(f"{self._run.id}/{name}/{index}")
        self._settle()
        return ready

    def output(self, step: str) -> Any:
        """Return the output of a step that has ended."""
        if step not in self._outputs:
            self._outputs[step] = self._steps.output(self._run.id, step)
        return self._outputs[step]

    def inputs(self, step: Step, index: int) -> dict[str, Any]:
        """Return what a step's function is given."""
        return graph.inputs(step, index, self._run.parameters, self.output)

    def _states(self) -> graph.States:
        return self._steps.states(self._run.id, self._definition)

    def _from_cache(self, name: str, index: int, *, at_once: bool) -> bool:
        """Let a step wait for a worker, or give it the output of another run; say whether it got one."""
        step = self._definition.step(name)
        key = ""
        if step.kind is Kind.STEP:
            key = graph.cache_key(self._code_digest, step, self.inputs(step, index))
        hit = self._steps.cached(key) if step.cache else None
        row = (self._run.id, name, index)
        if hit is None:
            sent = now() if at_once else None
            self._steps.change(*row, state="PENDING", cache_key=key, ready_time=now(), sent_time=sent)
            return False
        run, output, names = hit
        self._steps.change(
            *row,
            state="SUCCEEDED",
            cache_key=key,
            cached_from=run,
            output=output,
            names=names,
            ready_time=now(),
            end_time=now(),
        )
        self._runs.name_outputs(self._run.id, names)
        return True

    def _settle(self) -> None:
        state = graph.outcome(self._definition, self._states(), self._run.cancel_requested)
        if state is None:
            self._runs.change(self._run.id)
            return
        error = self._steps.first_failure(self._run.id) if state is RunState.FAILED else ""
        self._runs.end(self._run.id, state, error)


def start(
    connection: sa.Connection,
    version: Version,
    parameters: Mapping[str, Any],
    *,
    trigger: Trigger,
    creator: str,
    trigger_source: str = "",
    schedule_time: datetime | None = None,
    traceparent: str = "",
) -> tuple[Run, list[str]] | None:
    """Add a run with its steps; return it with the ids of the steps that wait for a worker.

    None when the schedule's run of that time is there already.
    """
    run = Run(
        id=uuid.uuid4().hex,
        pipeline=version.definition.pipeline,
        version=version.digest,
        parameters=dict(parameters),
        trigger=trigger,
        trigger_source=trigger_source,
        schedule_time=schedule_time,
        creator=creator,
        traceparent=traceparent,
    )
    if not Runs(connection).add(run):
        return None
    Steps(connection).add(run.id, version.definition)
    ready = Mover(connection, run, version).advance()
    return Runs(connection).get(run.pipeline, run.id), ready
