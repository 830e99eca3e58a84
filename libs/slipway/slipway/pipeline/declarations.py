"""The decorators keep what is declared; the service reads it out of the source (docs/pipelines.md)."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, overload

from slipway.pipeline.context import Context

Function = Callable[..., Any]


class Skipped(Exception):
    """Raised in a step to say that there is nothing to do: the step and what needs it are skipped."""


class Failed(Exception):
    """Raised in a step or sensor to say that another try would not help: it fails for good."""


class Declared:
    """A function that is a step or a sensor. Called, it runs here and now, as in a test.

    Attributes:
        function: The function itself.
        condition: Takes what the function takes; when it answers false, the step is skipped.
    """

    def __init__(self, function: Function, condition: Function | None) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.condition = condition

    def __call__(self, *args: Any, when: object = True, after: object = None, **kwargs: Any) -> Any:
        """Return what the function returns; `after` only orders.

        Raises:
            Skipped: `when` or the condition is false.
        """
        if not when:
            raise Skipped("`when` is false")
        if self.condition is not None and not self.condition(*args, **kwargs):
            raise Skipped("its condition is false")
        return self.function(*args, **kwargs)

    def map(self, items: Sequence[Any], **shared: Any) -> list[Any]:
        """Return the function's answers, one for each item; skipped items are left out."""
        answers = []
        for item in items:
            try:
                answers.append(self(item, **shared))
            except Skipped:
                continue
        return answers

    def run(self, context: Context, inputs: dict[str, Any]) -> Any:
        """Return the function's answer to named inputs; the context goes where it asks for `context`.

        Raises:
            Skipped: the condition is false, or the function says so.
        """
        if self.condition is not None and not self.condition(**self._wanted(self.condition, context, inputs)):
            raise Skipped("its condition is false")
        return self.function(**self._wanted(self.function, context, inputs))

    @staticmethod
    def _wanted(function: Function, context: Context, inputs: dict[str, Any]) -> dict[str, Any]:
        names = inspect.signature(function).parameters
        given = {name: value for name, value in inputs.items() if name in names}
        return given | ({"context": context} if "context" in names else {})


@overload
def step(function: Function, /) -> Declared: ...
@overload
def step(
    *,
    retries: int = 0,
    backoff_s: float = 1.0,
    timeout_s: float = 3600.0,
    cache: bool = False,
    condition: Function | None = None,
    version: str = "",
) -> Callable[[Function], Declared]: ...
def step(
    function: Function | None = None,
    /,
    *,
    retries: int = 0,
    backoff_s: float = 1.0,
    timeout_s: float = 3600.0,
    cache: bool = False,
    condition: Function | None = None,
    version: str = "",
) -> Declared | Callable[[Function], Declared]:
    """Declare a step: it runs once, and again after a failure.

    Args:
        function: What it does; its answer is JSON of at most 64 KiB.
        retries: Further tries after a failure. A death of the worker is none.
        backoff_s: Seconds before the first retry; they double with each, with jitter.
        timeout_s: Seconds that one try may last.
        cache: Whether the answer is taken from an earlier run with the same code, inputs and version.
        condition: Takes what the function takes (some of it); false skips the step and what needs it.
        version: Part of the cache key: change it to forget earlier answers.
    """

    def declare(declared: Function) -> Declared:
        return Declared(declared, condition)

    return declare if function is None else declare(function)


def sensor(
    *,
    poll_s: float = 5.0,
    timeout_s: float = 86_400.0,
    retries: int = 5,
    backoff_s: float = 1.0,
    condition: Function | None = None,
) -> Callable[[Function], Declared]:
    """Declare a sensor: it is asked again and again until its answer is not None.

    Args:
        poll_s: Seconds between two looks; no worker is held in between.
        timeout_s: Seconds from the first look on; then it has failed.
        retries: Looks in a row that may fail.
        backoff_s: Seconds after the first look that failed; they double, with jitter.
        condition: As of a step.
    """
    return lambda declared: Declared(declared, condition)


def pipeline(
    *, name: str = "", schedule: str = "", time_zone: str = "UTC", catch_up: str = "none"
) -> Callable[[Function], Function]:
    """Declare a pipeline: the function's parameters are the run's, its body calls steps and nothing else.

    Args:
        name: Of the pipeline; the function's when empty, with `-` for `_`.
        schedule: Cron expression of five fields; empty for none.
        time_zone: IANA name that the schedule is meant in.
        catch_up: What becomes of times that passed while the platform was away: `none`, `latest` or `all`.
    """
    return lambda function: function
