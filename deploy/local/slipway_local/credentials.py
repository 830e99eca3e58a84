"""Keys, tokens and passwords of one platform: made once, kept in the state folder, readable by us alone."""

import json
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from slipway_local.layout import SERVICES, Layout

AUDIENCE = "slipway"
PLATFORM_ISSUER = "slipway-platform"
SIGNERS = ("gateway", "platform")
TOKEN_LIFE_S = 30 * 86_400
TOKEN_RENEWED_BELOW_S = 15 * 86_400


@dataclass(frozen=True)
class Passwords:
    """Of the servers, and of each service's database role."""

    postgres: str
    valkey: str
    s3_access_key: str
    s3_secret_key: str
    roles: dict[str, str]


def write_private(path: Path, text: str) -> None:
    """Write a file that nobody but us can read, at once."""
    beside = path.with_name(f".{path.name}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    os.replace(beside, path)


def passwords(layout: Layout) -> Passwords:
    """Return the passwords, made at the first call; a service that is new gets one of its own."""
    path = layout.keys / "passwords.json"
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for name in ("postgres", "valkey", "s3_secret_key"):
        known.setdefault(name, secrets.token_hex(16))
    known.setdefault("s3_access_key", "slipway")
    roles = known.setdefault("roles", {})
    for service in SERVICES:
        roles.setdefault(service, secrets.token_hex(16))
    write_private(path, json.dumps(known, indent=1))
    return Passwords(**known)


def write_keys_and_tokens(layout: Layout) -> None:
    """Make the signing keys once; write the JWKS, the services' tokens and the admin's token."""
    keys = {signer: _signing_key(layout, signer) for signer in SIGNERS}
    public = [_public(signer, key) for signer, key in keys.items()]
    write_private(layout.jwks, json.dumps({"keys": public}))
    for service in SERVICES:
        path = layout.tokens / service
        if _life_left_s(path) < TOKEN_RENEWED_BELOW_S:
            write_private(path, service_token(keys["platform"], service))
    if not layout.admin_token.exists():
        write_private(layout.admin_token, f"slp_{secrets.token_urlsafe(32)}")


def service_token(key: Ed25519PrivateKey, service: str) -> str:
    """Return a service's token, in the form of a projected ServiceAccount token."""
    now = int(time.time())
    claims = {"iss": PLATFORM_ISSUER, "aud": AUDIENCE, "sub": f"system:serviceaccount:slipway:{service}"}
    return jwt.encode(
        {**claims, "iat": now, "exp": now + TOKEN_LIFE_S}, key, algorithm="EdDSA", headers={"kid": "platform"}
    )


def _signing_key(layout: Layout, signer: str) -> Ed25519PrivateKey:
    path = layout.keys / f"{signer}.pem"
    if path.exists():
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        assert isinstance(key, Ed25519PrivateKey)
        return key
    key = Ed25519PrivateKey.generate()
    form = serialization.PrivateFormat.PKCS8
    text = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    write_private(path, text.decode())
    return key


def _public(signer: str, key: Ed25519PrivateKey) -> dict[str, Any]:
    public = jwt.algorithms.OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**public, "kid": signer, "alg": "EdDSA", "use": "sig"}


def _life_left_s(path: Path) -> float:
    if not path.exists():
        return 0.0
    claims = jwt.decode(path.read_text(), options={"verify_signature": False})
    return float(claims["exp"]) - time.time()
