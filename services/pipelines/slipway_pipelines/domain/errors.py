"""What is refused, by reason."""

from collections.abc import Iterable

from slipway_runtime.errors import Aborted, FailedPrecondition, InvalidArgument, NotFound


class FencedError(Aborted):
    """Another attempt holds the step: this one must stop without any further effect."""

    def __init__(self, name: str, attempt: int) -> None:
        super().__init__("STALE_ATTEMPT", f"attempt {attempt} of {name} no longer holds it")


def pipeline_not_found(name: str, known: Iterable[str] = ()) -> NotFound:
    """Return the error for an unknown pipeline."""
    return NotFound.of("PIPELINE_NOT_FOUND", "pipeline", name, known)


def version_not_found(name: str, known: Iterable[str] = ()) -> NotFound:
    """Return the error for an unknown version."""
    return NotFound.of("PIPELINE_VERSION_NOT_FOUND", "pipeline version", name, known)


def run_not_found(name: str, known: Iterable[str] = ()) -> NotFound:
    """Return the error for an unknown run."""
    return NotFound.of("PIPELINE_RUN_NOT_FOUND", "pipeline run", name, known)


def code_refused(message: str) -> InvalidArgument:
    """Return the refusal of an archive, or of an entry point in it."""
    return InvalidArgument("PIPELINE_CODE_REFUSED", message)


def definition_refused(message: str, line: int = 0) -> InvalidArgument:
    """Return the refusal of a definition, with the line of the file."""
    where = f"line {line}: " if line else ""
    return InvalidArgument("INVALID_DEFINITION", f"{where}{message}", metadata={"line": str(line)})


def parameter_refused(name: str, message: str) -> InvalidArgument:
    """Return the refusal of one parameter of a run."""
    return InvalidArgument.field(f"parameters.{name}", message, reason="INVALID_PARAMETER")


def run_ended(name: str, state: str) -> FailedPrecondition:
    """Return the error for cancelling what has ended."""
    return FailedPrecondition("PIPELINE_RUN_ENDED", f"{name} is {state}; it cannot be cancelled")


def nothing_to_retry(name: str, state: str) -> FailedPrecondition:
    """Return the error for retrying what has not failed."""
    remedy = "start a new run" if state == "SUCCEEDED" else "wait for its end, or cancel it"
    return FailedPrecondition("NOTHING_TO_RETRY", f"{name} is {state}; {remedy}")


def no_schedule(name: str) -> FailedPrecondition:
    """Return the error for a schedule that is not there."""
    message = f"{name} declares no schedule; give @pipeline a `schedule` and upload it again"
    return FailedPrecondition("NO_SCHEDULE", message)
