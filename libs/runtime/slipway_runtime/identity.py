"""Who calls: short JWTs (RFC 7519) checked against a JWKS (RFC 7517), and this service's own token.

Users' tokens come from the gateway, services' tokens from the platform (on a cluster: projected
ServiceAccount tokens). A service may name the user it works for; a user may not name another.
"""

import json
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jwt

from slipway_runtime.errors import PermissionDenied, Unauthenticated, Unavailable

AUDIENCE = "slipway"
ON_BEHALF_OF = "slipway-on-behalf-of"
SERVICE_PREFIX = "system:serviceaccount:slipway:"
# A model pod's account lies in another namespace, which its name then says: it cannot pass for a service.
_ACCOUNT = re.compile(r"system:serviceaccount:(slipway|slipway-models):([a-z0-9.-]+)")
DEFAULT_ROLES = frozenset({"admin", "engineer", "service"})
_KEYS_FRESH_S = 300.0
_KEYS_RETRY_S = 5.0
_CACHE_SIZE = 4096


@dataclass(frozen=True)
class Caller:
    """Who is behind a call.

    `subject` is `users/{name}`, `services/{name}` or `services/{name}.{namespace}`; `actor` is the service
    that called for a user.
    """

    subject: str
    roles: frozenset[str]
    actor: str = ""


ANONYMOUS = Caller("anonymous", frozenset())
_caller: ContextVar[Caller] = ContextVar("slipway_caller", default=ANONYMOUS)


def current_caller() -> Caller:
    """Return who is behind the current call, or ANONYMOUS outside of one."""
    return _caller.get()


@contextmanager
def acting_as(caller: Caller) -> Iterator[None]:
    """Make `caller` the current one inside; workers use it to act for whom a row names."""
    token = _caller.set(caller)
    try:
        yield
    finally:
        _caller.reset(token)


class KeySet:
    """Public keys by id from a file (read again when it changes) or a URL (every five minutes)."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._keys: dict[str, jwt.PyJWK] = {}
        self._read_at = 0.0
        self._tried_at = 0.0
        self._mtime_ns = 0

    def key(self, kid: str) -> jwt.PyJWK | None:
        """Return the key of that id, or None.

        Raises:
            Unavailable: The source cannot be read and no key is known yet.
        """
        with self._lock:
            self._refresh(missing=kid not in self._keys)
            return self._keys.get(kid)

    def _refresh(self, *, missing: bool) -> None:
        age_s = time.monotonic() - self._read_at
        remote = self._source.startswith(("http://", "https://"))
        if remote and self._read_at and age_s < (_KEYS_RETRY_S if missing else _KEYS_FRESH_S):
            return
        if remote and self._keys and time.monotonic() - self._tried_at < _KEYS_RETRY_S:
            return  # it did not answer a moment ago: the known keys do, and no call waits for it again
        self._tried_at = time.monotonic()
        try:
            document = self._fetch() if remote else self._read_file()
        except (OSError, httpx.HTTPError, ValueError) as error:
            if not self._keys:
                message = f"the token keys at {self._source!r} cannot be read ({error}); try again"
                raise Unavailable("KEYS_UNAVAILABLE", message, retry_after_s=_KEYS_RETRY_S) from error
            return
        if document is not None:
            self._keys = {str(key["kid"]): jwt.PyJWK(key) for key in document["keys"]}
            self._read_at = time.monotonic()

    def _fetch(self) -> dict[str, Any]:
        response = httpx.get(self._source, timeout=5.0)
        response.raise_for_status()
        return dict(response.json())

    def _read_file(self) -> dict[str, Any] | None:
        path = Path(self._source)
        mtime_ns = path.stat().st_mtime_ns
        if mtime_ns == self._mtime_ns:
            return None
        document = dict(json.loads(path.read_text()))
        self._mtime_ns = mtime_ns
        return document


class Verifier:
    """Checks tokens; a token that was good is remembered until it expires."""

    def __init__(self, jwks: str) -> None:
        self._keys = KeySet(jwks)
        self._known: OrderedDict[str, tuple[float, Caller]] = OrderedDict()

    def caller(self, metadata: Mapping[str, str]) -> Caller:
        """Return who sent this call.

        Raises:
            Unauthenticated: No token, or one that is damaged, expired, foreign or not signed by us.
            PermissionDenied: A user named another user to act for.
        """
        header = metadata.get("authorization", "")
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token:
            message = "the call carries no token; send metadata 'authorization: Bearer <token>'"
            raise Unauthenticated("TOKEN_MISSING", message)
        caller = self.verify(token.strip())
        return _for_user(caller, metadata.get(ON_BEHALF_OF, ""))

    def verify(self, token: str) -> Caller:
        """Return whose token this is.

        Raises:
            Unauthenticated: The token is damaged, expired, foreign or not signed by us.
        """
        known = self._known.get(token)
        if known is not None and known[0] > time.time():
            return known[1]
        claims = self._claims(token)
        caller = _caller_of(claims)
        self._known[token] = (float(claims["exp"]), caller)
        while len(self._known) > _CACHE_SIZE:
            self._known.popitem(last=False)
        return caller

    def _claims(self, token: str) -> dict[str, Any]:
        try:
            kid = str(jwt.get_unverified_header(token).get("kid", ""))
            key = self._keys.key(kid)
            if key is None:
                raise jwt.InvalidKeyError(f"no key {kid!r}")
            return dict(
                jwt.decode(
                    token,
                    key,
                    algorithms=["EdDSA", "ES256", "RS256"],
                    audience=AUDIENCE,
                    leeway=10,
                    options={"require": ["exp", "sub", "iss"]},
                )
            )
        except jwt.PyJWTError as error:
            message = f"the token was refused ({error}); get a new one from the gateway's /v1/auth:exchange"
            raise Unauthenticated("TOKEN_INVALID", message) from error


def _caller_of(claims: Mapping[str, Any]) -> Caller:
    subject = str(claims["sub"])
    account = _ACCOUNT.fullmatch(subject)
    if account is not None:
        namespace, name = account.groups()
        own = name if namespace == "slipway" else f"{name}.{namespace}"
        return Caller(f"services/{own}", frozenset({"service"}))
    return Caller(subject, frozenset(str(role) for role in claims.get("roles", ())))


def _for_user(caller: Caller, user: str) -> Caller:
    if not user:
        return caller
    if "service" not in caller.roles:
        message = f"{caller.subject} may not act for {user!r}; only services may: leave {ON_BEHALF_OF!r} out"
        raise PermissionDenied("IMPERSONATION_REFUSED", message)
    return Caller(user, caller.roles, actor=caller.subject)


def require_role(caller: Caller, allowed: frozenset[str]) -> None:
    """Let a caller with one of the roles pass.

    Raises:
        PermissionDenied: It has none of them; the text names both sides.
    """
    if caller.roles & allowed:
        return
    has = ", ".join(sorted(caller.roles)) or "none"
    message = f"{caller.subject} has the roles {has}; this call needs one of {', '.join(sorted(allowed))}"
    raise PermissionDenied("ROLE_MISSING", message)


class ServiceToken:
    """This service's own token, read again when its file changes (projected tokens rotate)."""

    def __init__(self, path: str) -> None:
        self._path = Path(path) if path else None
        self._mtime_ns = 0
        self._token = ""

    def __call__(self) -> str:
        """Return the token, or nothing when the service has none."""
        if self._path is None:
            return ""
        mtime_ns = self._path.stat().st_mtime_ns
        if mtime_ns != self._mtime_ns:
            self._token = self._path.read_text().strip()
            self._mtime_ns = mtime_ns
        return self._token
