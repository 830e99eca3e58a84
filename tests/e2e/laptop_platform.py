"""A platform that a test runs in a folder of its own."""

import json
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

    @property
    def state(self) -> Path:
        """Its state folder."""
        return self.folder / ".slipway"

    def slipway(self, *arguments: str, check: bool = True) -> Any:
        """Run the command line in the platform's folder; return what it prints with --json."""
        command = [sys.executable, "-m", "slipway.cli.main", *arguments, "--json"]
        result = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, timeout=600, check=False
        )
        if check and result.returncode != 0:
            raise AssertionError(
                f"{arguments} ended with {result.returncode}:\n{result.stdout}{result.stderr}"
            )
        return json.loads(result.stdout) if result.stdout.strip() else {}
