"""`python -m tests.cluster.checks`: prints every finding, and fails when there is one."""

import sys
from pathlib import Path

from .everything import OVERLAYS, findings


def main() -> int:
    """Check the repository that this file is in."""
    root = Path(__file__).resolve().parents[3]
    found = [(overlay, finding) for overlay in OVERLAYS for finding in findings(root, overlay)]
    for overlay, finding in found:
        print(f"overlays/{overlay}: {finding}")
    print(f"{len(found)} findings in the overlays {', '.join(OVERLAYS)}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
