"""Platform commands and the console script, without a platform."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from slipway.cli.platform import process_names, restart, running_names, status
from slipway.client.places import find_places

INTERRUPTED = """
import importlib, os, signal, sys

class AtImport:
    def find_spec(self, name, path=None, target=None):
        if name == "slipway.cli.datasets":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, AtImport())
module, _, function = sys.argv.pop(1).partition(":")
getattr(importlib.import_module(module), function)()
"""


@pytest.fixture
def below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder below one whose platform was started; return that one's state."""
    state = tmp_path / ".slipway"
    (state / "logs").mkdir(parents=True)
    (state / "logs" / "registry.log").write_text("")
    (state / "platform.json").write_text(json.dumps({"port_base": 19_000}))
    (tmp_path / "deep" / "down").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "down")
    return state


def test_platform_commands_find_the_platform_that_the_client_finds(
    below: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Exception) as ended:  # typer.Exit: it does not run
        status(as_json=True)

    assert find_places(environ={}).rest == "http://127.0.0.1:19000"
    assert process_names() == ["registry"]
    assert getattr(ended.value, "exit_code", 0) != 0
    assert f"no platform runs in {below}" in json.loads(capsys.readouterr().out)["error"]


def test_restart_says_what_the_other_commands_say_when_nothing_runs_and_completes_names(
    below: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = {"port_base": 19_000, "processes": [{"name": "registry"}], "pods": [{"name": "flowers-v1-0"}]}
    (below / "platform.json").write_text(json.dumps(document))

    with pytest.raises(Exception) as ended:  # typer.Exit: it does not run
        restart(["registry"], as_json=True)

    assert running_names() == ["registry", "flowers-v1-0"]
    assert getattr(ended.value, "exit_code", 0) == 4
    assert f"no platform runs in {below}" in json.loads(capsys.readouterr().out)["error"]


def test_ctrl_c_during_the_imports_is_no_traceback() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    script = project["project"]["scripts"]["slipway"]

    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, script, "version"], capture_output=True, text=True, timeout=200
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "stopped\n")
