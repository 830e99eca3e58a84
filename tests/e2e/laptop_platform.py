"""A platform that a test runs in a folder of its own."""

import json
import secrets
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Platform:
    """A platform that runs in a folder."""

    folder: Path
    port_base: int

    def slipway(self, *arguments: str, check: bool = True) -> Any:
        """Run the command line in the platform's folder; return what it prints with --json."""
        command = [sys.executable, "-m", "slipway.cli.main", *arguments, "--json"]
        result = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, timeout=300, check=False
        )
        if check and result.returncode != 0:
            raise AssertionError(
                f"{arguments} ended with {result.returncode}:\n{result.stdout}{result.stderr}"
            )
        return json.loads(result.stdout) if result.stdout.strip() else {}


def free_port_base() -> int:
    """Return a base of 200 free ports whose sums with 10000 are ports, too."""
    while True:
        base = 30_000 + 200 * secrets.randbelow(10)
        if all(_free(port) for port in (*range(base, base + 160), base + 10_008)):
            return base


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
