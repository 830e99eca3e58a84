"""Tokens and keys of the gateway on a real database."""

import secrets
import subprocess
import sys
import time
import uuid

import httpx
import jwt
import pytest
from running import Keys


def reason(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["details"][0]["reason"])


def make_user(rest: httpx.Client, *roles: str) -> str:
    name = f"u{uuid.uuid4().hex[:8]}"
    answer = rest.put(f"/v1/users/{name}", json={"roles": list(roles or ["engineer"])})
    assert answer.status_code == 200, answer.text
    return name


def make_token(rest: httpx.Client, user: str, **fields: object) -> dict[str, str]:
    answer = rest.post("/v1/tokens", json={"user": f"users/{user}", **fields})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_an_api_token_is_exchanged_for_a_jwt_that_the_jwks_verifies(rest: httpx.Client) -> None:
    answer = rest.post("/v1/auth:exchange").json()

    keys = {key["kid"]: jwt.PyJWK(key) for key in rest.get("/.well-known/jwks.json").json()["keys"]}
    kid = jwt.get_unverified_header(answer["access_token"])["kid"]
    claims = jwt.decode(answer["access_token"], keys[kid], algorithms=["EdDSA"], audience="slipway")
    assert (claims["iss"], claims["sub"], claims["roles"]) == ("slipway-gateway", "users/admin", ["admin"])
    assert answer["expires_in"] == 900


def test_the_jwks_shows_no_private_half(rest: httpx.Client) -> None:
    assert all("d" not in key for key in rest.get("/.well-known/jwks.json").json()["keys"])


def test_the_exchanged_jwt_opens_the_same_doors(rest: httpx.Client) -> None:
    access = rest.post("/v1/auth:exchange").json()["access_token"]

    assert rest.get("/v1/models", headers=bearer(access)).status_code == 200


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", "TOKEN_MISSING"),
        ("Basic abc", "TOKEN_MISSING"),
        ("Bearer slp_nobody-has-this-one-at-all", "TOKEN_UNKNOWN"),
        ("Bearer not.a.jwt", "TOKEN_INVALID"),
    ],
)
def test_a_bad_token_is_a_401_with_its_reason(rest: httpx.Client, header: str, expected: str) -> None:
    answer = rest.get("/v1/models", headers={"Authorization": header})

    assert (answer.status_code, reason(answer)) == (401, expected)
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_jwt_by_another_key_is_refused(rest: httpx.Client, tmp_path: object) -> None:
    stranger = Keys(tmp_path / "stranger")  # type: ignore[operator]

    answer = rest.get("/v1/models", headers=bearer(stranger.user()))

    assert (answer.status_code, reason(answer)) == (401, "TOKEN_INVALID")


def test_a_revoked_token_ends_at_once_and_says_so(rest: httpx.Client) -> None:
    made = make_token(rest, make_user(rest))
    assert rest.get("/v1/models", headers=bearer(made["secret"])).status_code == 200

    rest.post(f"/v1/{made['name']}:revoke").raise_for_status()

    answer = rest.get("/v1/models", headers=bearer(made["secret"]))
    assert (answer.status_code, reason(answer)) == (401, "TOKEN_REVOKED")


def test_an_expired_token_says_so(rest: httpx.Client) -> None:
    made = make_token(rest, make_user(rest), ttlS=1)
    time.sleep(1.1)

    answer = rest.post("/v1/auth:exchange", headers=bearer(made["secret"]))

    assert (answer.status_code, reason(answer)) == (401, "TOKEN_EXPIRED")


def test_a_secret_is_shown_once_and_kept_as_a_hash_alone(rest: httpx.Client) -> None:
    made = make_token(rest, make_user(rest), displayName="laptop")

    listed = rest.get("/v1/tokens", params={"user": made["user"], "pageSize": 1000}).json()["tokens"]

    assert [row["displayName"] for row in listed] == ["laptop"]
    assert listed[0]["secret"] is None


def test_an_engineer_makes_tokens_for_nobody_else_and_names_no_user(rest: httpx.Client) -> None:
    user, other = make_user(rest), make_user(rest)
    own = bearer(make_token(rest, user)["secret"])

    for_other = rest.post("/v1/tokens", json={"user": other}, headers=own)
    promoted = rest.put(f"/v1/users/{user}", json={"roles": ["admin"]}, headers=own)
    for_self = rest.post("/v1/tokens", json={}, headers=own)

    assert (for_other.status_code, promoted.status_code, for_self.status_code) == (403, 403, 200)


def test_a_reviewer_is_known_to_the_registry_and_refused_there(rest: httpx.Client) -> None:
    token = make_token(rest, make_user(rest, "reviewer"))["secret"]

    answer = rest.get("/v1/models", headers=bearer(token))

    assert (answer.status_code, reason(answer)) == (403, "ROLE_MISSING")


def test_an_unknown_role_is_refused_by_name(rest: httpx.Client) -> None:
    answer = rest.put("/v1/users/eve", json={"roles": ["emperor"]})

    assert answer.status_code == 400
    assert "emperor" in answer.json()["error"]["message"]


def test_without_a_key_file_every_replica_signs_with_the_one_key_of_the_database(database_url: str) -> None:
    program = """
import sys
from slipway_gateway.store import Store
from slipway_gateway.usecases import Accounts, Signer
from slipway_runtime.db import Database, migrate
migrate(sys.argv[1], "slipway_gateway")
print(Signer(pem=Accounts(Store(Database(sys.argv[1]))).signing_key(), key_id="", lifetime_s=1).key_id)
"""
    ids = {
        subprocess.run(
            [sys.executable, "-c", program, database_url], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    }

    assert len(ids) == 1


def test_a_repeated_request_makes_one_token_whose_last_secret_is_good(rest: httpx.Client) -> None:
    asked = {"displayName": "twice", "requestId": secrets.token_hex(8)}

    first, again = (rest.post("/v1/tokens", json=asked).json() for _ in range(2))

    assert first["name"] == again["name"]
    codes = [
        rest.post("/v1/auth:exchange", headers={"Authorization": f"Bearer {answer['secret']}"}).status_code
        for answer in (first, again)
    ]
    assert codes == [401, 200]


def test_a_request_id_of_another_token_is_refused(rest: httpx.Client) -> None:
    key = {"Idempotency-Key": secrets.token_hex(8)}
    rest.post("/v1/tokens", json={"displayName": "one"}, headers=key).raise_for_status()

    answer = rest.post("/v1/tokens", json={"displayName": "other"}, headers=key)

    assert answer.status_code == 400
    assert "REQUEST_ID_REUSED" in answer.text
