"""Where the platform is and with which token: arguments, then the environment, then `.slipway/`."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from slipway.client.errors import SlipwayError

REST_OFFSET = 0
GRPC_OFFSET = 1
DEFAULT_PORT_BASE = 8080


@dataclass(frozen=True)
class Places:
    """The two doors and a token.

    `grpc` is `host:port`, or `service=host:port,…` where services are reached without a door. `traceparent`
    is the W3C context that calls go on from; empty: each begins a trace of its own.
    """

    rest: str
    grpc: str
    token: str
    traceparent: str = ""

    def address(self, service: str) -> str:
        """Return where a service is reached over gRPC."""
        if "=" not in self.grpc:
            return self.grpc
        listed = dict(part.split("=", 1) for part in self.grpc.split(",") if part)
        if service not in listed:
            text = f"SLIPWAY_GRPC names {', '.join(listed)} and not {service}; add `{service}=host:port`"
            raise SlipwayError("FAILED_PRECONDITION", "NO_ADDRESS", text)
        return listed[service]


def find_places(
    rest: str = "",
    grpc: str = "",
    token: str = "",
    *,
    folder: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Places:
    """Return the doors and the token.

    What is not given comes from SLIPWAY_URL, SLIPWAY_GRPC and SLIPWAY_TOKEN, else from
    `.slipway/platform.json` and `.slipway/admin-token` in the folder or above it, else localhost.
    """
    environment = os.environ if environ is None else environ
    state = state_folder(folder or Path.cwd())
    base = _port_base(state)
    return Places(
        rest=(rest or environment.get("SLIPWAY_URL") or f"http://127.0.0.1:{base + REST_OFFSET}").rstrip("/"),
        grpc=grpc or environment.get("SLIPWAY_GRPC") or f"127.0.0.1:{base + GRPC_OFFSET}",
        token=token or environment.get("SLIPWAY_TOKEN") or _admin_token(state),
        traceparent=environment.get("SLIPWAY_TRACEPARENT", ""),
    )


def state_folder(folder: Path) -> Path | None:
    """Return the state of the platform that was started in the folder, else of the nearest above it."""
    for parent in (folder, *folder.parents):
        if (parent / ".slipway" / "platform.json").is_file():
            return parent / ".slipway"
    return None


def _port_base(state: Path | None) -> int:
    if state is None:
        return DEFAULT_PORT_BASE
    try:
        return int(json.loads((state / "platform.json").read_text())["port_base"])
    except (OSError, ValueError, KeyError) as error:
        text = f"{state / 'platform.json'} cannot be read ({error}); run `slipway up` again"
        raise SlipwayError("FAILED_PRECONDITION", "PLATFORM_FILE_DAMAGED", text) from error


def _admin_token(state: Path | None) -> str:
    path = None if state is None else state / "admin-token"
    return path.read_text().strip() if path is not None and path.is_file() else ""
