"""The gateway as a process."""

import socket

import httpx
from running import Keys, Service, free_port

ADMIN_TOKEN = "slp_the-administrator-of-this-test-session"


class Gateway(Service):
    """The gateway: ready when its REST door says so."""

    def __init__(self, keys: Keys, **settings: object) -> None:
        self.rest_port = free_port()
        super().__init__("slipway_gateway.main", keys, rest_port=self.rest_port, **settings)

    @property
    def url(self) -> str:
        """The REST door."""
        return f"http://127.0.0.1:{self.rest_port}"

    def _ready(self) -> bool:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", self.rest_port)) != 0:
                return False
        try:
            return httpx.get(f"{self.url}/readyz").status_code == 200
        except httpx.TransportError:
            return False
