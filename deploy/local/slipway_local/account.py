"""Which account the servers run as, and folders that it can reach.

PostgreSQL refuses to run as root. As root we start it as an unprivileged account, and give it a copy of
its binaries and a state folder that this account can enter when ours lie below a closed folder.
"""

import hashlib
import os
import pwd
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from slipway_local import stand_ins
from slipway_local.stand_ins import REACHABLE, StateError


@dataclass(frozen=True)
class Account:
    """An account by id; `name` is for people."""

    name: str
    uid: int
    gid: int


def unprivileged() -> Account | None:
    """Return the account for servers that refuse root, or None when we are not root."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam("nobody")
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def can_enter(account: Account, path: Path) -> bool:
    """Say whether the account may pass every folder down to `path` and read there."""
    for folder in [*reversed(path.resolve().parents), path.resolve()]:
        status = folder.stat()
        bits = status.st_mode & 0o7
        if status.st_uid == account.uid:
            bits |= (status.st_mode >> 6) & 0o7
        if status.st_gid == account.gid:
            bits |= (status.st_mode >> 3) & 0o7
        if not bits & 0o1:
            return False
    return True


def reachable_state(account: Account | None, folder: Path) -> Path:
    """Return a data folder for the account: `folder`, or a stand-in below /var/tmp that it can enter.

    A link from `folder` leads to the stand-in; while it is there, the same data are found again.

    Raises:
        StateError: There are data, but they cannot be used; new ones would hide that.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.is_symlink():
        target = stand_ins.behind(folder)
        if target.is_relative_to(REACHABLE.resolve()):
            _check_owner(target)
    elif account is None or can_enter(account, folder.parent):
        folder.mkdir(mode=0o700, exist_ok=True)
        target = folder
    else:
        if folder.exists():
            _remove_empty(account, folder)
        target = stand_ins.make(folder)
    if account is not None:
        os.chown(target, account.uid, account.gid)
        target.chmod(0o700)
    return target


def reachable_program(account: Account | None, install: Path) -> Path:
    """Return a copy of an installed program that the account can run, or the program itself.

    Libraries that a wheel keeps beside its package (`{package}.libs`) come along. A copy appears whole, by
    rename, under a name of its own per edition, so that several starts at once do not disturb each other.
    """
    if account is None or can_enter(account, install / "bin"):
        return install
    package = install.parent
    edition = hashlib.sha256(f"{install.resolve()} {(install / 'bin').stat().st_mtime_ns}".encode())
    target = REACHABLE / f"slipway-bin-{edition.hexdigest()[:12]}"
    if not target.exists():
        beside = Path(tempfile.mkdtemp(prefix=".slipway-bin-", dir=REACHABLE))
        shutil.copytree(install, beside / package.name / install.name, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, beside / libraries.name)
        beside.chmod(0o755)
        try:
            beside.rename(target)
        except OSError:  # another start was faster
            shutil.rmtree(beside)
    _check_owner(target)
    return target / package.name / install.name


def _remove_empty(account: Account, folder: Path) -> None:
    """Make way for a link; data that lie here since the account could still enter are not hidden by one."""
    try:
        folder.rmdir()
    except OSError:
        raise StateError(
            f"{folder} holds data, and the account {account.name} can no longer enter {folder.parent}: let "
            "it pass again (chmod o+x on that folder and those above it)"
        ) from None


def _check_owner(target: Path) -> None:
    if target.stat().st_uid not in (os.geteuid(), unprivileged().uid if unprivileged() else -1):  # type: ignore[union-attr]
        raise PermissionError(f"{target} belongs to somebody else; remove it and try again")
