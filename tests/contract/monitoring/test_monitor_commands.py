"""`slipway monitor` and `slipway alert`, against a real monitoring and its worker."""

import json
import os
import time
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from running import Keys, Service
from slipway.cli.main import app
from slipway.monitoring.v1 import monitoring_pb2 as mon
from slipway.pipeline import Context, Skipped
from slipway.pipeline.attempt import load
from slipway.rollout.v1 import rollout_pb2 as rol
from slipway.rollout.v1 import rollout_pb2_grpc as rol_grpc
from test_drift_and_alerts import WINDOW, House, house, pipelines, processes, until, version  # noqa: F401 - fixtures
from typer.testing import CliRunner

Run = Callable[..., Any]
EXAMPLE = Path(__file__).parents[3] / "examples" / "digits"


@pytest.fixture
def run(
    house: House,  # noqa: F811
    registry: Service,
    keys: Keys,
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    monkeypatch.setenv("SLIPWAY_GRPC", f"monitoring={house.server.address},registry={registry.address}")
    monkeypatch.setenv("SLIPWAY_TOKEN", keys.user())
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str, code: int = 0, text: bool = False) -> Any:
        result = CliRunner().invoke(app, [*arguments, *([] if text else ["--json"])])
        assert result.exit_code == code, result.output
        return result.stdout if text else json.loads(result.stdout if code == 0 else result.stderr)

    return call


def test_a_monitor_is_set_and_shown_and_what_is_not_named_stays(run: Run, house: House) -> None:  # noqa: F811
    run("monitor", "set", "flowers", "--window-rows", "200", "--action", f"input-drift={house.hook.url}")

    changed = run("monitor", "set", "flowers", "--alpha", "0.005", "--objective", "latency=0.99@50")

    assert (changed["drift"]["window_rows"], changed["drift"]["alpha"]) == (200, 0.005)
    assert changed["objectives"][0] | {"burn_rates": []} == {
        "kind": "LATENCY",
        "target": 0.99,
        "threshold_ms": 50,
        "period_days": changed["objectives"][0]["period_days"],
        "burn_rates": [],
    }
    assert changed["actions"] == [{"rule": "input-drift", "webhook": house.hook.url}]
    assert run("monitor", "show", "flowers") == run("monitor", "show", "endpoints/flowers")
    assert "latency" in run("monitor", "show", "flowers", text=True)
    assert run("monitor", "set", "flowers", "--action", "none")["actions"] == []


def test_traffic_labels_and_drift_are_shown_and_an_alert_is_worked_on(
    run: Run,
    house: House,  # noqa: F811
    tmp_path: Path,
) -> None:
    run("monitor", "set", house.endpoint, "--window-rows", str(WINDOW))
    house.front.ReportEvents(house.traffic().batch(4 * WINDOW, fade=0.5))
    until(lambda: len(house.reports()) == 4)
    (alert,) = house.alerts()

    rows = run("monitor", "predictions", house.endpoint, "-n", "1000")
    labels = [{"prediction": r["name"], "label": r["predicted_label"]} for r in rows[:200]]
    (tmp_path / "labels.jsonl").write_text("\n".join(map(json.dumps, labels)))
    told = run("monitor", "feedback", "--file", str(tmp_path / "labels.jsonl"), "--source", "imports/review")
    (quality,) = run("monitor", "quality", house.endpoint)["versions"]
    coverage = run("monitor", "coverage", house.endpoint)

    assert len(rows) == int(quality["row_count"]) == int(coverage["received_count"]) == 4 * WINDOW
    assert (told["recorded_count"], quality["labelled_count"], quality["accuracy"]) == (200, "200", 1.0)
    assert quality["traffic_share"] == 1.0
    assert "200 (25 %)" in run("monitor", "quality", house.endpoint, text=True)
    assert "100.00 % of 800" in run("monitor", "coverage", house.endpoint, text=True)
    assert "✓" in run("monitor", "predictions", house.endpoint, "--labelled", text=True)

    reports = run("monitor", "drift", house.endpoint)
    number = reports[0]["name"].rpartition("/")[2]
    assert run("monitor", "drift", house.endpoint, number)["verdict"] == "DRIFTED"
    assert "inputs/image/contrast" in run("monitor", "drift", house.endpoint, number, text=True)
    plotted = run("monitor", "drift", house.endpoint, "--plot", "inputs/image/contrast", text=True)
    assert "effect of 4 windows" in plotted

    id = alert.name.removeprefix("alerts/")
    assert [row["name"] for row in run("alert", "list", "--endpoint", house.endpoint)] == [alert.name]
    assert "docs/runbooks/input-drift.md" in run("alert", "show", id, text=True)
    acknowledged = run("alert", "ack", id, "-m", "the lamp is changed")
    assert (acknowledged["state"], acknowledged["comment"]) == ("ACKNOWLEDGED", "the lamp is changed")
    assert run("alert", "list", "--endpoint", house.endpoint, "--state", "firing") == []
    made = run("alert", "silence", "--endpoint", house.endpoint, "--for", "2h", "-m", "the lamp")
    assert [one["name"] for one in run("alert", "silences")] == [made["name"]]
    assert "the lamp" in run("alert", "silences", text=True)

    accepted = run("monitor", "accept", house.endpoint, "--reason", "the lamp stays dim")
    assert (accepted["report"], accepted["reason"]) == (reports[0]["name"], "the lamp stays dim")
    assert "the lamp stays dim" in run("monitor", "show", house.endpoint, text=True)
    refused = run("monitor", "accept", house.endpoint, "99", "--reason", "x", code=3)["error"]
    assert refused["reason"] == "DRIFT_REPORT_NOT_FOUND"


def settled(house: House, rollout: str = "") -> Any:  # noqa: F811
    """Look once as the last sensor of the example's pipeline does."""
    context = Context(
        run="pipelines/relearn/runs/1", step="settled", index=-1, attempt=1, request_id="one", parameters={}
    )
    inputs = {"endpoint": f"endpoints/{house.endpoint}", "candidate": house.version, "rollout": rollout}
    return load(EXAMPLE, "pipeline.py", "settled").run(context, inputs)


class FakeRollouts(rol_grpc.RolloutServiceServicer):
    """Tells of one rollout that is as it was set."""

    def __init__(self) -> None:
        self.rollout = rol.Rollout()
        self.server = grpc.server(futures.ThreadPoolExecutor(2))
        rol_grpc.add_RolloutServiceServicer_to_server(self, self.server)
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def GetRollout(self, request: Any, context: Any) -> Any:
        return self.rollout


def test_a_pipeline_waits_for_a_verdict_while_the_rollout_goes_on_and_a_while_after_it(
    run: Run,
    house: House,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rollouts = FakeRollouts()
    monkeypatch.setenv("SLIPWAY_GRPC", f"{os.environ['SLIPWAY_GRPC']},rollout={rollouts.address}")
    run("monitor", "set", house.endpoint, "--window-rows", str(WINDOW), "--max-window-s", "1")
    house.front.ReportEvents(house.traffic(seed=8).batch(30, fade=0.5))
    until(lambda: [report.verdict for report in house.reports()] == [mon.DriftReport.TOO_FEW])

    rollouts.rollout.state = rol.Rollout.RUNNING
    assert settled(house) is None
    rollouts.rollout.state = rol.Rollout.SUCCEEDED
    rollouts.rollout.end_time.GetCurrentTime()
    assert settled(house) is None
    rollouts.rollout.end_time.FromSeconds(int(time.time()) - 700)
    with pytest.raises(Skipped, match="had a verdict in 600 s"):
        settled(house)
    rollouts.rollout.state = rol.Rollout.FAILED
    with pytest.raises(Skipped, match="ended without"):
        settled(house)
    rollouts.server.stop(None).wait(5)


def test_a_pipeline_that_taught_a_version_accepts_what_it_sees(
    run: Run,
    house: House,  # noqa: F811
) -> None:
    run("monitor", "set", house.endpoint, "--window-rows", str(WINDOW))
    house.front.ReportEvents(house.traffic(seed=7).batch(2 * WINDOW, fade=0.5))
    until(lambda: house.alerts())

    found = [settled(house) for _ in range(2)]

    (reference,) = run("monitor", "show", house.endpoint)["references"]
    assert found == [f"{house.monitor}/driftReports/1"] * 2
    assert reference["report"] == found[0]
    assert "pipelines/relearn/runs/1" in reference["reason"]
    assert [alert.state for alert in house.alerts()] == [mon.Alert.RESOLVED]


def test_refusals_name_the_thing_and_what_to_write(run: Run) -> None:
    run("monitor", "set", "flowers", "--alpha", "0.01")

    assert run("monitor", "show", "flowerz", code=3)["error"]["reason"] == "MONITOR_NOT_FOUND"
    assert run("alert", "show", "0" * 32, code=3)["error"]["reason"] == "ALERT_NOT_FOUND"
    for arguments, text in (
        (("monitor", "set", "flowers"), "nothing to change"),
        (("monitor", "set", "flowers", "--objective", "speed=1"), "latency=0.99@50"),
        (("alert", "list", "--state", "loud"), "firing, acknowledged, resolved"),
        (("monitor", "feedback", "rose"), "PREDICTION=LABEL"),
    ):
        assert text in run(*arguments, code=4)["error"]["message"]
