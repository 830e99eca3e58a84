"""`slipway label …` as engineers run it, against the real labeling, ingestion and gateway."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from door import ADMIN_TOKEN, Gateway
from running import Keys, Service
from slipway.cli.main import app
from slipway.cli.platform_client import annotators
from slipway.client import Client, Item
from slipway.labeling.v1 import labeling_pb2 as lab
from slipway_runtime.db import Database, leader
from typer.testing import CliRunner

Run = Callable[..., Any]
LABELS = ("rose", "tulip")
COUNT = 12


@pytest.fixture
def places(
    gateway: Gateway,
    registry: Service,
    ingestion: Service,
    labeling: Service,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    doors = {"registry": registry, "ingestion": ingestion, "labeling": labeling}
    monkeypatch.setenv("SLIPWAY_URL", gateway.url)
    monkeypatch.setenv("SLIPWAY_GRPC", ",".join(f"{name}={door.address}" for name, door in doors.items()))
    monkeypatch.setenv("SLIPWAY_TOKEN", ADMIN_TOKEN)


@pytest.fixture
def run(places: None) -> Run:
    def call(*arguments: str, code: int = 0) -> Any:
        result = CliRunner().invoke(app, [*arguments, "--json"])
        assert result.exit_code == code, result.output
        return json.loads(result.stdout if code == 0 else result.stderr)

    return call


@pytest.fixture
def dataset(places: None) -> str:
    """Return the id of a data set of twelve texts: even ones are roses."""
    name = f"d-{uuid.uuid4().hex[:8]}"
    with Client() as client:
        client.ingestion.CreateDataset(client.ingestion.request("CreateDataset", dataset_id=name))
        items = [Item(key=key(number), data=f"{name} {number}".encode()) for number in range(COUNT)]
        upload = client.upload_examples(name, items)
        client.commit(name, "texts", uploads=[upload.name])
    return name


def key(number: int) -> str:
    return f"t{number:02d}.txt"


def truth(of: str) -> str:
    return LABELS[int(of[1:3]) % 2]


@pytest.fixture
def project(run: Run, dataset: str) -> str:
    name = f"p-{uuid.uuid4().hex[:8]}"
    run(
        "label", "project", "create", name, "--dataset", dataset, "--labels", ",".join(LABELS),
        "--overlap", "2", "--pause", "error=0.2,answers=5",
    )  # fmt: skip
    return name


@pytest.fixture
def work(keys: Keys, project: str) -> Callable[..., None]:
    """Return a function that lets a person answer all tasks of the project."""

    def answer(person: str, labels: Callable[[str], str] = truth) -> None:
        with Client(token=keys.user(person, "annotator")) as client:
            claim = lab.ClaimTasksRequest(parent=f"labelingProjects/{project}", count=20)
            while given := client.labeling.ClaimTasks(claim).assignments:
                for one in given:
                    said = lab.Answer(choice=lab.Choice(labels=[labels(one.key)]))
                    client.labeling.SubmitAnnotation(
                        lab.SubmitAnnotationRequest(name=one.name, answer=said, lead_ms=5)
                    )

    return answer


def test_a_project_is_made_shown_changed_and_opened(run: Run, dataset: str, tmp_path: Path) -> None:
    name = f"p-{uuid.uuid4().hex[:8]}"
    (tmp_path / "schema.yaml").write_text("labels: [rose, tulip]\ninstructions: Which one?\n")
    run("label", "project", "create", name, "--dataset", dataset, "--schema", str(tmp_path / "schema.yaml"))

    changed = run("label", "project", "update", name, "--overlap", "3", "--labels", "rose,tulip,lily")

    assert (changed["overlap"], changed["schema"]["version"]) == (3, 2)
    assert changed["schema"]["classification"]["labels"] == ["rose", "tulip", "lily"]
    assert changed["schema"]["instructions"] == "Which one?"
    assert run("label", "project", "show", name) == changed
    assert name in {row["name"].rpartition("/")[2] for row in run("label", "project", "list", "-n", "1000")}
    assert run("label", "open", name)["address"].endswith(f"/label/{name}")


def test_what_is_misspelt_is_refused_with_what_was_meant(run: Run, dataset: str, project: str) -> None:
    unknown = run("label", "project", "show", project + "x", code=3)["error"]
    elsewhere = run(
        "label", "project", "create", "p", "--dataset", dataset + "x", "--labels", "a,b", code=3
    )["error"]  # fmt: skip
    lost = run("label", "project", "update", project, "--labels", "rose,lily", code=4)["error"]
    nothing = run("label", "project", "update", project, code=4)["error"]

    assert (unknown["reason"], project in unknown["metadata"]["near"]) == ("PROJECT_NOT_FOUND", True)
    assert elsewhere["reason"] == "DATASET_NOT_FOUND"
    assert lost["reason"] == "LABEL_REMOVED"
    assert "nothing was said to change" in nothing["message"]


def test_tasks_come_from_keys_gold_and_the_whole_commit(run: Run, project: str, tmp_path: Path) -> None:
    (tmp_path / "keys.txt").write_text(f"{key(0)}\n{key(1)}\n")
    (tmp_path / "gold.jsonl").write_text(json.dumps({"key": key(2), "label": "rose"}) + "\n")

    two = run("label", "tasks", "create", project, "--keys", str(tmp_path / "keys.txt"), "--hold")
    gold = run("label", "tasks", "create", project, "--gold", str(tmp_path / "gold.jsonl"))
    rest = run("label", "tasks", "create", project, "--commit", "main", "--unlabelled", "--hold")

    assert [(r["created_count"], r["existing_count"]) for r in (two, gold, rest)] == [
        ("2", "0"), ("1", "0"), (str(COUNT - 3), "3")
    ]  # fmt: skip
    assert [r["key"] for r in run("label", "tasks", "list", project, "--state", "open")] == [key(2)]
    assert len(run("label", "tasks", "list", project, "-n", "100")) == COUNT


def test_a_random_order_opens_as_many_as_are_asked_for(run: Run, project: str) -> None:
    run("label", "tasks", "create", project, "--hold")

    made = run("label", "order", project, "--by", "random", "--open", "4", "--seed", "7")

    assert (made["ordered_count"], len(made["opened"])) == (str(COUNT), 4)
    assert len(run("label", "tasks", "list", project, "--state", "open")) == 4
    assert run("label", "order", project, "--by", "luck", code=4)["error"]["reason"] == "INVALID_FIELD"


@pytest.fixture
def by_hand_alone(labeling: Service) -> Iterator[None]:
    """Keep the service from judging by itself: another process is the judge, and rests."""
    database = Database(labeling.settings["database_url"])
    stop_at = time.monotonic() + 60
    while time.monotonic() < stop_at:
        with leader(database, "labeling.judge") as rests:
            if rests:
                yield
                break
        time.sleep(0.02)
    database.engine.dispose()


@pytest.mark.usefixtures("by_hand_alone")
def test_consensus_quality_and_the_careless_one(run: Run, project: str, work: Callable[..., None]) -> None:
    run("label", "project", "update", project, "--overlap", "3")
    run("label", "tasks", "create", project)
    for person in ("ann", "ben"):
        work(person)
    work("cas", lambda of: LABELS[1 - int(of[1:3]) % 2])

    agreed = run("label", "consensus", project)
    figures = run("label", "quality", project)
    shown = CliRunner().invoke(app, ["label", "quality", project, "--annotator", "cas"])

    assert agreed["task_count"] == str(COUNT)
    assert [name.rpartition("/")[2] for name in agreed["paused"]] in (["cas"], [])
    paused = {row["name"].rpartition("/")[2]: row["paused"] for row in run("label", "annotators", project)}
    assert paused == {"ann": False, "ben": False, "cas": True}
    assert figures["percent_agreement"]["value"] == pytest.approx(1 / 3, abs=0.01)
    for words in ("Krippendorff's alpha", "Cohen's kappa", "true \\ answered"):
        assert words in shown.output


def test_somebody_is_paused_with_a_reason_and_goes_on(
    run: Run, project: str, work: Callable[..., None]
) -> None:
    run("label", "tasks", "create", project)
    work("ann")

    paused = run("label", "pause", project, "ann", "-m", "on holiday")
    resumed = run("label", "resume", project, "ann")

    typed = SimpleNamespace(params={"project": project})
    assert (annotators(typed, "a"), annotators(typed, "b")) == (["ann"], [])  # type: ignore[arg-type]
    assert (paused["paused"], paused["pause_reason"], resumed["paused"]) == (True, "on holiday", False)
    assert (
        run("label", "pause", project, "anm", "-m", "x", code=3)["error"]["reason"] == "ANNOTATOR_NOT_FOUND"
    )


def test_reviews_become_labels_of_a_commit(
    run: Run, dataset: str, project: str, work: Callable[..., None]
) -> None:
    run("label", "tasks", "create", project)
    for person in ("ann", "ben"):
        work(person)
    run("label", "consensus", project)
    task = next(r for r in run("label", "tasks", "list", project, "-n", "100") if r["key"] == key(0))
    name = task["name"].rpartition("/")[2]
    wrong = run("label", "review", project, name, "correct", "--label", "ros", code=4)["error"]
    run("label", "review", project, name, "correct", "--label", "tulip", "-m", "look at the stem")

    made = run("label", "snapshot", "create", project, "-m", "labels of people", "--no-watch")
    ended = CliRunner().invoke(
        app, ["label", "snapshot", "show", project, made["name"].rpartition("/")[2], "--watch"]
    )

    assert (wrong["reason"], wrong["metadata"]["near"]) == ("LABEL_NOT_IN_SCHEMA", "rose")
    assert ended.exit_code == 0, ended.output
    (listed,) = run("label", "snapshot", "list", project)
    assert (listed["state"], listed["label_count"]) == ("SUCCEEDED", str(COUNT))
    assert run("dataset", "stats", dataset)["label_counts"] == {"rose": "5", "tulip": "7"}


def test_annotations_go_to_a_file_and_into_another_project(
    run: Run, dataset: str, project: str, work: Callable[..., None], tmp_path: Path
) -> None:
    run("label", "tasks", "create", project)
    work("ann")
    other = f"p-{uuid.uuid4().hex[:8]}"
    run("label", "project", "create", other, "--dataset", dataset, "--labels", ",".join(LABELS))

    told = run("label", "export", project, str(tmp_path / "a.jsonl"))
    taken = run("label", "import", other, str(tmp_path / "a.jsonl"))
    again = run("label", "import", other, str(tmp_path / "a.jsonl"))

    assert told["bytes"] == (tmp_path / "a.jsonl").stat().st_size
    assert (taken["task_count"], taken["annotation_count"]) == (str(COUNT), str(COUNT))
    assert (again["existing_task_count"], again["annotation_count"]) == (str(COUNT), "0")
    (tmp_path / "b.jsonl").write_text("{")
    refused = run("label", "import", other, str(tmp_path / "b.jsonl"), code=4)["error"]
    assert (refused["reason"], "line 1" in refused["message"]) == ("FILE_REFUSED", True)


def test_scores_find_the_labels_that_a_model_contradicts(
    run: Run, project: str, work: Callable[..., None], a_version: str
) -> None:
    run("label", "tasks", "create", project)
    for person in ("ann", "ben"):
        work(person, lambda of: "tulip" if of == key(0) else truth(of))
    run("label", "consensus", project)
    with Client() as client:
        client.labeling.ImportScores(iter([*scores(project, a_version)]))

    (found,) = run("label", "errors", project, a_version)

    assert (found["key"], found["label"], found["suggested"]) == (key(0), "tulip", "rose")


def scores(project: str, version: str) -> list[lab.ImportScoresRequest]:
    header = lab.ScoresHeader(parent=f"labelingProjects/{project}", model_version=version, classes=LABELS)
    sure = {"rose": [0.95, 0.05], "tulip": [0.05, 0.95]}
    rows = [
        lab.Score(key=key(number), probabilities=sure[truth(key(number))], embedding=[float(number), 1.0])
        for number in range(COUNT)
    ]
    return [
        lab.ImportScoresRequest(header=header),
        lab.ImportScoresRequest(scores=lab.Scores(scores=rows)),
    ]


def test_more_labels_are_worth_it_or_not(run: Run) -> None:
    rising = run("label", "curve", "100:0.7:5000", "200:0.8:5000", "400:0.87:5000", "800:0.915:5000")
    flat = run("label", "curve", "100:0.9:5000", "200:0.901:5000", "400:0.9:5000", "--least-gain", "0.05")

    assert (rising["verdict"], flat["verdict"]) == ("WORTH_IT", "NOT_WORTH_IT")
    assert run("label", "curve", "100:0.7:5000", code=4)["error"]["reason"] == "TOO_FEW_ANSWERS"
