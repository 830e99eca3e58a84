"""Settings: one frozen object per process, read from `SLIPWAY_*` variables once, at the start.

A service's `config.py` puts the parts together that it needs::

    class Settings(ServiceSettings, DatabaseSettings):
        max_upload_bytes: int = Field(1 << 30, description="bytes; a larger upload is refused")
"""

import os
from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

PREFIX = "SLIPWAY_"


class SettingsError(Exception):
    """A variable is missing or has a value that is not allowed; the text names each."""


class ServiceSettings(BaseModel):
    """What every service process needs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 inside a pod")
    grpc_port: int = Field(8500, description="port of the gRPC server")
    http_port: int = Field(8501, description="port of /metrics, /healthz and /readyz; 0 picks a free one")
    jwks: str = Field("", description="file or http(s) URL of the keys that sign tokens; needed to serve")
    token_file: str = Field("", description="file with this service's own token; empty: calls carry none")
    otlp_endpoint: str = Field("", description="host:port of the OTLP gRPC receiver; empty: no spans leave")
    trace_sample_ratio: float = Field(1.0, description="share of new traces that are kept, 0 to 1")
    log_level: str = Field("INFO", description="least level that is logged")
    rpc_threads: int = Field(
        32, description="threads of the gRPC server; more calls than this wait, 3/4 may be streams"
    )
    drain_s: float = Field(5.0, description="seconds that calls in flight get after SIGTERM")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Return the settings that the environment says, checked.

        Raises:
            SettingsError: A variable is missing or refused; the text names all of them.
        """
        source = os.environ if environ is None else environ
        names = {name: PREFIX + name.upper() for name in cls.model_fields}
        values = {name: source[variable] for name, variable in names.items() if variable in source}
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            lines = [f"{PREFIX}{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors()]
            raise SettingsError("; ".join(lines)) from None


class DatabaseSettings(BaseModel):
    """For a service that owns a database."""

    database_url: str = Field(
        description="SQLAlchemy URL, postgresql+psycopg://…; the service's own database"
    )
    database_pool: int = Field(
        8,
        description="connections kept, twice as many at most; in labeling also the threads of the quick lane "
        "that runs claims and answers",
    )


class QueueSettings(BaseModel):
    """For a service with a Celery worker."""

    broker_url: str = Field(description="redis:// URL of the queues")
    worker_threads: int = Field(1, description="tasks that one worker runs at a time")


class ObjectSettings(BaseModel):
    """For a service that keeps objects in S3."""

    s3_endpoint: str = Field(description="host:port of the S3 server as this service reaches it")
    s3_public_endpoint: str = Field("", description="host:port for presigned URLs; empty: s3_endpoint")
    s3_access_key: str = Field(description="access key")
    s3_secret_key: str = Field(description="secret key")
    s3_bucket: str = Field(description="bucket of this service; made at the start when absent")
    s3_secure: bool = Field(False, description="whether to speak TLS to S3")
