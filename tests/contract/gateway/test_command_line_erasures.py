"""Erasures from the command line, against the real ingestion and gateway."""

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from door import ADMIN_TOKEN, Gateway
from running import Service
from slipway.cli.main import app
from typer.testing import CliRunner

Run = Callable[..., Any]


@pytest.fixture
def run(gateway: Gateway, ingestion: Service, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("SLIPWAY_URL", gateway.url)
    monkeypatch.setenv("SLIPWAY_GRPC", f"ingestion={ingestion.address}")
    monkeypatch.setenv("SLIPWAY_TOKEN", ADMIN_TOKEN)

    def call(*arguments: str, code: int = 0, errs: bool = False) -> Any:
        result = CliRunner().invoke(app, [*arguments, "--json"])
        assert result.exit_code == code, result.output
        return json.loads(result.stderr if errs else result.stdout)

    return call


@pytest.fixture
def dataset(run: Run, tmp_path: Any) -> str:
    """Return the id of a data set of two texts."""
    name = f"flowers-{uuid.uuid4().hex[:8]}"
    for kind in ("rose", "daisy"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / f"{kind}.txt").write_text(f"{kind} {name}")
    run("dataset", "import", name, str(tmp_path))
    return name


def keys(run: Run, dataset: str) -> list[str]:
    return [one["key"] for one in run("dataset", "examples", dataset)]


def test_an_example_is_erased_and_the_request_is_listed(run: Run, dataset: str) -> None:
    gone, kept = keys(run, dataset)

    made = run("dataset", "erase", dataset, gone, "--reason", "asked for by letter 17")

    assert keys(run, dataset) == [kept]
    assert (made["state"], made["deleted_blob_count"]) == ("SUCCEEDED", "1")
    (listed,) = run("dataset", "erasures", dataset)
    assert (listed["name"], listed["reason"]) == (made["name"], "asked for by letter 17")
    assert gone not in json.dumps(listed)
    assert run("dataset", "show", dataset)["commit"]["erased_count"] == "1"


def test_a_key_that_is_not_there_is_refused_with_those_near(run: Run, dataset: str) -> None:
    first, _ = keys(run, dataset)

    refused = run("dataset", "erase", dataset, f"{first}x", "--reason", "a try", code=3, errs=True)

    assert first in json.dumps(refused)
