"""Ports for tests, such that no two workers of a session ever reach for the same.

A port is chosen a while before its server listens, so that it was free says little: each worker of
pytest-xdist chooses in a range of its own, one after another. All lie below the ports that the kernel lends
to outgoing connections; a server that is killed and started again must find its port free.
"""

import os
import secrets
from collections.abc import Iterator

from slipway_local.layout import GRPC_OF_SEAWEED
from slipway_local.ports import is_free

_WORKERS = 4
_SINGLES = 1_500
_APART = 200


def _mine() -> int:
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    return int(worker.removeprefix("gw")) % _WORKERS if worker else secrets.randbelow(_WORKERS)


def _from_anywhere(ports: range) -> Iterator[int]:
    """Yield the ports round and round, from a random one on."""
    at = secrets.randbelow(len(ports))
    while True:
        yield ports[at % len(ports)]
        at += 1


_worker = _mine()
_singles = _from_anywhere(range(12_000, 18_000)[_worker * _SINGLES :][:_SINGLES])
_bases = _from_anywhere(range(18_000, 22_000, _APART)[_worker::_WORKERS])


def free_ports(count: int) -> list[int]:
    """Return free ports, each with the one of SeaweedFS's gRPC above it."""
    free = (port for port in _singles if is_free(port) and is_free(port + GRPC_OF_SEAWEED))
    return [next(free) for _ in range(count)]


def free_port() -> int:
    """Return one free port."""
    return free_ports(1)[0]


def free_port_base() -> int:
    """Return a port base of a platform whose ports are free, those of pods and of SeaweedFS's gRPC too."""
    uses = [port + away for port in range(_APART) for away in (0, GRPC_OF_SEAWEED)]
    return next(base for base in _bases if all(is_free(base + use) for use in uses))
