"""Who somebody is: exchange of API tokens, JWKS, users, API tokens."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from slipway_gateway.api.door import name_operation, session_of
from slipway_gateway.domain.identity import ApiToken, User
from slipway_gateway.usecases import Accounts, Identities, Session


class Document(BaseModel):
    """JSON in the protos' way: lowerCamelCase; both forms are read."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")


class AccessToken(BaseModel):
    """A short JWT, in the words of RFC 6749."""

    access_token: str
    token_type: str = "Bearer"
    expires_in: int = Field(description="seconds")


class UserDocument(Document):
    """A user."""

    name: str = Field(description="`users/{user}`")
    display_name: str
    roles: list[str]
    create_time: datetime | None = None

    @classmethod
    def of(cls, user: User) -> "UserDocument":
        """Return the document of a user."""
        return cls(
            name=user.name,
            display_name=user.display_name,
            roles=list(user.roles),
            create_time=user.create_time,
        )


class UserPage(Document):
    """A page of users."""

    users: list[UserDocument]
    next_page_token: str


class PutUser(Document):
    """Asks for a user with these roles."""

    display_name: str = ""
    roles: list[str] = Field(description="among admin, engineer, reviewer, annotator")


class TokenDocument(Document):
    """An API token, without its secret."""

    name: str = Field(description="`tokens/{token}`")
    user: str
    display_name: str
    create_time: datetime
    expire_time: datetime | None
    revoke_time: datetime | None
    last_used_time: datetime | None
    secret: str | None = Field(None, description="only in the answer to its creation, never again")

    @classmethod
    def of(cls, token: ApiToken, secret: str | None = None) -> "TokenDocument":
        """Return the document of a token."""
        return cls(
            name=token.name,
            user=f"users/{token.user}",
            display_name=token.display_name,
            create_time=token.create_time,
            expire_time=token.expire_time,
            revoke_time=token.revoke_time,
            last_used_time=token.last_used_time,
            secret=secret,
        )


class TokenPage(Document):
    """A page of tokens."""

    tokens: list[TokenDocument]
    next_page_token: str


class CreateToken(Document):
    """Asks for an API token."""

    user: str = Field("", description="`users/{user}`; empty: the caller")
    display_name: str = Field("", max_length=200)
    ttl_s: int = Field(0, description="seconds until it expires; 0: never")
    request_id: str = Field(
        "", max_length=200, description="a repeat makes no second token but renews its secret"
    )


Sender = Annotated[Session, Depends(session_of)]
PageSize = Annotated[int, Query(alias="pageSize")]
PageTokenText = Annotated[str, Query(alias="pageToken")]


def router(accounts: Accounts, identities: Identities, jwks: list[dict[str, str]]) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["Identity"])

    @routes.post("/v1/auth:exchange")
    def exchange(request: Request) -> AccessToken:
        """Turn an API token (`Authorization: Bearer slp_…`) into a short JWT."""
        name_operation(request, "ExchangeToken")
        session = identities.exchange(request.headers.get("authorization", ""))
        return AccessToken(access_token=session.access_token, expires_in=session.expires_in_s)

    @routes.get("/.well-known/jwks.json")
    def keys(request: Request) -> dict[str, list[dict[str, str]]]:
        """Return the public keys that tokens are checked with (RFC 7517)."""
        name_operation(request, "GetKeys")
        return {"keys": jwks}

    @routes.get("/v1/users")
    def list_users(
        request: Request, sender: Sender, page_size: PageSize = 0, page_token: PageTokenText = ""
    ) -> UserPage:
        """List users by id; admins only."""
        name_operation(request, "ListUsers")
        rows, token = accounts.list_users(sender.caller, page_size, page_token)
        return UserPage(users=[UserDocument.of(row) for row in rows], next_page_token=token)

    @routes.put("/v1/users/{user}")
    def put_user(request: Request, sender: Sender, user: str, body: PutUser) -> UserDocument:
        """Create a user, or set name and roles of the one there; admins only."""
        name_operation(request, "PutUser")
        return UserDocument.of(accounts.put_user(sender.caller, user, body.display_name, body.roles))

    _token_routes(routes, accounts)
    return routes


def _token_routes(routes: APIRouter, accounts: Accounts) -> None:
    @routes.post("/v1/tokens")
    def create_token(request: Request, sender: Sender, body: CreateToken) -> TokenDocument:
        """Make an API token; its secret is in this answer and nowhere else."""
        name_operation(request, "CreateToken")
        user = (body.user or sender.caller.subject).removeprefix("users/")
        request_id = body.request_id or request.headers.get("idempotency-key", "")[:200]
        made = accounts.create_token(sender.caller, user, body.display_name, body.ttl_s, request_id)
        return TokenDocument.of(*made)

    @routes.get("/v1/tokens")
    def list_tokens(
        request: Request,
        sender: Sender,
        user: str = "",
        page_size: PageSize = 0,
        page_token: PageTokenText = "",
    ) -> TokenPage:
        """List API tokens without secrets: an admin's view is of all, others see their own."""
        name_operation(request, "ListTokens")
        rows, token = accounts.list_tokens(sender.caller, user.removeprefix("users/"), page_size, page_token)
        return TokenPage(tokens=[TokenDocument.of(row) for row in rows], next_page_token=token)

    @routes.post("/v1/tokens/{token}:revoke")
    def revoke_token(request: Request, sender: Sender, token: str) -> TokenDocument:
        """End an API token; a second time changes nothing."""
        name_operation(request, "RevokeToken")
        return TokenDocument.of(accounts.revoke_token(sender.caller, token))
