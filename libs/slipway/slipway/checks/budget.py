"""Named steps under one time budget: what hangs is cut off and named, what fails does not hide the rest."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from slipway.checks.report import Check, Report
from slipway.client.errors import SlipwayError


@dataclass(frozen=True)
class Step:
    """One part of a test.

    Args:
        name: What people read.
        act: Returns the checks it made; raises when it cannot go on.
        needed: Whether the steps after it make no sense when it raises or a check of it fails.
        undo: Called when the step was cut off or interrupted, such as to cancel the job that it waits for.
            The step may still be at work in its thread.
    """

    name: str
    act: Callable[[], Sequence[Check]]
    needed: bool = False
    undo: Callable[[], Any] | None = None


def run_steps(
    report: Report,
    steps: Iterable[Step],
    *,
    clock: Callable[[], float] = time.monotonic,
    began: Callable[[str], None] = lambda name: None,
) -> Report:
    """Run steps one after another until the report's budget is spent; return the report.

    Each step runs in a thread, so that one which hangs is left behind when the budget ends: a failed check
    `time budget` names it. The thread is a daemon; it goes with the process.

    Args:
        report: Gets the checks.
        steps: In order.
        clock: Monotonic seconds.
        began: Told the name of each step as it begins.
    """
    start, stopped = clock(), ""
    for step in steps:
        if stopped:
            report.checks.append(Check(step.name, "skipped", message=stopped))
            continue
        began(step.name)
        begin = clock()
        left_s = report.budget_s - (begin - start)
        work = _Work(step)
        try:
            in_time = left_s > 0 and work.ended_within(left_s)
        except KeyboardInterrupt:
            _undo(step)
            raise
        seconds = clock() - begin
        if not in_time:
            report.checks.append(_overrun(report, step, seconds))
            stopped = f"not run: the time budget ended in {step.name!r}"
            _undo(step)
            continue
        report.checks += _timed(work.checks, seconds)
        if step.needed and any(check.outcome == "failed" for check in work.checks):
            stopped = f"not run: {step.name!r} failed"
    report.seconds = clock() - start
    return report


class _Work:
    """A step in a thread of its own."""

    def __init__(self, step: Step) -> None:
        self.checks: Sequence[Check] = ()
        self._step = step
        self._thread = threading.Thread(target=self._run, name=f"check {step.name}", daemon=True)

    def ended_within(self, seconds: float) -> bool:
        """Start it; say whether it ended in time."""
        self._thread.start()
        self._thread.join(min(seconds, threading.TIMEOUT_MAX))
        return not self._thread.is_alive()

    def _run(self) -> None:
        name = self._step.name
        try:
            self.checks = self._step.act()
        except SlipwayError as error:
            self.checks = [Check(name, "failed", error.reason or error.code, message=error.message)]
        except Exception as error:  # a model under test may raise whatever it likes
            kind = type(error).__name__
            self.checks = [Check(name, "failed", kind, message=f"{kind}: {str(error)[:500]}")]


def _timed(checks: Sequence[Check], seconds: float) -> list[Check]:
    """Return checks of one step with its time on the first of them."""
    return [replace(check, seconds=seconds if index == 0 else 0.0) for index, check in enumerate(checks)]


def _overrun(report: Report, step: Step, seconds: float) -> Check:
    text = (
        f"the budget of {report.budget_s:g} s ended in {step.name!r}, which was cut off; "
        "make it faster, or give more with --budget"
    )
    return Check("time budget", "failed", step.name, f"{report.budget_s:g} s", text, seconds)


def _undo(step: Step) -> None:
    """Undo what a step left behind; a refusal there is no news beside the overrun."""
    if step.undo is not None:
        try:
            step.undo()
        except SlipwayError:
            return


__all__ = ["Step", "run_steps"]
