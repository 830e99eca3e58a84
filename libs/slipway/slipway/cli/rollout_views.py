"""How rollouts, verdicts and gates are shown."""

import math
from collections.abc import Sequence
from typing import Any

from slipway.cli.output import console, print_facts, print_table, state_name, when
from slipway.cli.plot import plot
from slipway.client import Client, SlipwayError, resource
from slipway.rollout.v1 import rollout_pb2 as rol

_READINGS = ["gate", "says", "value", "bound", "n", "n of stable", "e-value", "fails at", "why"]


def newest(client: Client, text: str) -> Any:
    """Return the rollout of ENDPOINT/N or of its whole name, or the newest of ENDPOINT.

    Raises:
        SlipwayError: There is no such endpoint or rollout, or the endpoint had none yet.
    """
    endpoint, _, number = text.removeprefix("endpoints/").replace("/rollouts/", "/").partition("/")
    parent = resource("endpoints", endpoint)
    if number:
        return client.rollout.GetRollout(rol.GetRolloutRequest(name=f"{parent}/rollouts/{number}"))
    found = client.rollout.ListRollouts(rol.ListRolloutsRequest(parent=parent, page_size=1)).rollouts
    if not found:
        message = f"{parent} has had no rollout yet; begin one with `slipway rollout start {endpoint} vN`"
        raise SlipwayError("NOT_FOUND", "ROLLOUT_NOT_FOUND", message)
    return found[0]


def print_rollout(rollout: Any) -> None:
    """Print a rollout with its steps and the latest verdict."""
    state = state_name(rol.Rollout.State, rollout.state)
    facts = [("rollout", rollout.name), ("version", rollout.model_version), ("from", rollout.stable_version)]
    facts += [("state", state if rollout.settled else f"{state}, the route is being written")]
    facts += [("why", rollout.state_reason), ("traffic", f"{rollout.weight} %")]
    facts += [("exposed rows", rollout.exposed_count), ("by", rollout.creator)]
    print_facts([*facts, ("began", when(rollout.create_time)), ("ended", when(rollout.end_time))])
    ended = rollout.state == rol.Rollout.SUCCEEDED
    rows = [
        (
            "✓" if index < rollout.step or ended else "→" if index == rollout.step else "",
            "shadow" if not step.weight else f"{step.weight} %",
            f"{step.min_duration_s:g} s",
            step.min_count,
            f"{step.max_hold_s or 3600:g} s, then {_then(step)}",
        )
        for index, step in enumerate(rollout.steps)
    ]
    print_table(["", "step", "at least", "requests", "at most"], rows, "its steps are the defaults")
    if rollout.HasField("verdict"):
        print_verdicts([rollout.verdict], "")


def print_verdicts(verdicts: Sequence[Any], gate: str) -> None:
    """Print the log, newest first, and the gates of the newest; or plot one gate's e-value.

    Raises:
        SlipwayError: No verdict has a reading of the gate.
    """
    if gate:
        _plot(verdicts, gate)
        return
    if len(verdicts) != 1:
        rows = [
            (
                v.number,
                _decision(v),
                v.step,
                f"{v.weight} %",
                when(v.create_time),
                when(v.update_time),
                v.reason,
            )
            for v in verdicts
        ]
        columns = ["", "verdict", "step", "traffic", "first", "last", "why"]
        print_table(columns, rows, "no verdict yet")
    if verdicts:
        head = f"[bold]{_decision(verdicts[0])}[/bold] at {verdicts[0].weight} %"
        console().print(head, end=": ")
        console().print(verdicts[0].reason, markup=False)
        print_table(_READINGS, map(_reading, verdicts[0].gates), "no gate has spoken yet")


def rollout_row(rollout: Any) -> tuple[object, ...]:
    """Return a rollout as a row of the list."""
    name = rollout.name.removeprefix("endpoints/").replace("/rollouts/", "/")
    state = state_name(rol.Rollout.State, rollout.state)
    began, ended = when(rollout.create_time), when(rollout.end_time)
    why = rollout.state_reason or rollout.verdict.reason
    versions = (rollout.model_version, f"v{rollout.stable_version.rpartition('/')[2]}")
    return name, *versions, state, f"{rollout.weight} %", rollout.exposed_count, began, ended, why


def _reading(gate: Any) -> tuple[object, ...]:
    counts = (gate.count, gate.stable_count)
    return (
        gate.gate,
        _decision(gate),
        gate.value,
        gate.bound,
        *counts,
        gate.e_value,
        gate.fail_at,
        gate.reason,
    )


def _then(step: Any) -> str:
    return "fail" if step.on_hold == rol.RolloutStep.FAIL else "pause"


def _decision(said: Any) -> str:
    return str(rol.Verdict.Decision.Name(said.decision))


def _plot(verdicts: Sequence[Any], gate: str) -> None:
    """Plot log10 of a gate's e-value, oldest verdict first; the gate fails at the log10 of `fail_at`."""
    points = [
        (verdict.update_time.seconds, one)
        for verdict in reversed(verdicts)
        for one in verdict.gates
        if one.gate == gate
    ]
    if not points:
        known = ", ".join(sorted({one.gate for v in verdicts for one in v.gates})) or "none"
        text = f"no verdict has a reading of gate {gate!r}; there are {known}"
        raise SlipwayError("NOT_FOUND", "GATE_NOT_FOUND", text)
    last = points[-1][0]
    limit = points[-1][1].fail_at
    bound = f"; fails at {math.log10(limit):.2f}" if limit > 0 else ""
    console().print(f"[bold]{gate}[/bold], log10 of the e-value, seconds before the last verdict{bound}")
    values = [math.log10(max(one.e_value, 1e-6)) for _, one in points]
    for line in plot([at - last for at, _ in points], values):
        console().print(line)


__all__ = ["newest", "print_rollout", "print_verdicts", "rollout_row"]
