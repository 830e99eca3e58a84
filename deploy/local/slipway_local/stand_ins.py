"""Folders below /var/tmp that stand in for folders which a server's account cannot enter.

A stand-in has a name of its own, and the link at the folder that it stands in for is all that ties the two:
whoever removes the link, as with all of `.slipway`, has let go of the data, and a new `.slipway` at the same
path gets a new stand-in. A record beside the data says whose they are: so a copied link is told from a moved
one, and data that no link leads to are found.

Nothing here removes data. A `.slipway` that was moved away still owns what it links to and cannot be seen
from here, so only people can say that data are of no more use.
"""

import json
import logging
import os
import stat
import tempfile
from pathlib import Path

log = logging.getLogger(__name__)

REACHABLE = Path("/var/tmp")
_PREFIX = "slipway-state-"
_RECORD = "stands-in-for.json"


class StateError(Exception):
    """The data of a folder cannot be used; the text says why, and what to do."""


def make(folder: Path) -> Path:
    """Make a stand-in for a folder that is not there, with a link to it; return where the data go."""
    folder = _absolute(folder)
    for old in without_a_link(folder):
        log.warning("%s", told(old))
    stand_in = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=REACHABLE.resolve()))
    stand_in.chmod(0o755)
    _record(stand_in, folder)
    data = stand_in / folder.name
    data.mkdir(mode=0o700)
    folder.symlink_to(data)  # last: what is cut short before has no link, and is told of as such
    return data


def behind(folder: Path) -> Path:
    """Return the data that a link leads to; a link that was moved here makes them its own.

    Raises:
        StateError: The data are gone or another account's, or the link is a copy of one that is still there.
    """
    folder, data = _absolute(folder), folder.resolve()
    if not data.is_dir():
        raise gone(folder)
    stand_in = data.parent
    if not _is_stand_in(stand_in):
        return data  # a link that somebody made by hand
    if not _is_ours(stand_in):
        raise StateError(
            f"{stand_in}, which {folder} links to, is another account's; start the platform as that"
        )
    owner = _owner(stand_in)
    if owner is not None and owner != folder and owner.is_symlink() and owner.resolve() == data:
        raise StateError(
            f"{folder} is a copy: its data, {data}, belong to the platform in {owner.parent}, and two cannot "
            f"share them: remove {folder.parent} and start anew, or remove {owner.parent} to use this one"
        )
    if owner != folder:
        _record(stand_in, folder)
    return data


def gone(folder: Path) -> StateError:
    """Return what to say of a link whose data are gone, or emptied: never that all is new."""
    state = folder.parent
    return StateError(
        f"the data that {folder} links to are gone: {os.readlink(folder)}. Put them back there; if they are "
        f"lost, what else {state} holds is of no use without them: start anew with `slipway down; "
        f"rm -rf {state}; slipway up`"
    )


def without_a_link(folder: Path | None = None) -> list[Path]:
    """Return stand-ins that the folder they were made for does not lead to: of one folder, or of all."""
    found = []
    for stand_in in sorted(REACHABLE.resolve().glob(f"{_PREFIX}*")):
        owner = _owner(stand_in) if _is_ours(stand_in) else None
        if owner is None or (folder is not None and owner != _absolute(folder)):
            continue
        if not owner.is_symlink() or owner.resolve().parent != stand_in:
            found.append(stand_in)
    return found


def told(stand_in: Path) -> str:
    """Return what to say of a stand-in that no link leads to."""
    owner = _owner(stand_in)
    whose = owner.parent if owner is not None else "a .slipway"
    return (
        f"{stand_in} ({_size(stand_in) / 1e6:.0f} MB) holds data of an earlier {whose} that no link from "
        f"there leads to; if that was removed, and not moved elsewhere: rm -rf {stand_in}"
    )


def _absolute(folder: Path) -> Path:
    """Return the folder's path without links above it; itself it may be one."""
    return folder.parent.resolve() / folder.name


def _is_stand_in(path: Path) -> bool:
    return path.parent == REACHABLE.resolve() and path.name.startswith(_PREFIX)


def _is_ours(stand_in: Path) -> bool:
    """Say whether we made it: anybody may write into /var/tmp."""
    try:
        status = stand_in.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def _record(stand_in: Path, folder: Path) -> None:
    beside = stand_in / f".{_RECORD}.new"
    beside.write_text(json.dumps({"folder": str(folder)}))
    os.replace(beside, stand_in / _RECORD)


def _owner(stand_in: Path) -> Path | None:
    try:
        return Path(json.loads((stand_in / _RECORD).read_text())["folder"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _size(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512
            except FileNotFoundError:
                continue
    return total
