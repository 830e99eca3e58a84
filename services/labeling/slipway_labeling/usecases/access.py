"""Who may do what: roles by token, and the annotator behind a user."""

from slipway_runtime.errors import PermissionDenied
from slipway_runtime.identity import Caller, current_caller, require_role

WORK = frozenset({"annotator", "admin"})
MANAGE = frozenset({"engineer", "admin", "service"})
JUDGE = MANAGE | {"reviewer"}
READ = JUDGE | {"annotator"}
EVERYBODY = READ


def allow(roles: frozenset[str]) -> Caller:
    """Return the caller when it has one of the roles.

    Raises:
        PermissionDenied: It has none of them; the text names both sides (ROLE_MISSING).
    """
    caller = current_caller()
    require_role(caller, roles)
    return caller


def worker() -> str:
    """Return the id of the annotator that calls: the user `users/{annotator}`.

    Raises:
        PermissionDenied: The caller may not annotate, or is no user.
    """
    caller = allow(WORK)
    kind, _, name = caller.subject.partition("/")
    if kind != "users" or not name:
        message = f"{caller.subject} is no user; people alone annotate: send a user's token"
        raise PermissionDenied("ROLE_MISSING", message)
    return name


def blind() -> bool:
    """Say whether what others answered is kept from the caller: it has no role but to annotate."""
    return not current_caller().roles & JUDGE
