"""Whether the platform's ports are free, and who has those that are not."""

import socket
from dataclasses import dataclass

import psutil

from slipway_local.layout import HOST


@dataclass(frozen=True)
class Taken:
    """A port that somebody else listens on."""

    port: int
    use: str
    holder: str

    def __str__(self) -> str:
        return f"port {self.port} ({self.use}) is taken by {self.holder}"


def is_free(port: int) -> bool:
    """Say whether we could listen on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def taken(uses: dict[int, str]) -> list[Taken]:
    """Return those of the ports that are not free."""
    busy = [port for port in uses if not is_free(port)]
    return [Taken(port, uses[port], _holder(port)) for port in busy]


def _holder(port: int) -> str:
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        connections = []
    for connection in connections:
        listens = connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,)
        if listens and connection.pid:
            try:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
            except psutil.NoSuchProcess:
                break
    return "another process"
