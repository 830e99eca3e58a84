"""Errors that services raise and callers can act on; they know neither HTTP nor gRPC.

Each names the thing, what is wrong with it and what to do. `slipway_runtime.rpc` maps the classes to
status codes in one table. The shape follows AIP-193 (ErrorInfo with a stable reason).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True)
class Violation:
    """One field that was refused."""

    field: str
    description: str


class SlipwayError(Exception):
    """A refusal with a reason.

    Args:
        reason: Value of the service's `ErrorReason` enum, without prefix.
        message: One sentence for people: the thing, what is wrong, what to do.
        metadata: Facts for programs, as text.
        violations: Fields that were refused, for invalid arguments.
        retry_after_s: When a retry makes sense; None when it does not.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        violations: Iterable[Violation] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)
        self.retry_after_s = retry_after_s


class InvalidArgument(SlipwayError):
    """The request can never succeed as it is."""

    @classmethod
    def field(cls, field: str, description: str, *, reason: str = "INVALID_FIELD") -> "InvalidArgument":
        """Return the refusal of one field."""
        return cls(reason, f"{field}: {description}", violations=[Violation(field, description)])


class Unstorable(InvalidArgument):
    """The request holds a value that the database does not keep; the server's chassis names the field."""

    def __init__(self) -> None:
        super().__init__("INVALID_FIELD", "a text has a NUL or a number is out of range; correct it")


class NotFound(SlipwayError):
    """There is no such thing."""

    @classmethod
    def of(cls, reason: str, kind: str, name: str, known: Iterable[str] = ()) -> "NotFound":
        """Return the error for an unknown name, with near matches among the known ones."""
        matches = near(name, known)
        hint = f"; did you mean {', '.join(repr(match) for match in matches)}?" if matches else ""
        return cls(
            reason, f"there is no {kind} {name!r}{hint}", metadata={"name": name, "near": ", ".join(matches)}
        )


class AlreadyExists(SlipwayError):
    """Something of that name is there already."""


class FailedPrecondition(SlipwayError):
    """The state of the thing does not allow it."""


class Aborted(SlipwayError):
    """Somebody else was faster: read again, then decide."""


class OutOfRange(SlipwayError):
    """Past the end."""


class PermissionDenied(SlipwayError):
    """The caller is known, and may not."""


class Unauthenticated(SlipwayError):
    """The caller is not known."""


class ResourceExhausted(SlipwayError):
    """A limit is reached."""


class Unavailable(SlipwayError):
    """Not now; the same call may succeed later."""


class DeadlineExceeded(SlipwayError):
    """The caller's time is over."""


class Cancelled(SlipwayError):
    """The caller went away."""


class Internal(SlipwayError):
    """Something unexpected; its text stays in the log."""


def near(name: str, known: Iterable[str], limit: int = 3) -> list[str]:
    """Return the known names most like `name`, best first."""
    return get_close_matches(name, list(known), n=limit, cutoff=0.6)
