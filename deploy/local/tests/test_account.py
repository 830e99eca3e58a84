"""As root, servers run as somebody who can reach their programs and data."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from slipway_local import stand_ins
from slipway_local.account import Account, can_enter, reachable_program, reachable_state, unprivileged
from slipway_local.stand_ins import StateError

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
    folders = [link for link in tmp_path.rglob("*") if link.is_symlink()]
    shutil.rmtree(tmp_path)
    for link in [*folders, folder / "pg"]:
        for stand_in in stand_ins.without_a_link(link):
            shutil.rmtree(stand_in)


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


def test_who_removes_the_folder_begins_with_new_data_and_the_old_ones_are_told_of(
    account: Account, closed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = reachable_state(account, closed / "pg")
    (first / "row").touch()
    (closed / "pg").unlink()

    again = reachable_state(account, closed / "pg")

    assert list(again.iterdir()) == []
    assert (first / "row").exists()
    assert stand_ins.without_a_link(closed / "pg") == [first.parent]
    assert f"rm -rf {first.parent}" in caplog.text


def test_a_folder_that_was_moved_keeps_its_data_and_one_at_its_old_place_does_not_get_them(
    account: Account, closed: Path
) -> None:
    first = reachable_state(account, closed / "a" / "pg")
    (closed / "a").rename(closed / "b")

    new = reachable_state(account, closed / "a" / "pg")

    assert new != first
    assert reachable_state(account, closed / "b" / "pg") == first
    assert stand_ins.without_a_link(closed / "a" / "pg") == []


def test_a_copy_of_a_folder_that_is_still_there_does_not_get_its_data(account: Account, closed: Path) -> None:
    first = reachable_state(account, closed / "a" / "pg")
    shutil.copytree(closed / "a", closed / "copy", symlinks=True)

    with pytest.raises(StateError, match=f"belong to the platform in {closed / 'a'}"):
        reachable_state(account, closed / "copy" / "pg")
    shutil.rmtree(closed / "a")

    assert reachable_state(account, closed / "copy" / "pg") == first


def test_data_that_are_gone_are_not_begun_anew(account: Account, closed: Path) -> None:
    shutil.rmtree(reachable_state(account, closed / "pg"))

    with pytest.raises(StateError, match=r"are gone: /var/tmp/slipway-state-\w+/pg\. Put them back there"):
        reachable_state(account, closed / "pg")


def test_data_that_lie_in_place_are_not_hidden_when_the_folder_is_closed(
    account: Account, closed: Path
) -> None:
    (closed / "pg").mkdir()
    (closed / "pg" / "PG_VERSION").write_text("18\n")

    with pytest.raises(StateError, match="holds data, and the account nobody can no longer enter"):
        reachable_state(account, closed / "pg")


def test_what_somebody_else_put_below_var_tmp_is_not_taken_for_ours(account: Account, closed: Path) -> None:
    data = reachable_state(account, closed / "pg")
    os.chown(data.parent, account.uid, account.gid)

    with pytest.raises(StateError, match="is another account's"):
        reachable_state(account, closed / "pg")
    os.chown(data.parent, 0, 0)


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
