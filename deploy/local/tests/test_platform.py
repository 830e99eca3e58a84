"""The platform from outside, with its real servers."""

import json
import os
import shutil
import signal
import socket
import stat
import time
from dataclasses import replace
from pathlib import Path

import jwt
import psutil
import psycopg
import pytest
from slipway_local import leftovers, platform
from slipway_local.account import reachable_state, unprivileged
from slipway_local.credentials import passwords, write_keys_and_tokens
from slipway_local.doctor import examine
from slipway_local.layout import SERVICES, Layout
from slipway_local.programs import chosen, postgres, programs
from slipway_local.restarts import restart

pytestmark = pytest.mark.xdist_group("platform-servers")

SERVERS = ("postgres", "valkey-queues", "valkey-online", "s3")


def quiet(status: object) -> None:
    """Show no progress."""


def up(layout: Layout, *only: str) -> platform.Started:
    """Start servers."""
    return platform.up(layout, only=only or SERVERS, within_s=180, report=quiet)


def write(layout: Layout, text: str) -> list[str]:
    """Add a line to a table; return all lines."""
    url = postgres(layout, passwords(layout)).url().replace("postgresql+psycopg", "postgresql")
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS line (text text)")
        connection.execute("INSERT INTO line VALUES (%s)", (text,))
        return [row[0] for row in connection.execute("SELECT text FROM line ORDER BY text")]


def test_up_is_idempotent_and_down_leaves_no_process(started: Layout) -> None:
    first = up(started)
    second = up(started)
    pids = [process["pid"] for process in first.status["processes"]]

    platform.down(started)

    assert (first.already, second.already) == (False, True)
    assert second.status["pid"] == first.status["pid"]
    assert leftovers.find(started) == []
    assert not any(psutil.pid_exists(pid) for pid in [*pids, first.status["pid"]])


def test_down_without_a_platform_is_fine(layout: Layout) -> None:
    assert platform.down(layout) == []


def test_data_are_kept_over_a_restart_and_over_the_supervisors_death(started: Layout) -> None:
    up(started, "postgres")
    write(started, "before the restart")
    platform.down(started)
    up(started, "postgres")
    write(started, "before the kill")
    supervisor = psutil.Process(platform.status(started)["pid"])
    supervisor.kill()
    supervisor.wait(60)

    up(started, "postgres")

    assert write(started, "then") == ["before the kill", "before the restart", "then"]


def test_an_initdb_that_was_cut_short_is_begun_again(started: Layout) -> None:
    (started.state / ".pg-initialising").touch()
    data = reachable_state(unprivileged(), started.folder("pg"))
    (data / "PG_VERSION").write_text("18\n")

    up(started, "postgres")

    assert write(started, "after all") == ["after all"]


def test_a_state_folder_that_was_removed_begins_anew_and_the_old_data_are_named(started: Layout) -> None:
    up(started, "postgres")
    write(started, "before")
    old = started.folder("pg").resolve()
    platform.down(started)
    shutil.rmtree(started.state)

    again = up(started, "postgres")

    assert write(started, "after") == ["after"]
    assert old.exists() == (unprivileged() is not None)
    assert [str(old.parent) in text for text in again.left_over] == [True] * len(again.left_over)
    assert len(again.left_over) == old.exists()


def test_a_state_folder_that_is_removed_ends_its_platform_and_the_next_one_starts(started: Layout) -> None:
    before = up(started, "valkey-queues").status
    processes = [psutil.Process(pid) for pid in (before["pid"], before["processes"][0]["pid"])]
    shutil.rmtree(started.state)

    after = up(started, "valkey-queues")

    assert (after.already, after.status["phase"]) == (False, "ready")
    assert psutil.wait_procs(processes, timeout=60)[1] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only as root do data lie outside")
def test_data_outside_that_are_gone_are_named_before_anything_starts(started: Layout) -> None:
    up(started, "postgres")
    platform.down(started)
    data = started.folder("pg").resolve()
    aside = data.with_name("aside")
    data.rename(aside)

    with pytest.raises(platform.PlatformError, match=f"are gone: {data}") as caught:
        up(started, "postgres")
    finding = {finding.name: finding for finding in examine(started)}["data"]
    aside.rename(data)
    up(started, "postgres")

    assert "rm -rf" in str(caught.value)
    assert (finding.ok, finding.says) == (False, str(caught.value))
    assert write(started, "still") == ["still"]


def test_killing_the_supervisor_leaves_no_orphan(started: Layout) -> None:
    status = up(started).status
    marked = leftovers.find(started)

    os.kill(status["pid"], signal.SIGKILL)
    _, alive = psutil.wait_procs(marked, timeout=60)

    assert len(marked) >= len(SERVERS)
    assert alive == []
    assert leftovers.find(started) == []


def test_a_killed_server_comes_back(started: Layout) -> None:
    status = up(started, "postgres").status
    os.kill(status["processes"][0]["pid"], signal.SIGKILL)
    stop_at = time.monotonic() + 120

    while not (found := platform.status(started)["processes"][0])["restarts"] or found["state"] != "ready":
        assert time.monotonic() < stop_at
        time.sleep(0.1)

    assert write(started, "again") == ["again"]


def test_restarted_servers_are_ready_again_with_their_data_and_nothing_else_is_touched(
    started: Layout,
) -> None:
    before = {one["name"]: one for one in up(started, "postgres", "valkey-queues", "s3").status["processes"]}
    write(started, "before")
    told: list[str] = []

    done = restart(
        started,
        ["postgres", "valkey-queues"],
        report=lambda status: told.extend(one["name"] for one in status["processes"]),
    )

    after = {one["name"]: one for one in platform.status(started)["processes"]}
    assert write(started, "then") == ["before", "then"]
    assert {one["name"]: one["state"] for one in done.processes} == {
        "postgres": "ready",
        "valkey-queues": "ready",
    }
    assert {name for name in after if after[name]["pid"] != before[name]["pid"]} == set(told)
    assert {one["restarts"] for one in after.values()} == {0}
    assert list(started.restarts.iterdir()) == []


def test_a_restart_of_an_unknown_process_names_the_known_ones(started: Layout) -> None:
    with pytest.raises(platform.NotRunning, match="start it with `slipway up`"):
        restart(started, ["valkey-queues"])
    before = up(started, "valkey-queues").status

    with pytest.raises(platform.UnknownProgram, match="no process 'registri'; processes: valkey-queues"):
        restart(started, ["valkey-queues", "registri"])

    assert platform.status(started)["processes"][0]["pid"] == before["processes"][0]["pid"]


def test_a_supervisor_that_takes_no_request_is_named(started: Layout) -> None:
    status = up(started, "valkey-queues").status
    supervisor = psutil.Process(status["pid"])
    supervisor.suspend()
    try:
        with pytest.raises(
            platform.PlatformError, match=f"process {status['pid']}. does not take the request"
        ):
            restart(started, ["valkey-queues"], within_s=1)
    finally:
        supervisor.resume()

    assert list(started.restarts.iterdir()) == []


def test_a_busy_port_is_named_with_its_holder_before_anything_starts(started: Layout) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", started.postgres))
        other.listen()

        with pytest.raises(platform.PortTaken) as caught:
            up(started)

    assert f"port {started.postgres} (postgres)" in str(caught.value)
    assert str(os.getpid()) in str(caught.value)
    assert not platform.supervisor_runs(started)


def test_two_platforms_run_side_by_side(started: Layout, tmp_path: Path) -> None:
    other = replace(started, state=tmp_path / "other", port_base=started.port_base + 80)
    try:
        up(started, "valkey-queues")
        up(other, "valkey-queues")

        pids = {platform.status(one)["processes"][0]["pid"] for one in (started, other)}

        platform.down(started)
        assert len(pids) == 2
        assert platform.status(other)["phase"] == "ready"
    finally:
        platform.down(other)


def test_a_running_platform_is_not_started_again_at_another_port(started: Layout) -> None:
    up(started, "valkey-queues")

    with pytest.raises(platform.OtherPlatform, match=str(started.port_base)):
        up(replace(started, port_base=started.port_base + 80), "valkey-queues")


def test_secrets_are_made_once_and_are_ours_alone(layout: Layout) -> None:
    write_keys_and_tokens(layout)
    first = layout.admin_token.read_text(), passwords(layout)
    write_keys_and_tokens(layout)

    assert (layout.admin_token.read_text(), passwords(layout)) == first
    for path in (layout.admin_token, *layout.keys.iterdir(), *layout.tokens.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_services_token_is_good_by_the_platforms_keys(layout: Layout) -> None:
    write_keys_and_tokens(layout)
    keys = {key["kid"]: jwt.PyJWK(key) for key in json.loads(layout.jwks.read_text())["keys"]}

    for service in SERVICES:
        token = (layout.tokens / service).read_text()
        claims = jwt.decode(token, keys["platform"], algorithms=["EdDSA"], audience="slipway")
        assert claims["sub"] == f"system:serviceaccount:slipway:{service}"
    assert set(keys) == {"gateway", "platform"}


def test_programs_are_chosen_with_what_they_need(layout: Layout) -> None:
    everything = programs(layout, passwords(layout), lambda: pytest.fail("is not run"))

    assert {program.name for program in chosen(everything, ["ingestion"])} == {
        "ingestion",
        "databases",
        "postgres",
        "s3",
    }
    with pytest.raises(ValueError, match="there is no program 'postgress'; programs: postgres"):
        chosen(everything, ["postgress"])


def test_an_unknown_program_is_refused_before_anything_starts(layout: Layout) -> None:
    with pytest.raises(platform.UnknownProgram, match="no program 'postgress'; programs: postgres"):
        up(layout, "postgress")

    assert not layout.status.exists()


def test_no_two_programs_share_a_port(layout: Layout) -> None:
    pods = [port for slot in range(layout.pod_slots) for port in layout.pod_ports(slot)]

    assert not set(platform.uses(layout)) & set(pods)
    assert len(set(pods)) == len(pods)
    assert max(pods) < layout.port_base + 200


def test_doctor_names_a_busy_port_and_its_remedy(layout: Layout) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", layout.s3))
        other.listen()

        findings = {finding.name: finding for finding in examine(layout)}

    assert not findings["ports"].ok
    assert f"port {layout.s3} (s3)" in findings["ports"].says
    assert "--port-base" in findings["ports"].remedy
    assert findings["python"].ok
