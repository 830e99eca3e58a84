"""`slipway pipeline …` as engineers run it, against a real service and worker."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flows import WHOLE
from running import Keys, Service
from slipway.cli.main import app
from typer.testing import CliRunner

Call = Callable[..., Any]

HOURLY = '''
"""A pipeline of the tests."""

from slipway.pipeline import pipeline, step


@step
def counted(good: bool) -> str:
    print("counting")
    if not good:
        raise ValueError("no luck")
    return "models/flowers"


@pipeline(schedule="0 * * * *", time_zone="Europe/Zurich")
def hourly(good: bool = True):
    """Counts every hour."""
    counted(good)
'''
UNTIMED = HOURLY.replace('schedule="0 * * * *", time_zone="Europe/Zurich"', "")


@pytest.fixture
def shown(keys: Keys, pipelines: Service, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Return a function that runs a command and returns what it prints."""
    monkeypatch.setenv("SLIPWAY_GRPC", f"pipelines={pipelines.address}")
    monkeypatch.setenv("SLIPWAY_TOKEN", keys.user())

    def call(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, ["pipeline", *arguments])
        assert result.exit_code == code, result.output
        return result.stdout if code in {0, 1} else result.stderr

    return call


@pytest.fixture
def run(shown: Call) -> Call:
    """Return a function that runs a command with --json and returns what it says."""
    return lambda *arguments, code=0: json.loads(shown(*arguments, "--json", code=code))


def folder_of(tmp_path: Path, source: str) -> str:
    (tmp_path / "flow.py").write_text(source)
    return str(tmp_path)


def test_a_pipeline_is_pushed_run_and_shown_as_graph_and_bars(
    shown: Call, run: Call, start_worker: Callable[..., Service], tmp_path: Path
) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "code").mkdir()
    start_worker()

    pushed = run("push", folder_of(tmp_path / "code", WHOLE))
    started = run("run", "whole", "--set", f"folder={tmp_path / 'made'}", "-p", "token=t")
    shown("watch", "whole")
    last = run("show", "whole")
    bars = shown("show", started["name"])
    graph = shown("show", "whole")

    assert [step["name"] for step in pushed["steps"]][:3] == ["planned", "squared", "settled"]
    assert last["last_run"] == started["name"]
    lines = {line.split()[0]: line for line in reversed(bars.splitlines()) if line}
    assert "succeeded" in lines["squared.2"]
    assert "█" in lines["squared.2"]
    assert "2×" in lines["settled"]
    assert "skipped" in lines["released"]
    assert "number=planned (each)" in graph
    assert "when enough" in graph
    assert "7/8" in shown("list", "whole")


def test_a_run_that_failed_is_told_retried_and_ends_with_exit_code_1(
    shown: Call, run: Call, start_worker: Callable[..., Service], tmp_path: Path
) -> None:
    start_worker()
    run("push", folder_of(tmp_path, UNTIMED), "--entry-point", "flow.py:hourly")

    text = shown("run", "hourly", "--set", "good=false", "--watch", code=1)
    again = shown("retry", "hourly", "--watch", code=1)

    assert "counted: ValueError: no luck (at flow.py:" in text
    assert "counting" in text
    assert "failed" in again
    assert run("show", run("list", "hourly", "-n", "1")[0]["name"])["retry_count"] == 1


def test_a_schedule_is_shown_paused_and_filled(shown: Call, run: Call, tmp_path: Path) -> None:
    run("push", folder_of(tmp_path, HOURLY))

    paused = shown("schedule", "pause", "hourly")
    resumed = run("schedule", "resume", "hourly")
    filled = run("backfill", "hourly", "--from", "2026-05-01", "--to", "2026-05-01T03:00:00")
    again = shown("backfill", "hourly", "--from", "2026-05-01", "--to", "2026-05-01T03:00:00")

    assert "0 * * * * Europe/Zurich, paused" in paused
    assert resumed["schedule"]["next_time"]
    assert (len(filled["runs"]), filled["time_count"]) == (3, 3)
    assert "nothing was missing" in again
    for name in filled["runs"]:
        assert run("cancel", name)["state"] == "CANCELLED"
    assert "hourly" in shown("list")


def test_what_is_wrong_with_a_definition_is_said_with_its_line(shown: Call, tmp_path: Path) -> None:
    source = HOURLY.replace("counted(good)", "counted(goood)")

    said = shown("push", folder_of(tmp_path, source), code=4)

    assert "line 18: 'good' is given 'goood', which is no output and no parameter; near: good" in said
    assert "INVALID_DEFINITION" in said


def test_an_unknown_run_and_an_unknown_pipeline_are_not_found(shown: Call, run: Call, tmp_path: Path) -> None:
    run("push", folder_of(tmp_path, HOURLY))

    assert "there is no pipeline 'pipelines/hourli'; did you mean 'pipelines/hourly'" in shown(
        "show", "hourli", code=3
    )
    assert "PIPELINE_RUN_NOT_FOUND" in shown("cancel", f"hourly/{'0' * 32}", code=3)
    assert "write it as name=value" in shown("run", "hourly", "--set", "good", code=4)
