"""What the console script calls: Ctrl-C is heeded while the commands are still imported."""

import os
import signal
from typing import NoReturn


def main() -> None:
    """Import the commands and run the one asked for."""
    before = signal.signal(signal.SIGINT, _stopped)
    from slipway.cli.main import app

    signal.signal(signal.SIGINT, before)
    app()


def _stopped(*_: object) -> NoReturn:
    # No exception: libraries catch some of those in their imports. Nothing has begun that could be undone.
    os.write(2, b"stopped\n")
    os._exit(130)
