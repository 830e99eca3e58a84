"""`slipway rollout`, against a real rollout on the laptop's Kubernetes API."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from callers import Behaviour
from cluster import until
from running import Keys
from slipway.cli.main import app
from typer.testing import CliRunner

Run = Callable[..., Any]
GOOD = Behaviour(accuracy=1.0)
QUICK = ("--step", "shadow:1s:5", "--step", "50:1s:5", "--step", "100:1s:5")
ENDLESS = ("--step", "50:1h:1000000", "--step", "100")


@pytest.fixture
def run(house: Any, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("SLIPWAY_GRPC", f"rollout={house.serve.address}")
    monkeypatch.setenv("SLIPWAY_TOKEN", keys.user())
    monkeypatch.setenv("COLUMNS", "220")

    def call(*arguments: str, code: int = 0, text: bool = False, lines: bool = False) -> Any:
        result = CliRunner().invoke(app, [*arguments, *([] if text else ["--json"])])
        assert result.exit_code == code, result.output
        if lines:
            return [json.loads(line) for line in result.stdout.splitlines()]
        return result.stdout if text else json.loads(result.stdout or result.stderr)

    return call


def test_a_rollout_is_started_and_watched_to_its_end_and_its_log_and_history_are_shown(
    run: Run, house: Any
) -> None:
    id = house.endpoint(1)
    house.callers(id, {"v1": GOOD, "v2": GOOD})

    seen = run("rollout", "start", id, "v2", *QUICK, "--watch", lines=True)

    assert seen[-1]["state"] == "SUCCEEDED"
    assert run("rollout", "watch", id, lines=True)[-1]["name"] == seen[-1]["name"]
    log = run("rollout", "verdicts", id)
    assert [(v["step"], v["weight"]) for v in reversed(log) if v["decision"] == "PASS"] == [
        (0, 0),
        (1, 50),
        (2, 100),
    ]
    assert "e-value" in run("rollout", "verdicts", id, text=True)
    assert "log10 of the e-value" in run("rollout", "verdicts", id, "--plot", "errors", text=True)
    assert "✓" in run("rollout", "status", id, text=True)
    served = run("rollout", "history", id)
    assert (served[0]["model_version"], served[0]["weight"]) == ("models/m/versions/2", 100)
    assert "now" in run("rollout", "history", id, text=True)
    assert [row["name"] for row in run("rollout", "list", id)] == [seen[-1]["name"]]
    assert "succeeded" in run("rollout", "list", text=True)


def until_running(run: Run, id: str) -> None:
    """Wait until the first step is in force."""
    until(lambda: run("rollout", "status", id).get("step_time"))


def test_a_rollout_is_paused_resumed_and_aborted_by_hand_and_watching_it_ends_with_1(
    run: Run, house: Any
) -> None:
    id = house.endpoint(1, 2)
    run("rollout", "start", id, "v2", *ENDLESS)
    until_running(run, id)

    paused = run("rollout", "pause", id, "-m", "lunch")
    resumed = run("rollout", "resume", id)
    run("rollout", "abort", id, "-m", "enough")
    ended = run("rollout", "watch", id, code=1, lines=True)[-1]

    assert (paused["state"], resumed["state"], ended["state"]) == ("PAUSED", "RUNNING", "ABORTED")
    assert "lunch" in paused["state_reason"]
    assert "enough" in ended["state_reason"]


def test_a_rollout_is_finished_by_hand_with_a_reason_and_settings_reach_it(run: Run, house: Any) -> None:
    id = house.endpoint(1, 2)
    settings = ("--off", "latency", "--margin", "errors=0.02", "--max-hold", "900", "--on-hold", "fail")

    made = run("rollout", "start", id, "v2", *ENDLESS, *settings)
    until_running(run, id)
    finished = run("rollout", "finish", id, "-m", "it is a fix")

    assert made["gates"]["latency"]["off"]
    assert made["gates"]["errors"]["margin"] == 0.02
    assert {(s["max_hold_s"], s["on_hold"]) for s in made["steps"]} == {(900, "FAIL")}
    assert finished["state"] == "SUCCEEDED"
    assert run("rollout", "status", f"{id}/1")["name"] == made["name"]


def test_refusals_say_what_there_is_and_what_to_do(run: Run, house: Any) -> None:
    id = house.endpoint(1)

    none = run("rollout", "status", id, code=3)["error"]
    gate = run("rollout", "start", id, "v2", "--off", "speed", code=4)["error"]
    unknown = run("rollout", "status", f"{id}/7", code=3)["error"]

    assert (none["reason"], unknown["reason"]) == ("ROLLOUT_NOT_FOUND", "ROLLOUT_NOT_FOUND")
    assert f"slipway rollout start {id} vN" in none["message"]
    assert "errors, latency, shift, quality, disagreement" in gate["message"]
