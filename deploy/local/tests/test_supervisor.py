"""The supervisor, with programs of a few lines."""

import itertools
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest
from slipway_local import processes
from slipway_local.layout import Layout
from slipway_local.processes import Program, State
from slipway_local.servers import Server
from slipway_local.supervisor import Supervisor

FOREVER = "import time\nwhile True: time.sleep(60)"


def script(
    name: str,
    code: str,
    *,
    ready: Callable[[], bool] = lambda: True,
    after: Sequence[str] = (),
    once: bool = False,
    stop_within_s: float = 60.0,
) -> Program:
    """Return a program that is a few lines of Python."""
    command = (sys.executable, "-S", "-c", code)
    server = Server(name, command, (), ready, stop_within_s=stop_within_s)
    return Program(name, lambda: server, after=tuple(after), once=once)


class Turning:
    """Turns a supervisor's loop in the test's own thread until a condition holds."""

    def __init__(self, layout: Layout, programs: Sequence[Program]) -> None:
        self.supervisor = Supervisor(layout=layout, programs=programs)

    def until(self, condition: Callable[[], bool], within_s: float = 90.0) -> None:
        """Run the loop until the condition holds, or fail after a while."""
        late = threading.Event()
        timer = threading.Timer(within_s, late.set)
        timer.start()
        done = [False]

        def stopping() -> bool:
            done[0] = condition()
            return done[0] or late.is_set()

        try:
            self.supervisor.turn_until(stopping)
        finally:
            timer.cancel()
        assert done[0], {name: (p.state, p.trouble) for name, p in self.supervisor.processes.items()}


@pytest.fixture
def turning(layout: Layout) -> Iterator[Callable[..., Turning]]:
    """Return a maker of supervisors that are stopped after the test."""
    made: list[Turning] = []

    def make(*programs: Program) -> Turning:
        made.append(Turning(layout, programs))
        return made[-1]

    yield make
    for one in made:
        one.supervisor.stop()


Make = Callable[..., Turning]


def test_a_program_starts_when_what_it_comes_after_is_ready(turning: Make, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    first = script("first", FOREVER, ready=flag.exists)
    loop = turning(first, script("second", FOREVER, after=["first"]))
    second = loop.supervisor.processes["second"]

    loop.until(lambda: loop.supervisor.processes["first"].state is State.STARTING)
    was_waiting = second.state is State.WAITING
    flag.touch()
    loop.until(lambda: second.state is State.READY)

    assert was_waiting


def test_a_step_that_runs_once_is_done_when_it_ends_well(turning: Make) -> None:
    loop = turning(script("step", "", once=True), script("after", FOREVER, after=["step"]))

    loop.until(lambda: loop.supervisor.ready("after"))

    assert loop.supervisor.processes["step"].state is State.DONE


def test_a_program_that_ends_is_started_again_with_growing_pauses(turning: Make, tmp_path: Path) -> None:
    journal = tmp_path / "starts"
    code = f"import time\nopen({str(journal)!r}, 'a').write(f'{{time.monotonic()}}\\n')"
    loop = turning(script("weak", code))

    loop.until(lambda: loop.supervisor.processes["weak"].restarts >= 4)

    starts = [float(line) for line in journal.read_text().split()]
    pauses = [b - a for a, b in itertools.pairwise(starts)]
    assert [pause >= 0.25 * 2**n for n, pause in enumerate(pauses[:3])] == [True] * 3


def test_a_killed_program_comes_back_under_another_id(turning: Make) -> None:
    loop = turning(script("weak", FOREVER))
    weak = loop.supervisor.processes["weak"]
    loop.until(lambda: weak.state is State.READY)
    before = weak.pid

    os.kill(before, signal.SIGKILL)
    loop.until(lambda: weak.restarts == 1 and weak.state is State.READY)

    assert weak.pid not in (0, before)


def test_a_program_that_ignores_sigterm_is_killed(turning: Make, tmp_path: Path) -> None:
    deaf = tmp_path / "deaf"
    code = f"import signal\nsignal.signal(15, signal.SIG_IGN)\nopen({str(deaf)!r}, 'w')\n{FOREVER}"
    loop = turning(script("deaf", code, ready=deaf.exists, stop_within_s=0.5))
    process = loop.supervisor.processes["deaf"]
    loop.until(lambda: process.state is State.READY)
    pid = process.pid

    loop.supervisor.stop()

    assert not psutil.pid_exists(pid)


def test_programs_stop_in_the_reverse_of_their_order(turning: Make, tmp_path: Path) -> None:
    journal = tmp_path / "ends"
    journal.touch()

    def code(name: str) -> str:
        up = tmp_path / name
        return (
            "import signal, sys, time\n"
            f"def end(*_):\n time.sleep(0.3); open({str(journal)!r}, 'a').write('{name}\\n'); sys.exit()\n"
            f"signal.signal(15, end)\nopen({str(up)!r}, 'w')\n{FOREVER}"
        )

    first = script("first", code("first"), ready=(tmp_path / "first").exists)
    step = script("step", "", once=True, after=["first"])
    second = script("second", code("second"), ready=(tmp_path / "second").exists, after=["step"])
    loop = turning(first, step, second)
    loop.until(lambda: loop.supervisor.ready("second"))

    loop.supervisor.stop()

    assert journal.read_text().split() == ["second", "first"]


def test_the_status_names_each_program_with_its_state(turning: Make, layout: Layout) -> None:
    loop = turning(script("one", FOREVER))

    loop.until(lambda: loop.supervisor.ready("one"))
    loop.until(lambda: json.loads(layout.status.read_text())["phase"] == "ready")

    (one,) = json.loads(layout.status.read_text())["processes"]
    assert (one["name"], one["state"], one["restarts"]) == ("one", "ready", 0)
    assert psutil.Process(one["pid"]).is_running()


def ask(layout: Layout, *names: str) -> None:
    """Ask for restarts as one who is outside does."""
    for name in names:
        (layout.restarts / f"{name}.1").touch()


def journalling(journal: Path, name: str, ends_after: str = "") -> str:
    """Return the code of a program that writes down its start, and its end: after another's, if named."""
    wanted = f"end {ends_after}\n" if ends_after else ""
    return (
        "import signal, sys, time\n"
        f"def say(what): open({str(journal)!r}, 'a').write(f'{{what}} {name}\\n')\n"
        f"def may_end(): return {wanted!r} in open({str(journal)!r}).read()\n"
        "def end(*_):\n while not may_end(): time.sleep(0.02)\n say('end'); sys.exit(3)\n"
        f"signal.signal(15, end)\nsay('start')\n{FOREVER}"
    )


def test_a_program_that_is_asked_to_restart_ends_in_order_and_it_is_no_crash(
    turning: Make, layout: Layout, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    loop = turning(script("one", journalling(journal, "one"), ready=journal.exists))
    one = loop.supervisor.processes["one"]
    loop.until(lambda: one.state is State.READY)
    before = one.pid

    ask(layout, "one")
    loop.until(lambda: one.restarts_asked == 1 and one.state is State.READY)
    loop.until(lambda: len(journal.read_text().splitlines()) == 3)

    assert journal.read_text().splitlines() == ["start one", "end one", "start one"]
    assert (one.restarts, one.pid != before, list(layout.restarts.iterdir())) == (0, True, [])


def test_a_program_that_pauses_after_crashes_is_started_at_once_when_asked(
    turning: Make, layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_FIRST_PAUSE_S", 3600.0)
    flag = tmp_path / "flag"
    code = f"import os, sys\nif not os.path.exists({str(flag)!r}): sys.exit(1)\n{FOREVER}"
    loop = turning(script("weak", code, ready=flag.exists))
    weak = loop.supervisor.processes["weak"]
    loop.until(lambda: weak.restarts == 1 and weak.state is State.BACKOFF)

    flag.touch()
    ask(layout, "weak")
    loop.until(lambda: weak.state is State.READY)

    assert (weak.restarts, weak.trouble) == (1, "")


def test_a_program_that_does_not_end_when_asked_to_restart_is_killed_and_started(
    turning: Make, layout: Layout, tmp_path: Path
) -> None:
    deaf = tmp_path / "deaf"
    code = f"import signal\nsignal.signal(15, signal.SIG_IGN)\nopen({str(deaf)!r}, 'w')\n{FOREVER}"
    loop = turning(script("deaf", code, ready=deaf.exists, stop_within_s=0.5))
    process = loop.supervisor.processes["deaf"]
    loop.until(lambda: process.state is State.READY)
    before = process.pid

    ask(layout, "deaf")
    loop.until(lambda: process.restarts_asked == 1 and process.state is State.READY)

    assert (process.pid != before, process.restarts) == (True, 0)


def test_a_restart_leaves_who_comes_after_it_alone(turning: Make, layout: Layout) -> None:
    loop = turning(script("first", FOREVER), script("second", FOREVER, after=["first"]))
    first, second = (loop.supervisor.processes[name] for name in ("first", "second"))
    loop.until(lambda: second.state is State.READY)
    before = first.pid, second.pid

    ask(layout, "first")
    loop.until(lambda: first.restarts_asked == 1 and first.state is State.READY)

    assert first.pid != before[0]
    assert (second.pid, second.state) == (before[1], State.READY)


def test_programs_that_are_restarted_together_stop_and_start_in_their_order(
    turning: Make, layout: Layout, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"

    def started(name: str) -> Callable[[], bool]:
        return lambda: journal.exists() and f"start {name}" in journal.read_text().splitlines()[-3:]

    first = script("first", journalling(journal, "first"), ready=started("first"))
    step = script("step", "", once=True, after=["first"])
    slow = script("slow", journalling(journal, "slow", "quick"), ready=started("slow"), after=["step"])
    quick = script("quick", journalling(journal, "quick"), ready=started("quick"), after=["step"])
    loop = turning(first, step, slow, quick)
    made = loop.supervisor.processes
    loop.until(lambda: all(loop.supervisor.ready(name) for name in made))

    ask(layout, "first", "slow", "quick")
    loop.until(lambda: all(made[name].restarts_asked for name in ("first", "slow", "quick")))
    loop.until(lambda: all(loop.supervisor.ready(name) for name in made))

    found = journal.read_text().splitlines()[3:]
    assert found[:4] == ["end quick", "end slow", "end first", "start first"]
    assert sorted(found[4:]) == ["start quick", "start slow"]
    assert {process.restarts for process in made.values()} == {0}


def test_a_step_that_was_done_is_done_again_when_asked(turning: Make, layout: Layout, tmp_path: Path) -> None:
    journal = tmp_path / "runs"
    loop = turning(script("step", f"open({str(journal)!r}, 'a').write('x')", once=True))
    step = loop.supervisor.processes["step"]
    loop.until(lambda: step.state is State.DONE)

    ask(layout, "step")
    loop.until(lambda: step.restarts_asked == 1 and step.state is State.DONE)

    assert journal.read_text() == "xx"


def test_a_restart_of_what_is_not_there_and_one_that_was_asked_of_the_last_supervisor_do_nothing(
    turning: Make, layout: Layout, caplog: pytest.LogCaptureFixture
) -> None:
    ask(layout, "one")
    loop = turning(script("one", FOREVER))
    loop.until(lambda: loop.supervisor.ready("one"))

    ask(layout, "other")
    loop.until(lambda: not list(layout.restarts.iterdir()))

    assert loop.supervisor.processes["one"].restarts_asked == 0
    assert "'other' was asked for, which is not there" in caplog.text


class Stumbling:
    """Fails at each of its first turns."""

    def __init__(self) -> None:
        self.turns = 0

    def tick(self, ready: Callable[[str], bool]) -> None:
        """Fail a few times."""
        self.turns += 1
        if self.turns < 4:
            raise ValueError("not a route")

    def report(self) -> dict[str, object]:
        """Say nothing."""
        return {}

    def restart(self, name: str) -> bool:
        """Have nothing."""
        return False

    def stop(self) -> bool:
        """Be gone."""
        return True


def test_a_companion_that_fails_does_not_take_the_rest_down(
    layout: Layout, caplog: pytest.LogCaptureFixture
) -> None:
    companion = Stumbling()
    supervisor = Supervisor(layout=layout, programs=[script("one", FOREVER)], companions=[companion])

    supervisor.turn_until(lambda: companion.turns > 5 and supervisor.ready("one"))
    supervisor.stop()

    assert caplog.text.count("Stumbling failed") == 1
