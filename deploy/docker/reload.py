#!/opt/venv/bin/python
"""Entry point of the development image: runs the service, and again whenever its files change.

skaffold copies changed files into the running container; polling sees them on any file system.
"""

import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

POLL_S = 0.5
STOP_S = 10.0


def newest(folder: Path) -> float:
    """Return when a file of ours was last written."""
    files = (path for path in folder.glob("slipway*/**/*") if path.suffix in (".py", ".sql", ".json"))
    return max((path.stat().st_mtime for path in files), default=0.0)


def stop(child: "subprocess.Popen[bytes]") -> int:
    """End the service: politely, then not."""
    child.terminate()
    try:
        return child.wait(STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()


def main() -> None:
    """Run until SIGTERM; a service that ends by itself waits for the next change."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    site = Path(sysconfig.get_paths()["purelib"])
    while True:
        seen = newest(site)
        child = subprocess.Popen([sys.executable, "/opt/venv/bin/service", *sys.argv[1:]])
        try:
            while newest(site) == seen:
                time.sleep(POLL_S)
            print("files changed; starting again", flush=True)
        finally:
            stop(child)


if __name__ == "__main__":
    main()
