"""The supervisor's process: `python -m slipway_local.daemon --state DIR --port-base N [--only NAMES]`."""

import argparse
import fcntl
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")  # our forks only exec

from slipway_local.credentials import passwords, write_keys_and_tokens
from slipway_local.layout import DEFAULT_PORT_BASE, Layout
from slipway_local.programs import chosen, programs
from slipway_local.servers import Server
from slipway_local.supervisor import Supervisor

log = logging.getLogger(__name__)


class Locked(Exception):
    """Another supervisor has this state folder."""


def take_lock(layout: Layout) -> int:
    """Take and return the descriptor that keeps the state folder ours as long as we live.

    Raises:
        Locked: Another process holds it.
    """
    descriptor = os.open(layout.lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Locked(f"another supervisor runs on {layout.state}") from None
    return descriptor


def assemble(layout: Layout, only: Sequence[str]) -> Supervisor:
    """Return the supervisor of what was asked for."""
    secrets = passwords(layout)
    write_keys_and_tokens(layout)

    def envoy() -> Server:
        return control.mesh.prepare()

    wanted = chosen(programs(layout, secrets, envoy), only)
    if not any(program.name == "envoy" for program in wanted):
        return Supervisor(layout=layout, programs=wanted)
    from slipway_local.control import (
        Control,  # hundreds of milliseconds that a platform without mesh need not spend
    )

    control = Control(layout)
    return Supervisor(layout=layout, programs=wanted, companions=[control.pods, control])


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--port-base", type=int, default=DEFAULT_PORT_BASE)
    parser.add_argument("--only", default="", help="names of programs, separated by commas")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    layout = Layout(arguments.state.resolve(), arguments.port_base)
    layout.make_folders()
    try:
        lock = take_lock(
            layout
        )  # kept until the kernel closes it: whoever sees it free knows that we are gone
    except Locked as error:
        sys.exit(str(error))
    asked = [False]
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.__setitem__(0, True))

    def stopping() -> bool:
        _end_without_folder(layout, lock)
        return asked[0]

    assemble(layout, [name for name in arguments.only.split(",") if name]).run(stopping)


def _end_without_folder(layout: Layout, lock: int) -> None:
    """End at once, and with us all processes, when the state folder was removed; the next `up` makes it."""
    if os.fstat(lock).st_nlink == 0:
        log.error("%s was removed; the platform ends", layout.state)
        os._exit(1)


if __name__ == "__main__":
    main()
