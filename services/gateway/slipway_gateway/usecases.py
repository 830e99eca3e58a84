"""The verbs: who somebody is, users, API tokens, keys."""

import base64
import hashlib
import json
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from slipway_runtime.db import PageToken, page_size
from slipway_runtime.errors import InvalidArgument, NotFound, Unauthenticated
from slipway_runtime.identity import AUDIENCE, Caller, Verifier, require_role

from slipway_gateway.domain.identity import (
    TOKEN_PREFIX,
    ApiToken,
    User,
    check_roles,
    check_user_id,
    new_secret,
    require_self_or_admin,
    secret_hash,
)
from slipway_gateway.store import Store

ISSUER = "slipway-gateway"
_CACHE_SIZE = 4096
_MAX_TTL_S = 10 * 365 * 86_400
ADMIN = frozenset({"admin"})


@dataclass(frozen=True)
class Session:
    """A caller with the JWT that services will see."""

    caller: Caller
    access_token: str
    expires_in_s: int


class Signer:
    """Signs short JWTs (EdDSA, RFC 8037) and knows the public half.

    Args:
        pem: PKCS8 PEM of an Ed25519 key.
        key_id: Id of the key in the JWKS; empty: its RFC 7638 thumbprint.
        lifetime_s: Seconds that a JWT is good.
    """

    def __init__(self, *, pem: bytes, key_id: str, lifetime_s: int) -> None:
        key = serialization.load_pem_private_key(pem, None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError(
                "the signing key is not an Ed25519 key; make one with `openssl genpkey -algorithm ed25519`"
            )
        self._key = key
        self.lifetime_s = lifetime_s
        self.public = key.public_key()
        document = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(self.public))
        self.key_id = key_id or thumbprint(document)
        self.jwk: dict[str, Any] = {**document, "kid": self.key_id, "alg": "EdDSA", "use": "sig"}

    def sign(self, user: User) -> str:
        """Return a JWT for the user."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": user.name,
            "roles": list(user.roles),
            "iat": now,
            "exp": now + self.lifetime_s,
            "jti": secrets.token_hex(8),
        }
        return jwt.encode(claims, self._key, algorithm="EdDSA", headers={"kid": self.key_id})


def thumbprint(jwk: dict[str, Any]) -> str:
    """Return the thumbprint of an OKP key (RFC 7638, RFC 8037)."""
    canonical = json.dumps({k: jwk[k] for k in ("crv", "kty", "x")}, separators=(",", ":"), sort_keys=True)
    return base64.urlsafe_b64encode(hashlib.sha256(canonical.encode()).digest()).decode().rstrip("=")


def new_pem() -> bytes:
    """Return a fresh Ed25519 key as PKCS8 PEM."""
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


class Identities:
    """Says who sent a request, by API token or JWT.

    Args:
        store: Users and tokens.
        signer: Signs what services will see.
        verifier: Checks JWTs that others signed; None refuses them.
        cache_s: Seconds that an API token is believed without asking the database.
    """

    def __init__(self, *, store: Store, signer: Signer, verifier: Verifier | None, cache_s: float) -> None:
        self._store = store
        self._signer = signer
        self._verifier = verifier
        self._cache_s = cache_s
        self._known: OrderedDict[bytes, tuple[float, Session]] = OrderedDict()
        self._lock = threading.Lock()

    def session(self, authorization: str) -> Session:
        """Return who a header `Bearer …` belongs to.

        Raises:
            Unauthenticated: There is no token, or a damaged, unknown, revoked or expired one.
        """
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            message = "the request carries no token; send the header 'Authorization: Bearer <token>'"
            raise Unauthenticated("TOKEN_MISSING", message)
        if token.startswith(TOKEN_PREFIX):
            return self._of_api_token(token)
        return self._of_jwt(token)

    def exchange(self, authorization: str) -> Session:
        """Return a session with a fresh JWT for an API token.

        Raises:
            Unauthenticated: It is not a good API token.
        """
        token = authorization.partition(" ")[2].strip()
        if not token.startswith(TOKEN_PREFIX):
            message = f"an API token (`{TOKEN_PREFIX}…`) is needed here; make one with `slipway token create`"
            raise Unauthenticated("TOKEN_MISSING" if not token else "TOKEN_INVALID", message)
        return self._signed(self._user_of(secret_hash(token)))

    def _of_api_token(self, token: str) -> Session:
        digest, now = secret_hash(token), time.monotonic()
        with self._lock:
            known = self._known.get(digest)
        if known is not None and known[0] > now:
            return known[1]
        session = self._signed(self._user_of(digest))
        with self._lock:
            self._known[digest] = (now + self._cache_s, session)
            while len(self._known) > _CACHE_SIZE:
                self._known.popitem(last=False)
        return session

    def _user_of(self, digest: bytes) -> User:
        with self._store.transaction() as connection:
            found = self._store.token_by_hash(connection, digest)
            now = self._store.now(connection)
        if found is None:
            raise Unauthenticated("TOKEN_UNKNOWN", "no such API token; make one with `slipway token create`")
        refusal = found[0].refusal(now)
        if refusal is not None:
            raise Unauthenticated(*refusal)
        return found[1]

    def _signed(self, user: User) -> Session:
        caller = Caller(user.name, frozenset(user.roles))
        return Session(caller, self._signer.sign(user), self._signer.lifetime_s)

    def _of_jwt(self, token: str) -> Session:
        try:
            own = jwt.get_unverified_header(token).get("kid") == self._signer.key_id
            if not own and self._verifier is not None:
                return Session(self._verifier.verify(token), token, 0)
            claims = jwt.decode(
                token, self._signer.public, algorithms=["EdDSA"], audience=AUDIENCE, issuer=ISSUER, leeway=10
            )
        except jwt.PyJWTError as error:
            message = f"the token was refused ({error}); get a new one from POST /v1/auth:exchange"
            raise Unauthenticated("TOKEN_INVALID", message) from error
        caller = Caller(str(claims["sub"]), frozenset(claims.get("roles", ())))
        return Session(caller, token, int(claims["exp"] - time.time()))


class Accounts:
    """Users and their API tokens."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def bootstrap(self, secret: str) -> None:
        """Make `users/admin` with this API token, unless both are there.

        Raises:
            InvalidArgument: It is not an API token.
        """
        if not secret.startswith(TOKEN_PREFIX) or len(secret) < len(TOKEN_PREFIX) + 20:
            raise InvalidArgument.field(
                "bootstrap_token_file",
                f"does not hold an API token; it begins with {TOKEN_PREFIX} and has 24 or more",
            )
        with self._store.transaction() as connection:
            if self._store.user(connection, "admin") is None:
                self._store.put_user(connection, "admin", "Administrator", ("admin",))
            self._store.add_token(
                connection, _token("admin", "bootstrap", None), secret_hash(secret), replace=True
            )

    def put_user(self, caller: Caller, user_id: str, display_name: str, roles: list[str]) -> User:
        """Create a user, or set roles and name of the one there; admins only."""
        require_role(caller, ADMIN)
        with self._store.transaction() as connection:
            return self._store.put_user(connection, check_user_id(user_id), display_name, check_roles(roles))

    def list_users(self, caller: Caller, size: int, token: str) -> tuple[list[User], str]:
        """Return a page of users by id; admins only."""
        require_role(caller, ADMIN)
        limit, pages = page_size(size), PageToken(("users",))
        after = (pages.decode(token) or [""])[0]
        with self._store.transaction() as connection:
            rows = self._store.list_users(connection, after, limit + 1)
        return rows[:limit], pages.encode(rows[limit - 1].id) if len(rows) > limit else ""

    def create_token(
        self, caller: Caller, user_id: str, display_name: str, ttl_s: int, request_id: str = ""
    ) -> tuple[ApiToken, str]:
        """Return a new token and its secret, which nobody can read again; `ttl_s` 0 never expires.

        A repeat of a request_id makes no second token. The secret of the first answer is not kept, so the
        token gets a new one: what the last answer says is good.

        Raises:
            NotFound: There is no such user.
            InvalidArgument: The time is out of range, or the request_id was used for another token.
        """
        require_self_or_admin(caller.subject, caller.roles, user_id)
        if not 0 <= ttl_s <= _MAX_TTL_S:
            raise InvalidArgument.field("ttl_s", f"is {ttl_s}; send 0 for no end, at most {_MAX_TTL_S}")
        expire = datetime.now(UTC) + timedelta(seconds=ttl_s) if ttl_s else None
        secret = new_secret()
        with self._store.transaction() as connection:
            if self._store.user(connection, user_id) is None:
                raise NotFound.of("USER_NOT_FOUND", "user", user_id, self._store.user_ids(connection))
            asked = (caller.subject, request_id) if request_id else ("", "")
            given = self._store.token_asked(connection, *asked) if request_id else None
            if given is not None:
                _check_same(given, user_id, display_name)
                return self._store.give_secret(connection, given.id, secret_hash(secret)), secret
            made = self._store.add_token(
                connection, _token(user_id, display_name, expire), secret_hash(secret), asked=asked
            )
        return made, secret

    def list_tokens(self, caller: Caller, user_id: str, size: int, token: str) -> tuple[list[ApiToken], str]:
        """Return a page of tokens: an admin sees all, others their own."""
        if "admin" not in caller.roles:
            user_id = user_id or caller.subject.removeprefix("users/")
        if user_id:
            require_self_or_admin(caller.subject, caller.roles, user_id)
        limit, pages = page_size(size), PageToken(("tokens", user_id))
        after = (pages.decode(token) or [""])[0]
        with self._store.transaction() as connection:
            rows = self._store.list_tokens(connection, user_id, after, limit + 1)
        return rows[:limit], pages.encode(rows[limit - 1].id) if len(rows) > limit else ""

    def revoke_token(self, caller: Caller, token_id: str) -> ApiToken:
        """End a token; a second time changes nothing."""
        with self._store.transaction() as connection:
            found = self._store.token(connection, token_id)
            if found is None:
                raise NotFound.of("TOKEN_NOT_FOUND", "API token", token_id)
            require_self_or_admin(caller.subject, caller.roles, found.user)
            return self._store.revoke_token(connection, token_id)

    def signing_key(self) -> bytes:
        """Return the key that every replica signs with, made at the first start."""
        with self._store.transaction() as connection:
            return self._store.signing_key(connection, new_pem())


def _token(user: str, display_name: str, expire: datetime | None) -> ApiToken:
    made = datetime.now(UTC)
    return ApiToken(secrets.token_hex(6), user, display_name, made, expire, None, None)


def _check_same(given: ApiToken, user_id: str, display_name: str) -> None:
    if (given.user, given.display_name) != (user_id, display_name) or given.revoke_time is not None:
        description = "was used for another token, or for one that was revoked; send a new one"
        raise InvalidArgument.field("request_id", description, reason="REQUEST_ID_REUSED")
