"""Users, roles and API tokens."""

import hashlib
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from slipway_runtime.errors import InvalidArgument, PermissionDenied

ROLES = ("admin", "engineer", "reviewer", "annotator")
TOKEN_PREFIX = "slp_"
_USER_ID = re.compile(r"[a-z]([a-z0-9.-]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class User:
    """Somebody with roles."""

    id: str
    display_name: str
    roles: tuple[str, ...]
    create_time: datetime

    @property
    def name(self) -> str:
        """`users/{id}`."""
        return f"users/{self.id}"


@dataclass(frozen=True)
class ApiToken:
    """A long-lived secret of a user; only its hash is kept."""

    id: str
    user: str
    display_name: str
    create_time: datetime
    expire_time: datetime | None
    revoke_time: datetime | None
    last_used_time: datetime | None

    @property
    def name(self) -> str:
        """`tokens/{id}`."""
        return f"tokens/{self.id}"

    def refusal(self, now: datetime) -> tuple[str, str] | None:
        """Return reason and text when the token is not good any more."""
        if self.revoke_time is not None:
            return "TOKEN_REVOKED", f"API token {self.id!r} was revoked; ask for a new one"
        if self.expire_time is not None and self.expire_time <= now:
            return "TOKEN_EXPIRED", f"API token {self.id!r} expired at {self.expire_time.isoformat()}"
        return None


def new_secret() -> str:
    """Return a fresh API token: 256 random bits behind a prefix that secret scanners can find."""
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


def secret_hash(secret: str) -> bytes:
    """Return what is kept of a secret. It is random, so a plain hash is enough (no dictionary)."""
    return hashlib.sha256(secret.encode()).digest()


def check_user_id(user_id: str) -> str:
    """Return the id when it is one.

    Raises:
        InvalidArgument: It is not.
    """
    if not _USER_ID.fullmatch(user_id):
        rule = "use lower case letters, numbers, dots and hyphens, at most 63, a letter first"
        raise InvalidArgument.field("user", f"{user_id!r} is not a user id; {rule}")
    return user_id


def check_roles(roles: Iterable[str]) -> tuple[str, ...]:
    """Return the roles in order, each once.

    Raises:
        InvalidArgument: One is unknown, or there is none.
    """
    unknown = [role for role in roles if role not in ROLES]
    if unknown:
        raise InvalidArgument.field("roles", f"{unknown[0]!r} is not a role; roles are {', '.join(ROLES)}")
    if not roles:
        raise InvalidArgument.field("roles", f"is empty; name at least one of {', '.join(ROLES)}")
    return tuple(role for role in ROLES if role in set(roles))


def require_self_or_admin(subject: str, roles: frozenset[str], user: str) -> None:
    """Let users handle their own tokens, and admins everybody's.

    Raises:
        PermissionDenied: Neither.
    """
    if subject != f"users/{user}" and "admin" not in roles:
        message = f"{subject} may not handle tokens of users/{user}; an admin may"
        raise PermissionDenied("ROLE_MISSING", message)
