"""Wiring of the gateway: `serve`, `migrate`."""

import json
import logging
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from slipway.ingestion.v1 import ingestion_pb2
from slipway.labeling.v1 import labeling_pb2
from slipway.monitoring.v1 import monitoring_pb2
from slipway.pipelines.v1 import pipelines_pb2
from slipway.registry.v1 import registry_pb2
from slipway.rollout.v1 import rollout_pb2
from slipway.training.v1 import training_pb2
from slipway_runtime import telemetry
from slipway_runtime.commands import run
from slipway_runtime.db import Database
from slipway_runtime.errors import SlipwayError
from slipway_runtime.identity import Verifier
from slipway_runtime.telemetry import ProbeServer

from slipway_gateway.api.app import build
from slipway_gateway.api.inference import Inference
from slipway_gateway.api.services import Transcoder
from slipway_gateway.api.transcoding import bindings
from slipway_gateway.clients import Backend, Models, Services
from slipway_gateway.config import Settings
from slipway_gateway.store import Store
from slipway_gateway.usecases import Accounts, Identities, Signer

log = logging.getLogger(__name__)


def serve(settings: Settings) -> None:
    """Answer requests until SIGTERM."""
    telemetry.configure("gateway", settings)
    database = Database.connect(settings)
    ProbeServer(settings.host, settings.http_port, ready=lambda: _trouble(database)).start()
    config = uvicorn.Config(
        lambda: application(settings, database),
        factory=True,
        host=settings.host,
        port=settings.rest_port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=max(1, round(settings.drain_s)),
    )
    uvicorn.Server(config).run()
    telemetry.shutdown()


def application(settings: Settings, database: Database) -> Any:
    """Return the application that the settings ask for; called in the event loop's thread."""
    accounts = Accounts(Store(database))
    if settings.bootstrap_token_file:
        accounts.bootstrap(Path(settings.bootstrap_token_file).read_text().strip())
    shown = _read_keys(settings.jwks if _is_file(settings.jwks) else "") + _read_keys(settings.extra_jwks)
    signer = _signer(settings, accounts, shown)
    services = Services(_backends(settings))
    models = Models(door=settings.models, domain=settings.model_domain, port=settings.model_port)
    rest = bindings(backend.service for backend in services.backends)
    release = version("slipway-gateway")
    return build(
        accounts=accounts,
        identities=Identities(
            store=Store(database),
            signer=signer,
            verifier=Verifier(settings.jwks) if _is_file(settings.jwks) else None,
            cache_s=settings.api_token_cache_s,
        ),
        jwks=list({key["kid"]: key for key in (*shown, signer.jwk)}.values()),
        inference=Inference(
            models=models, services=services, version=release, timeout_s=settings.infer_timeout_s
        ),
        transcoder=Transcoder(
            services=services,
            bindings=rest,
            timeout_s=settings.rpc_timeout_s,
            watch_timeout_s=settings.watch_timeout_s,
        ),
        bindings=rest,
        ready=lambda: _trouble(database),
        version=release,
        max_body_bytes=settings.max_body_bytes,
    )


def _backends(settings: Settings) -> list[Backend]:
    modules = {
        "ingestion": ingestion_pb2,
        "training": training_pb2,
        "registry": registry_pb2,
        "rollout": rollout_pb2,
        "monitoring": monitoring_pb2,
        "labeling": labeling_pb2,
        "pipelines": pipelines_pb2,
    }
    return [
        Backend(name, str(getattr(settings, name)), service)
        for name, module in modules.items()
        for service in module.DESCRIPTOR.services_by_name.values()
    ]


def _signer(settings: Settings, accounts: Accounts, shown: list[dict[str, str]]) -> Signer:
    """Return the signer; a key that the JWKS file lists already keeps its id from there."""
    path = settings.signing_key_file
    pem = Path(path).read_bytes() if path else accounts.signing_key()
    signer = Signer(pem=pem, key_id="", lifetime_s=settings.access_token_s)
    listed = next((key["kid"] for key in shown if key.get("x") == signer.jwk["x"]), "")
    return Signer(pem=pem, key_id=listed, lifetime_s=settings.access_token_s) if listed else signer


def _is_file(source: str) -> bool:
    return bool(source) and not source.startswith(("http://", "https://"))


def _read_keys(source: str) -> list[dict[str, str]]:
    if not source:
        return []
    text = Path(source).read_text() if _is_file(source) else httpx.get(source, timeout=5).text
    return list(json.loads(text)["keys"])


def _trouble(database: Database) -> str:
    try:
        with database.transaction() as connection:
            connection.exec_driver_sql("SELECT 1")
    except SlipwayError as error:
        return error.message
    return ""


def main() -> None:
    """Do the verb that the command line names."""
    run("slipway_gateway", Settings, serve=serve)


if __name__ == "__main__":
    main()
