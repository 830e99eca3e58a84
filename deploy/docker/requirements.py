"""Prints what a service and our libraries under it need from a package index, one requirement a line.

The image installs these before any of our own code is copied, so that a change of code leaves that layer
alone. Run from the repository's root: `requirements.py SERVICE [EXTRA,EXTRA]`.
"""

import re
import sys
import tomllib
from pathlib import Path

_HOMES = {"slipway-protos": "libs/protos", "slipway-runtime": "libs/runtime", "slipway": "libs/slipway"}
_NAME = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[(?P<extras>[^]]*)\])?")


def closure(folder: str, extras: list[str]) -> tuple[set[str], set[str]]:
    """Return the third-party requirements of the package in a folder, and the folders it is made of."""
    project = tomllib.loads(Path(folder, "pyproject.toml").read_text())["project"]
    listed = list(project.get("dependencies", []))
    for extra in extras:
        listed += project.get("optional-dependencies", {}).get(extra, [])
    needed, folders = set(), {folder}
    for requirement in listed:
        match = _NAME.match(requirement)
        home = _HOMES.get(match["name"].lower()) if match else None
        if match is None or home is None:
            needed.add(requirement)
        else:
            more, under = closure(home, re.findall(r"[\w.-]+", match["extras"] or ""))
            needed |= more
            folders |= under
    return needed, folders


def main() -> None:
    """Print the requirements, or with `--folders` the packages of our own."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--folders"]
    extras = [extra for extra in (arguments[1] if len(arguments) > 1 else "").split(",") if extra]
    needed, folders = closure(f"services/{arguments[0]}", extras)
    print("\n".join(sorted(folders if "--folders" in sys.argv else needed)))


if __name__ == "__main__":
    main()
