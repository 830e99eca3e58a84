"""The command line as users run it, through the real gateway to the real registry and ingestion."""

import io
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from door import ADMIN_TOKEN, Gateway
from PIL import Image
from running import Service
from slipway.cli.main import app
from slipway.client import Client, Item, read_source
from slipway.registry.v1 import registry_pb2 as reg
from typer.testing import CliRunner

Run = Callable[..., Any]


@pytest.fixture
def places(gateway: Gateway, registry: Service, ingestion: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    doors = f"registry={registry.address},ingestion={ingestion.address},training=127.0.0.1:1"
    monkeypatch.setenv("SLIPWAY_URL", gateway.url)
    monkeypatch.setenv("SLIPWAY_GRPC", doors)
    monkeypatch.setenv("SLIPWAY_TOKEN", ADMIN_TOKEN)


@pytest.fixture
def run(places: None) -> Run:
    def call(*arguments: str, code: int = 0) -> Any:
        result = CliRunner().invoke(app, [*arguments, "--json"])
        assert result.exit_code == code, result.output
        return json.loads(result.stdout if code == 0 else result.stderr)

    return call


def png(color: int) -> bytes:
    out = io.BytesIO()
    Image.new("L", (8, 8), color).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label, shade in (("dark", 10), ("light", 200)):
        for index in range(3):
            path = tmp_path / "pictures" / label / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(shade + index))
    (tmp_path / "pictures" / "light" / "torn.png").write_bytes(png(7)[:40])
    return tmp_path / "pictures"


def test_a_folder_of_pictures_is_imported_and_the_damaged_one_named(run: Run, folder: Path) -> None:
    name = f"d-{uuid.uuid4().hex[:8]}"

    done = run("dataset", "import", name, str(folder))

    assert done["upload"]["accepted_count"] == "6"
    assert [item["key"] for item in done["upload"]["refused"]] == ["light/torn.png"]
    assert run("dataset", "stats", name)["label_counts"] == {"dark": "3", "light": "3"}
    assert len(run("dataset", "examples", name, "--label", "dark")) == 3


def test_a_second_import_shows_in_log_and_diff(run: Run, folder: Path) -> None:
    name = f"d-{uuid.uuid4().hex[:8]}"
    first = run("dataset", "import", name, str(folder), "-m", "one")["commit"]
    (folder / "dark" / "0.png").write_bytes(png(99))

    run("dataset", "import", name, str(folder), "-m", "two")

    changes = run("dataset", "diff", name, first["name"])
    assert [(change["kind"], change["key"]) for change in changes] == [("CHANGED", "dark/0.png")]
    assert [row["message"] for row in run("dataset", "log", name)][:2] == ["two", "one"]


def test_what_is_no_picture_is_named_and_stays_outside(run: Run, folder: Path) -> None:
    name = f"d-{uuid.uuid4().hex[:8]}"
    (folder / "dark" / "notes.txt").write_text("taken at noon")
    (folder / "dark" / "moving.gif").write_bytes(b"GIF89a")

    done = run("dataset", "import", name, str(folder))

    assert done["left_out"] == ["dark/moving.gif", "dark/notes.txt"]
    assert done["commit"]["example_count"] == "6"


def test_a_file_too_large_to_send_or_gone_is_refused_and_the_rest_goes_in(run: Run, folder: Path) -> None:
    name = f"d-{uuid.uuid4().hex[:8]}"
    with open(folder / "dark" / "huge.png", "wb") as huge:
        huge.truncate(40 << 20)
    run("dataset", "create", name)
    items = [*read_source(folder), Item(key="dark/gone.png", path=folder / "gone.png")]

    with Client() as client:
        upload = client.upload_examples(name, items, label_source="imports/pictures")

    assert {item.key: item.reason for item in upload.refused} == {
        "light/torn.png": "DAMAGED_IMAGE",
        "dark/huge.png": "ITEM_TOO_LARGE",
        "dark/gone.png": "UNREADABLE_FILE",
    }
    assert (upload.accepted_count, upload.refused_count) == (6, 3)


def test_an_example_is_taken_out_and_a_misspelt_key_is_refused(run: Run, folder: Path) -> None:
    name = f"d-{uuid.uuid4().hex[:8]}"
    run("dataset", "import", name, str(folder))

    error = run("dataset", "remove", name, "dark/0.png", "dark/0.pgn", code=3)["error"]
    commit = run("dataset", "remove", name, "dark/0.png")

    assert error["reason"] == "EXAMPLE_NOT_FOUND"
    assert "dark/0.pgn" in error["message"]
    assert (commit["message"], commit["example_count"]) == ("remove dark/0.png", "5")


def test_a_branch_is_made_listed_and_moved(run: Run, folder: Path) -> None:
    name = f"d-{uuid.uuid4().hex[:8]}"
    commit = run("dataset", "import", name, str(folder))["commit"]["name"]

    run("branch", "create", name, "relabel")

    assert {row["name"].rpartition("/")[2] for row in run("branch", "list", name)} == {"main", "relabel"}
    assert run("branch", "move", name, "relabel", "main")["commit"] == commit


def test_an_unknown_name_ends_with_code_3_and_near_matches(run: Run) -> None:
    name = f"d-{uuid.uuid4().hex[:8]}"
    run("dataset", "create", name)

    error = run("dataset", "show", name + "x", code=3)["error"]

    assert error["reason"] == "DATASET_NOT_FOUND"
    assert name in error["metadata"]["near"]


def test_a_service_that_is_away_ends_with_code_7(run: Run) -> None:
    assert run("train", "list", code=7)["error"]["reason"] == "UNAVAILABLE"


def test_runs_are_listed_compared_and_plotted(run: Run) -> None:
    experiment = f"e-{uuid.uuid4().hex[:8]}"
    with Client() as client:
        client.registry.CreateExperiment(reg.CreateExperimentRequest(experiment_id=experiment))
        for number, rate in (("a", 0.1), ("b", 0.2)):
            made = reg.Run(seed=7)
            made.params.update({"lr": rate})
            client.registry.CreateRun(
                reg.CreateRunRequest(parent=f"experiments/{experiment}", run_id=number, run=made)
            )
            name = f"experiments/{experiment}/runs/{number}"
            client.registry.BeginRunAttempt(reg.BeginRunAttemptRequest(name=name, attempt=1))
            points = [reg.MetricPoint(key="train/loss", step=s, value=rate / (s + 1)) for s in range(20)]
            client.registry.LogMetrics(reg.LogMetricsRequest(name=name, attempt=1, points=points))

    rows = run("run", "compare", f"{experiment}/a", f"{experiment}/b")["rows"]
    plotted = CliRunner().invoke(app, ["run", "metrics", f"{experiment}/a", "train/loss"])

    assert {"name": "lr", "values": [0.1, 0.2]} in rows
    assert len(run("run", "list", experiment)) == 2
    assert "20 points" in plotted.output
    assert "┤" in plotted.output


def test_a_token_is_made_used_and_revoked(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    made = run("token", "create", "--user", "cli-user", "--role", "engineer", "--expires", "1h")
    monkeypatch.setenv("SLIPWAY_TOKEN", made["secret"])
    run("model", "list")

    run("token", "revoke", made["name"])

    assert run("model", "list", code=6)["error"]["reason"] == "TOKEN_REVOKED"


def test_people_get_tables_and_remedies(run: Run) -> None:
    wrong = CliRunner().invoke(app, ["endpoint", "split", "flowers", "v1:90"])

    assert wrong.exit_code == 4
    assert "write vN=PERCENT" in wrong.output
