"""As root, servers run as somebody who can reach their programs and data."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from slipway_local.account import Account, can_enter, reachable_program, reachable_state, unprivileged

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to change the account")


@pytest.fixture
def account() -> Account:
    """Return who servers run as."""
    found = unprivileged()
    assert found is not None
    return found


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """Return a folder that only root may enter; what was made elsewhere for it is removed."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o700)
    yield folder
    for link in folder.iterdir():
        if link.is_symlink():
            shutil.rmtree(link.resolve(), ignore_errors=True)


def test_data_below_a_closed_folder_lie_where_the_account_can_enter(account: Account, closed: Path) -> None:
    data = reachable_state(account, closed / "pg")

    assert not can_enter(account, closed)
    assert can_enter(account, data)
    assert data.stat().st_uid == account.uid
    assert (closed / "pg").resolve() == data


def test_the_same_folder_finds_the_same_data_again(account: Account, closed: Path) -> None:
    first = reachable_state(account, closed / "pg")
    (first / "row").touch()

    again = reachable_state(account, closed / "pg")

    assert (again / "row").exists()
    assert reachable_state(account, closed / "other") != first
    shutil.rmtree((closed / "other").resolve())


def test_a_program_below_a_closed_folder_is_copied_and_renewed(account: Account, closed: Path) -> None:
    program = closed / "install" / "bin" / "serve"
    program.parent.mkdir(parents=True)
    program.write_text("one")

    first = reachable_program(account, closed / "install")
    before = (first / "bin" / "serve").read_text()
    program.unlink()
    program.write_text("two")
    os.utime(program.parent, ns=(1, 1))
    second = reachable_program(account, closed / "install")

    assert can_enter(account, first / "bin")
    assert (before, (second / "bin" / "serve").read_text()) == ("one", "two")
    shutil.rmtree(first)
