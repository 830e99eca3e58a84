"""Puts the routes together into one application."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from slipway_runtime.errors import Unavailable
from starlette.requests import Request
from starlette.types import ASGIApp

from slipway_gateway.api import pages, tokens
from slipway_gateway.api.door import Door, install_errors, name_operation
from slipway_gateway.api.inference import Inference
from slipway_gateway.api.openapi import Document, read_comments
from slipway_gateway.api.services import Transcoder
from slipway_gateway.api.transcoding import Binding
from slipway_gateway.usecases import Accounts, Identities

_ABOUT = (
    "Slipway's REST door. Send `Authorization: Bearer <token>`: an API token (`slp_…`) or a JWT from "
    "`POST /v1/auth:exchange`. Writes take a `requestId`, or the header `Idempotency-Key`."
)


def build(
    *,
    accounts: Accounts,
    identities: Identities,
    jwks: list[dict[str, str]],
    inference: Inference,
    transcoder: Transcoder,
    bindings: list[Binding],
    ready: Callable[[], str],
    version: str,
    max_body_bytes: int,
) -> ASGIApp:
    """Return the application.

    Args:
        accounts: Users and API tokens.
        identities: Says who sends.
        jwks: Public keys to show.
        inference: The /v2 routes.
        transcoder: The RPCs.
        bindings: REST forms of the RPCs, for OpenAPI.
        ready: Says what is missing; nothing means ready.
        version: Of the gateway.
        max_body_bytes: Bytes of a body at most.
    """
    app = FastAPIOffline(  # /docs with its scripts from here: a laptop may have no network
        redoc_url=None,
        title="Slipway",
        version=version,
        description=_ABOUT,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False},  # the middleware below makes the one span
    )
    app.state.identities = identities
    install_errors(app)
    _add_health(app, ready)
    app.include_router(tokens.router(accounts, identities, jwks))
    app.include_router(pages.router())
    app.include_router(inference.router())
    app.include_router(transcoder.router())
    _document(app, bindings)
    door = Door(app, max_body_bytes)
    return OpenTelemetryMiddleware(door, excluded_urls="/healthz,/readyz", exclude_spans=["receive", "send"])


def _add_health(app: FastAPI, ready: Callable[[], str]) -> None:
    @app.get("/healthz", tags=["Health"])
    async def healthz(request: Request) -> dict[str, str]:
        """Say that the process lives."""
        name_operation(request, "Healthz")
        return {"status": "ok"}

    @app.get("/readyz", tags=["Health"])
    def readyz(request: Request) -> dict[str, str]:
        """Say that the gateway can do its work."""
        name_operation(request, "Readyz")
        trouble = ready()
        if trouble:
            raise Unavailable("NOT_READY", trouble, retry_after_s=1)
        return {"status": "ok"}


def _document(app: FastAPI, bindings: list[Binding]) -> None:
    own = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = own()
            document = Document(bindings, read_comments())
            schema["paths"] = {**schema["paths"], **document.paths}
            schema["components"]["schemas"] |= document.schemas
            scheme = {"type": "http", "scheme": "bearer"}
            schema["components"]["securitySchemes"] = {"bearer": scheme}
            schema["security"] = [{"bearer": []}]
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
