"""Who may do what: roles by token, and events from fronts alone."""

from slipway_runtime.errors import PermissionDenied
from slipway_runtime.identity import Caller, current_caller

FRONT = "services/inference"


def front() -> Caller:
    """Return the caller when it is an inference front, in whatever namespace.

    Raises:
        PermissionDenied: It is somebody else: an event that a front did not make would count as traffic.
    """
    caller = current_caller()
    name = (caller.actor or caller.subject).partition(".")[0]
    if name != FRONT:
        message = f"{caller.subject} may not report events; inference fronts alone do"
        raise PermissionDenied("ROLE_MISSING", message)
    return caller
