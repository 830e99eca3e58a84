"""No answer is lost or doubled, and no task goes to one person too many, under kills of clients and service.

`make campaign` runs the full form (64 annotators, 10,000 tasks, 20 kills), `make test` a shorter one.
"""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from annotating import LABELS, PASSING, Order, label_of, line_of
from campaign import Killable, Killer
from running import Keys, Service
from slipway.ingestion.v1 import ingestion_pb2 as ing
from slipway.ingestion.v1 import ingestion_pb2_grpc as ing_grpc
from slipway.labeling.v1 import labeling_pb2 as pb
from slipway.labeling.v1 import labeling_pb2_grpc
from test_campaign import FULL, WITHIN_S, pages

pytestmark = [pytest.mark.xdist_group("campaign"), pytest.mark.timeout(WITHIN_S)]
SCRIPT = Path(__file__).with_name("annotating.py")
OVERLAP = 2


@dataclass(frozen=True)
class Size:
    """How large the campaign is; the last process of annotators is killed early and does not come back."""

    processes: int
    people: int
    deserters: int
    tasks: int
    kills: int
    lease_s: int
    within_s: float

    def due(self, kills: int) -> float:
        """Return how many answers must be in before the next kill: kills are spread over the whole work."""
        return self.tasks * OVERLAP * (kills + 1) / (self.kills + 2)


SHORT = Size(processes=2, people=6, deserters=4, tasks=600, kills=3, lease_s=4, within_s=600)
LONG = Size(processes=4, people=15, deserters=4, tasks=10_000, kills=20, lease_s=30, within_s=3000)
SIZE = LONG if FULL else SHORT


class Clients:
    """A process of annotators that can be killed and started again."""

    def __init__(self, order: Order, path: Path) -> None:
        path.write_text(json.dumps(asdict(order)))
        self._path = path
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Clients":
        """Start it."""
        search = {"PYTHONPATH": str(SCRIPT.parent)}
        with self._path.with_suffix(".log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(SCRIPT), str(self._path)],
                env={**os.environ, **search},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    def kill(self) -> None:
        """End it with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(60)


def commit_of_texts(ingestion: Service, keys: Keys) -> str:
    """Return a data set with one text per task."""
    with ingestion.channel(keys.user()) as opened:
        stub = ing_grpc.IngestionServiceStub(opened)
        stub.CreateDataset(ing.CreateDatasetRequest(dataset_id="campaign"))
        parts = [ing.UploadExamplesRequest(header=ing.UploadHeader(parent="datasets/campaign"))]
        for number in range(SIZE.tasks):
            item = ing.UploadItem(key=f"t{number:05d}", data=f"text {number}".encode())
            parts.append(ing.UploadExamplesRequest(item=item))
        upload = stub.UploadExamples(iter(parts), timeout=300)
        request = ing.CreateCommitRequest(parent="datasets/campaign", uploads=[upload.name], message="all")
        return str(stub.CreateCommit(request, timeout=300).name)


@pytest.fixture
def labeling(keys: Keys, postgres: Any, database_url: str, objects: dict[str, str]) -> Iterator[Service]:
    """Return a running labeling service; the data set `campaign` lies in its ingestion."""
    url = postgres.fresh_database()
    ingestion = Service("slipway_ingestion.main", keys, database_url=url, **objects).migrate().start()
    commit_of_texts(ingestion, keys)
    service = Service(
        "slipway_labeling.main",
        keys,
        database_url=database_url,
        ingestion=ingestion.address,
        token_file=keys.service_file("labeling"),
        sweep_interval_s=0.5,
    )
    yield service.migrate().start()
    service.stop()
    ingestion.stop()


@pytest.fixture
def engineer(labeling: Service, keys: Keys) -> Iterator[Any]:
    with labeling.channel(keys.user(), [pb.DESCRIPTOR.services_by_name["LabelingService"]]) as opened:
        yield labeling_pb2_grpc.LabelingServiceStub(opened)


def project_of_all(engineer: Any) -> str:
    """Return a project with a task per text."""
    schema = pb.LabelSchema(classification=pb.Classification(labels=LABELS))
    project = pb.Project(
        dataset="datasets/campaign",
        schema=schema,
        overlap=OVERLAP,
        lease_s=SIZE.lease_s,
        pause_rule=pb.PauseRule(report_only=True),  # they answer anything, and are to work to the end
    )
    name = engineer.CreateProject(pb.CreateProjectRequest(project_id="campaign", project=project)).name
    made = engineer.CreateTasks(pb.CreateTasksRequest(parent=name), timeout=300)
    assert made.created_count == SIZE.tasks
    return str(name)


@pytest.fixture
def clients(labeling: Service, keys: Keys, tmp_path: Path) -> Iterator[Callable[[str], list[Clients]]]:
    """Return a function that starts the processes of annotators, the deserters last."""
    with ExitStack() as stack:

        def start(project: str) -> list[Clients]:
            made = []
            for number in range(SIZE.processes + 1):
                people = SIZE.deserters if number == SIZE.processes else SIZE.people
                names = [f"ann-{number}-{person}" for person in range(people)]
                tokens = {name: keys.user(name, "annotator", expires_in_s=7200) for name in names}
                order = Order(labeling.address, project, str(tmp_path), tokens)
                one = Clients(order, tmp_path / f"clients-{number}.json")
                stack.callback(one.kill)
                made.append(one.start())
            return made

        yield start


def journaled(folder: Path) -> list[str]:
    """Return every answer that an annotator saw acknowledged; a line cut off by a kill is none."""
    lines: list[str] = []
    for path in folder.glob("*.journal"):
        lines += path.read_text().rpartition("\n")[0].split("\n")
    return [line for line in lines if line]


def answered(engineer: Any, project: str) -> int:
    """Return how many tasks have all their answers; none are seen while the service is away."""
    try:
        return int(engineer.GetProject(pb.GetProjectRequest(name=project)).task_counts["ANSWERED"])
    except grpc.RpcError as error:
        if error.code().name not in PASSING:
            raise
        return 0


def kill_until_done(
    engineer: Any, project: str, labeling: Killable, people: list[Clients], folder: Path
) -> int:
    """Kill service and clients in turn until every task is answered; return the kills."""
    *others, deserters = people
    victims = [victim for one in others for victim in (labeling, one)]
    killer = Killer(victims, 0, (0.0, 1.0))
    killer.start()
    stop_at = time.monotonic() + SIZE.within_s
    try:
        while killer.is_alive() and time.monotonic() < stop_at:
            now = len(journaled(folder))
            if killer.kills < SIZE.kills and now > SIZE.due(killer.kills):
                killer.see_progress()
            if now > SIZE.tasks * OVERLAP / 10:
                deserters.kill()
            if now > SIZE.tasks * OVERLAP * 0.9 and answered(engineer, project) == SIZE.tasks:
                break
            time.sleep(0.2)
    finally:
        killer.stop()
    return killer.kills


def test_no_answer_is_lost_and_no_task_goes_to_one_too_many(
    labeling: Service,
    engineer: Any,
    clients: Callable[[str], list[Clients]],
    database_url: str,
    tmp_path: Path,
) -> None:
    project = project_of_all(engineer)

    kills = kill_until_done(engineer, project, labeling, clients(project), tmp_path)

    listing = pb.ListAnnotationsRequest(parent=project, page_size=1000)
    stored = list(pages(engineer.ListAnnotations, listing, "annotations"))
    lines = Counter(line_of(annotation) for annotation in stored)
    acknowledged = journaled(tmp_path)
    assert [path.read_text() for path in tmp_path.glob("*.fault")] == []
    assert kills >= SIZE.kills
    assert [line for line in acknowledged if lines[line] != 1] == []  # missing, changed or doubled
    assert len(set(acknowledged)) == len(acknowledged)
    pairs = Counter((annotation.task, annotation.annotator) for annotation in stored)
    assert [pair for pair, count in pairs.items() if count > 1] == []  # twice to one person
    per_task = Counter(annotation.task for annotation in stored)
    assert Counter(per_task.values()) == {OVERLAP: SIZE.tasks}  # none lost, none to one too many
    for annotation in stored:
        person = annotation.annotator.removeprefix("annotators/")
        assert list(annotation.answer.choice.labels) == [label_of(annotation.key, person)]
        assert annotation.current
    assert miscounted(database_url) == []


def miscounted(database_url: str) -> list[Any]:
    """Return the tasks whose counts differ from their assignments."""
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        return connection.execute(
            "SELECT t.serial FROM tasks t JOIN assignments a ON a.task = t.serial GROUP BY t.serial HAVING "
            "t.taken <> count(*) FILTER (WHERE a.state IN ('LEASED', 'SUBMITTED')) "
            "OR t.answer_count <> count(a.annotation)"
        ).fetchall()
