"""Gates from the command line, against the real registry, training API and gateway."""

import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from bundles import CLASSES, files, upload, with_manifest
from door import ADMIN_TOKEN, Gateway
from running import Keys, Service
from slipway.cli.main import app
from slipway.client import Client
from slipway.registry.v1 import registry_pb2 as reg
from slipway.registry.v1 import registry_pb2_grpc as reg_grpc
from typer.testing import CliRunner

Run = Callable[..., Any]
POLICY = """\
evaluation: {minimum_examples: 20}
thresholds: {accuracy: {min: 0.7}}
regression: {minimum_slice: 10}
"""
COUNT = 120


@pytest.fixture
def places(
    gateway: Gateway,
    registry: Service,
    ingestion: Service,
    training_api: Service,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    doors = {"registry": registry, "ingestion": ingestion, "training": training_api}
    monkeypatch.setenv("SLIPWAY_URL", gateway.url)
    monkeypatch.setenv("SLIPWAY_GRPC", ",".join(f"{name}={door.address}" for name, door in doors.items()))
    monkeypatch.setenv("SLIPWAY_TOKEN", ADMIN_TOKEN)


@pytest.fixture
def run(places: None) -> Run:
    def call(*arguments: str, code: int = 0, errs: bool = False) -> Any:
        result = CliRunner().invoke(app, [*arguments, "--json"])
        assert result.exit_code == code, result.output
        return json.loads(result.stderr if errs else result.stdout)

    return call


@pytest.fixture
def model(places: None, keys: Keys, registry: Service, a_commit: str) -> str:
    """Return the id of a model with two versions, neither of them evaluated."""
    name = f"m-{uuid.uuid4().hex[:8]}"
    with registry.channel(keys.user()) as opened:
        stub = reg_grpc.RegistryServiceStub(opened)
        stub.CreateExperiment(reg.CreateExperimentRequest(experiment_id=name))
        stub.CreateModel(reg.CreateModelRequest(model_id=name))
        bundle = upload(stub, *with_manifest(files()))
        for _ in range(2):
            run = reg.Run(dataset_commit=a_commit, code_digest="taskCode/" + "0" * 64)
            made = stub.CreateRun(reg.CreateRunRequest(parent=f"experiments/{name}", run=run))
            version = reg.ModelVersion(run=made.name, bundle=bundle.name)
            stub.CreateModelVersion(
                reg.CreateModelVersionRequest(parent=f"models/{name}", model_version=version, attempt=1)
            )
    return name


def evaluate(model: str, number: int, commit: str, wrong: int, champion: int = 0) -> None:
    """Record an evaluation that takes the first `wrong` examples of `a` for `b`; the champion errs never."""
    header = reg.EvaluationHeader(
        parent=f"models/{model}/versions/{number}",
        evaluation_id=f"e{number}",
        dataset_commit=commit,
        split="test",
        classes=CLASSES,
        champion_version=f"models/{model}/versions/{champion}" if champion else "",
        champion_classes=CLASSES if champion else (),
    )
    right = {label: [0.8 if label == one else 0.1 for one in CLASSES] for label in CLASSES}
    rows = []
    for index in range(COUNT):
        label = CLASSES[index % 2]
        answer = right["b"] if label == "a" and index // 2 < wrong else right[label]
        champion_answer = right[label] if champion else []
        rows.append(
            reg.EvaluatedExample(
                key=f"{index:03d}", label=label, probabilities=answer, champion_probabilities=champion_answer
            )
        )
    with Client() as client:
        parts = [
            reg.RecordEvaluationRequest(header=header),
            reg.RecordEvaluationRequest(examples=reg.EvaluatedExamples(examples=rows)),
        ]
        client.registry.RecordEvaluation(iter(parts))


def test_without_a_policy_a_version_is_refused_and_the_command_ends_with_1(run: Run, model: str) -> None:
    verdict = run("model", "judge", f"{model}/v1", code=1)

    assert (verdict["verdict"], verdict["findings"][0]["gate"]) == ("REFUSED", "policy")
    assert (
        run("model", "policy", "show", model, code=3, errs=True)["error"]["reason"] == "GATE_POLICY_NOT_FOUND"
    )


def test_a_policy_with_an_unknown_metric_is_refused_by_name(run: Run, model: str, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("thresholds: {acuracy: {min: 0.9}}\n")

    error = run("model", "policy", "set", model, str(tmp_path / "p.yaml"), code=4, errs=True)["error"]
    gone = run("model", "policy", "set", model, str(tmp_path / "gone.yaml"), code=4, errs=True)["error"]

    assert error["reason"] == "POLICY_REFUSED"
    assert any("acuracy" in one["field"] + one["description"] for one in error["violations"])
    assert "cannot be read" in gone["message"]


def test_the_champion_is_approved_and_a_version_that_lost_a_class_is_refused_by_its_slice(
    run: Run, model: str, a_commit: str, tmp_path: Path
) -> None:
    (tmp_path / "p.yaml").write_text(POLICY)
    assert run("model", "policy", "set", model, str(tmp_path / "p.yaml"))["version"] == 1
    evaluate(model, 1, a_commit, wrong=0)
    first = run("model", "judge", f"{model}/v1")
    run("model", "alias", "set", model, "champion", "v1")
    evaluate(model, 2, a_commit, wrong=20, champion=1)

    second = run("model", "judge", f"{model}/v2", code=1)
    told = CliRunner().invoke(app, ["model", "verdicts", f"{model}/v2"])

    assert (first["verdict"], second["verdict"]) == ("APPROVED", "REFUSED")
    assert "label=a" in {f["slice"] for f in second["findings"] if f["outcome"] == "FAILED"}
    assert "regression accuracy label=a" in told.output
    assert run("model", "policy", "show", model)["yaml"] == POLICY


def test_an_override_is_kept_with_its_reason_and_lets_the_alias_move(
    run: Run, model: str, tmp_path: Path
) -> None:
    (tmp_path / "p.yaml").write_text(POLICY)
    run("model", "policy", "set", model, str(tmp_path / "p.yaml"))
    not_yet = run("model", "alias", "set", model, "champion", "v2", code=4, errs=True)["error"]
    short = run("model", "override", f"{model}/v2", "approve", "-m", "so", code=4, errs=True)["error"]
    run("model", "override", f"{model}/v2", "approve", "-m", "seen by three of us")

    alias = run("model", "alias", "set", model, "champion", f"{model}/v2")
    moved = run("model", "alias", "set", model, "champion", "v2", "--expected", "v1", code=5, errs=True)[
        "error"
    ]

    assert (not_yet["reason"], short["reason"]) == ("VERSION_NOT_APPROVED", "INVALID_FIELD")
    assert alias["model_version"] == f"models/{model}/versions/2"
    assert moved["reason"] == "ALIAS_MOVED"
    (verdict,) = run("model", "verdicts", f"{model}/v2")
    assert (verdict["override"], verdict["override_reason"]) == (True, "seen by three of us")
    assert [row["name"].rpartition("/")[2] for row in run("model", "alias", "list", model)] == ["champion"]
    run("model", "alias", "delete", model, "champion")
    assert run("model", "alias", "list", model) == []


def test_pictures_are_written_as_png(run: Run, model: str, a_commit: str, tmp_path: Path) -> None:
    nothing = run("model", "pictures", f"{model}/v1", str(tmp_path / "p"), code=3, errs=True)["error"]
    evaluate(model, 1, a_commit, wrong=3)

    told = run("model", "pictures", f"{model}/v1", str(tmp_path / "p"))

    assert nothing["reason"] == "EVALUATION_NOT_FOUND"
    assert {Path(file).stem for file in told["files"]} == {
        "confusion", "roc", "precision_recall", "calibration"
    }  # fmt: skip
    assert all(Path(file).read_bytes().startswith(b"\x89PNG") for file in told["files"])
    assert [row["example_count"] for row in run("model", "evaluations", f"{model}/v1")] == [str(COUNT)]


def test_a_scoring_job_is_queued_listed_shown_and_cancelled(run: Run, model: str) -> None:
    made = run("score", "submit", f"{model}/v1")
    early = run("score", "read", made["name"], "scores.jsonl", code=4, errs=True)["error"]

    run("score", "cancel", made["name"])

    assert made["model_version"] == f"models/{model}/versions/1"
    assert early["reason"] == "SCORES_NOT_READY"
    assert [row["name"] for row in run("score", "list", "--version", f"{model}/v1")] == [made["name"]]
    assert run("score", "show", made["name"])["state"] == "CANCELLED"
    watched = CliRunner().invoke(app, ["score", "watch", made["name"]])
    assert (watched.exit_code, "cancelled" in watched.output) == (1, True)
    assert not Path("scores.jsonl").exists()
    form = run("score", "read", made["name"], "scores.txt", code=4, errs=True)["error"]
    assert "neither .jsonl nor .npz" in form["message"]


def test_a_validation_that_overruns_its_budget_is_cut_off_named_and_its_job_cancelled(
    run: Run, model: str, tmp_path: Path
) -> None:
    (tmp_path / "p.yaml").write_text(POLICY)
    run("model", "policy", "set", model, str(tmp_path / "p.yaml"))
    junit = tmp_path / "junit.xml"

    for budget in ("2s", "8s", "32s"):  # what is spent before the evaluation is the machine's affair
        report = run("test", "validation", f"{model}/v1", "--budget", budget, "--junit", str(junit), code=1)
        (overrun,) = [check for check in report["checks"] if check["outcome"] == "failed"]
        if overrun["value"] == "evaluation":
            break

    assert (overrun["name"], overrun["value"]) == ("time budget", "evaluation")
    assert [check["name"] for check in report["checks"] if check["outcome"] == "skipped"] == ["verdict"]
    assert ElementTree.parse(junit).getroot()[0].get("failures") == "1"
    stop_at = time.monotonic() + 60  # a job that was being asked for is cancelled once it has a name
    while [job["state"] for job in run("score", "list", "--version", f"{model}/v1")] != ["CANCELLED"]:
        assert time.monotonic() < stop_at
    assert run("score", "list", "--version", f"{model}/v1")[0]["evaluate"]


def test_a_model_without_a_policy_fails_the_validation_before_any_job(run: Run, model: str) -> None:
    report = run("test", "validation", model, code=1)

    assert report["subject"] == f"models/{model}/versions/2"
    assert [(c["name"], c["value"]) for c in report["checks"] if c["outcome"] == "failed"] == [
        ("policy", "GATE_POLICY_NOT_FOUND")
    ]  # fmt: skip
    assert run("score", "list", "--version", f"{model}/v2") == []


def test_what_is_no_model_is_no_test(run: Run, model: str) -> None:
    unknown = run("test", "functionality", model + "x", code=3, errs=True)["error"]
    budget = run("test", "functionality", model, "--budget", "soon", code=4, errs=True)["error"]

    assert (unknown["reason"], budget["reason"]) == ("MODEL_NOT_FOUND", "INVALID_FIELD")


def test_a_sound_bundle_passes_the_functionality_and_an_example_unknown_to_the_commit_fails(
    run: Run, model: str, tmp_path: Path
) -> None:
    (tmp_path / "cases.yaml").write_text("keys: {gone.png: rose}\n")

    good = run("test", "functionality", f"{model}/v1")
    bad = run("test", "functionality", f"{model}/v1", "--cases", str(tmp_path / "cases.yaml"), code=1)

    assert {check["outcome"] for check in good["checks"]} == {"passed"}
    assert [(c["name"], c["value"]) for c in bad["checks"] if c["outcome"] == "failed"] == [
        ("important examples", "EXAMPLE_NOT_FOUND")
    ]  # fmt: skip
