"""What people write for monitors and rollouts, as requests; refusals say how to write it."""

from pathlib import Path

import pytest
from slipway.cli.feedback import parse_labels, read_labels
from slipway.cli.monitor_settings import read_action, read_objective
from slipway.cli.rollout_options import parse_gates, parse_steps
from slipway.client import SlipwayError
from slipway.monitoring.v1 import monitoring_pb2 as mon
from slipway.rollout.v1 import rollout_pb2 as rol


def test_steps_are_percent_time_and_count() -> None:
    steps = parse_steps(["shadow", "5:10s", "50%:1m:200", "100"], max_hold_s=30, on_hold="fail")

    assert [(s.weight, s.min_duration_s, s.min_count) for s in steps] == [
        (0, 3, 50),
        (5, 10, 50),
        (50, 60, 200),
        (100, 3, 50),
    ]
    assert {(s.max_hold_s, s.on_hold) for s in steps} == {(30, rol.RolloutStep.FAIL)}


@pytest.mark.parametrize("text", ["", "half", "101", "5:10", "5:10s:x", "5:10s:3:4"])
def test_a_step_written_otherwise_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(SlipwayError, match="write"):
        parse_steps([text], max_hold_s=0, on_hold="pause")


def test_a_hold_without_steps_is_refused_not_dropped() -> None:
    assert parse_steps([], max_hold_s=0, on_hold="") == []
    with pytest.raises(SlipwayError, match="name them with --step"):
        parse_steps([], max_hold_s=30, on_hold="")


def test_gates_are_switched_off_changed_and_guarded() -> None:
    gates = parse_gates(
        ["latency"], {"margin": ["errors=0.02"], "min_count": ["quality=30"]}, {"min_accuracy": 0.8}
    )

    assert gates.latency.off
    assert (gates.errors.margin, gates.quality.min_count, gates.min_accuracy) == (0.02, 30, 0.8)
    assert not gates.quality.HasField("margin")
    assert not gates.HasField("shift")


@pytest.mark.parametrize(
    ("off", "margin"), [(["speed"], []), ([], ["speed=1"]), ([], ["errors"]), ([], ["errors=low"])]
)
def test_an_unknown_gate_or_no_number_is_refused(off: list[str], margin: list[str]) -> None:
    with pytest.raises(SlipwayError, match=r"the gates are|write GATE=VALUE"):
        parse_gates(off, {"margin": margin}, {})


def test_objectives_and_actions_are_read_from_text() -> None:
    assert read_objective("availability=0.999").kind == mon.Objective.AVAILABILITY
    latency = read_objective("latency=0.99@50")
    assert (latency.kind, latency.target, latency.threshold_ms) == (mon.Objective.LATENCY, 0.99, 50)
    assert read_action("input-drift=pipelines/relabel") == mon.AlertAction(
        rule="input-drift", pipeline="pipelines/relabel"
    )
    assert read_action("any=https://example.org/hook").webhook == "https://example.org/hook"


@pytest.mark.parametrize("text", ["latency=0.99", "quality=2", "speed=0.9", "availability", "quality=0.9@5"])
def test_an_objective_written_otherwise_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(SlipwayError, match=r"latency=0\.99@50"):
        read_objective(text)


@pytest.mark.parametrize("text", ["input-drift", "=pipelines/x", "any=ftp://x", "any="])
def test_an_action_written_otherwise_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(SlipwayError, match="RULE=pipelines/NAME"):
        read_action(text)


def test_labels_come_from_arguments_and_files_with_their_sources(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prediction": "p.1", "label": "rose", "source": "review"}\n\n')
    (tmp_path / "a.csv").write_text("prediction,label\npredictions/q,tulip\n")

    said = [*parse_labels(["0192-a.0=rose=red"], "me")]
    said += [*read_labels(tmp_path / "a.jsonl", "me"), *read_labels(tmp_path / "a.csv", "me")]

    assert [(f.prediction, f.label, f.source) for f in said] == [
        ("predictions/0192-a.0", "rose=red", "me"),
        ("predictions/p.1", "rose", "review"),
        ("predictions/q", "tulip", "me"),
    ]


@pytest.mark.parametrize("text", ['{"prediction": "p"}', "[]", "{"])
def test_a_row_that_is_no_label_is_refused_by_file_and_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "labels.jsonl"
    file.write_text(f'{{"prediction": "p", "label": "x"}}\n{text}\n')

    with pytest.raises(SlipwayError, match=r"labels\.jsonl"):
        list(read_labels(file, ""))
