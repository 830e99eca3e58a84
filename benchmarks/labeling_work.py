"""Next task and submit through labeling's API beside a floor: the same rows in bare SQL.

A pass makes a project of 10,000 open tasks and lets 1, 8 and 64 annotators work at once, each claiming one
task and answering it, again and again, without a pause:

* labeling: ClaimTasks and SubmitAnnotation over gRPC against the running service, a channel per annotator.
  Tokens are checked, answers too, a request_id makes each submission repeatable.
* floor: psycopg, a connection per annotator, the same transactions with the same rows, in as few statements:
  the annotator locked; a task picked with SKIP LOCKED, counted, and the assignment inserted; then in one
  statement the assignment's end, the annotation, the task's counts and the row for repeats. No checks, no
  conversion, and no server between the caller and PostgreSQL.

Both write to databases of the same PostgreSQL with the same tables. Every second pass goes in reverse order;
ratios are of the means, within a pass. At the end of each pass the answers are counted, and the tasks that
have one.

    python benchmarks/labeling_work.py [--passes 5] [--tasks 10000] [--seconds 4] [--json FILE]
"""

import argparse
import contextlib
import statistics
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import psycopg
from measuring.figures import keep, percentile, ratios, spread, table
from measuring.processes import workplace
from slipway.labeling.v1 import labeling_pb2 as pb
from slipway.labeling.v1 import labeling_pb2_grpc
from slipway_local.testing import PostgresServer, Running
from slipway_runtime.db import migrate

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "contract"))

from running import Keys, Service  # noqa: E402

OURS, FLOOR = "labeling", "bare SQL"
IN_FLIGHT = (1, 8, 64)
_LABELS = ["rose", "tulip", "lily"]
_PROJECT = (
    "WITH p AS (INSERT INTO projects (id, display_name, dataset, schema_version, overlap, lease_s, "
    "gold_percent, prelabel_percent, pause_rule, consensus_method, creator) VALUES (%(id)s, '', "
    "'datasets/bench', 1, 1, 600, 0, 0, '{\"report_only\": true}', 'MAJORITY', 'users/bench') RETURNING id), "
    "s AS (INSERT INTO schemas (project, version, labels, multiple, instructions) "
    "SELECT id, 1, %(labels)s, false, '' FROM p) "
    "INSERT INTO tasks (project, key, dataset_commit, blob, media_type, state, overlap) SELECT %(id)s, "
    "'t' || n, '', '', 'image/png', 'OPEN', 1 FROM generate_series(1, %(tasks)s) AS n"
)


@dataclass(frozen=True)
class Measure:
    """One contestant with so many annotators at once in one pass."""

    name: str
    in_flight: int
    claim_ms: float
    claim_p95_ms: float
    submit_ms: float
    submit_p95_ms: float
    pairs_per_s: float


class Person(Protocol):
    """An annotator of one contestant."""

    def claim(self) -> Any:
        """Take the next task."""

    def submit(self, held: Any) -> None:
        """Answer it."""

    def close(self) -> None:
        """Go home."""


class Api:
    """An annotator who calls the service."""

    def __init__(self, service: Service, keys: Keys, project: str, name: str) -> None:
        descriptor = pb.DESCRIPTOR.services_by_name["LabelingService"]
        self._channel = service.channel(keys.user(name, "annotator"), [descriptor])
        stub = labeling_pb2_grpc.LabelingServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._claim, self._submit = stub.ClaimTasks, stub.SubmitAnnotation
        self._request = pb.ClaimTasksRequest(parent=f"labelingProjects/{project}")

    def claim(self) -> Any:
        """Take the next task."""
        return self._claim(self._request).assignments[0].name

    def submit(self, held: Any) -> None:
        """Answer it."""
        answer = pb.Answer(choice=pb.Choice(labels=["tulip"]))
        self._submit(
            pb.SubmitAnnotationRequest(name=held, answer=answer, lead_ms=900, request_id=uuid.uuid4().hex)
        )

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


class Sql:
    """An annotator who writes the rows itself."""

    def __init__(self, url: str, project: str, name: str) -> None:
        self._connection = psycopg.connect(url.replace("+psycopg", ""))
        self._connection.execute("INSERT INTO annotators (project, id) VALUES (%s, %s)", (project, name))
        self._connection.commit()
        self._who = {"project": project, "annotator": name}

    def claim(self) -> Any:
        """Take the next task."""
        with self._connection.transaction():
            self._connection.execute(
                "SELECT paused FROM annotators WHERE project = %(project)s AND id = %(annotator)s "
                "FOR NO KEY UPDATE",
                self._who,
            )
            return self._connection.execute(_CLAIM, self._who).fetchone()

    def submit(self, held: Any) -> None:
        """Answer it."""
        row = {"caller": self._who["annotator"], "request_id": uuid.uuid4().hex, "mark": b"x" * 32}
        with self._connection.transaction():
            self._connection.execute(
                _SUBMIT, {"task": held[0], "number": held[1], "labels": ["tulip"], **row}
            )

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


_CLAIM = (
    "WITH picked AS (SELECT serial FROM tasks t WHERE project = %(project)s AND state = 'OPEN' "
    "AND gold IS NULL AND taken < overlap AND coalesce((SELECT s.state = 'EXPIRED' FROM assignments s "
    "WHERE s.task = t.serial AND s.annotator = %(annotator)s), true) ORDER BY priority DESC, serial LIMIT 1 "
    "FOR UPDATE SKIP LOCKED), given AS (UPDATE tasks t SET taken = taken + 1, given = given + 1 FROM picked "
    "WHERE t.serial = picked.serial RETURNING t.serial, t.given, t.key) "
    "INSERT INTO assignments (task, number, project, annotator, state, lease_time, claim_time, "
    "schema_version, prelabel_shown) SELECT serial, given, %(project)s, %(annotator)s, 'LEASED', "
    "clock_timestamp() + interval '600 s', clock_timestamp(), 1, false FROM given RETURNING task, number"
)
_SUBMIT = (
    "WITH mine AS (UPDATE assignments SET state = 'SUBMITTED', annotation = nextval('annotations_id_seq') "
    "WHERE task = %(task)s AND number = %(number)s AND state = 'LEASED' RETURNING *), "
    "made AS (INSERT INTO annotations (id, project, task, number, annotator, labels, revision, withdrawn, "
    "lease_ms, lead_ms, prelabel_shown, schema_version) SELECT annotation, project, task, number, "
    "annotator, %(labels)s::text[], 1, false, 1, 900, false, 1 FROM mine RETURNING *), "
    "kept AS (INSERT INTO idempotency (caller, request_id, method, fingerprint, answer) "
    "SELECT %(caller)s, %(request_id)s, 'Submit', %(mark)s, convert_to(annotation::text, 'UTF8') FROM mine) "
    "UPDATE tasks SET answer_count = answer_count + 1, state = 'ANSWERED' "
    "WHERE serial = %(task)s RETURNING key"
)


@dataclass(frozen=True)
class Contestant:
    """A name, the database that it writes to, and how its annotators come."""

    name: str
    url: str
    person: Callable[[str, str], Person]

    def project(self, tasks: int) -> str:
        """Make a project of open tasks; return its id."""
        id = f"b-{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(_PROJECT, {"id": id, "labels": _LABELS, "tasks": tasks})
            connection.execute("ANALYZE tasks, assignments, annotations")
        return id

    def check(self, project: str, pairs: int) -> None:
        """Fail unless every answer is there, each on a task of its own."""
        with psycopg.connect(self.url.replace("+psycopg", "")) as connection:
            row = connection.execute(
                "SELECT count(*), count(DISTINCT n.task), count(*) FILTER (WHERE t.state = 'ANSWERED') "
                "FROM annotations n JOIN tasks t ON t.serial = n.task WHERE n.project = %s",
                (project,),
            ).fetchone()
        if row != (pairs, pairs, pairs):
            raise RuntimeError(f"{self.name} has {row} (answers, tasks, answered tasks) of {pairs}")


def measure(contestant: Contestant, in_flight: int, tasks: int, seconds: float) -> Measure:
    """Let annotators work for some seconds."""
    project = contestant.project(tasks)
    people = [contestant.person(project, f"ann{number}") for number in range(in_flight)]
    claims: list[list[float]] = [[] for _ in people]
    submits: list[list[float]] = [[] for _ in people]
    for one in people:
        one.submit(one.claim())  # connections and statements are warm
    stop_at = time.perf_counter() + seconds

    def labour(place: int) -> None:
        one = people[place]
        while (began := time.perf_counter()) < stop_at:
            held = one.claim()
            between = time.perf_counter()
            one.submit(held)
            submits[place].append(time.perf_counter() - between)
            claims[place].append(between - began)

    threads = [threading.Thread(target=labour, args=(place,)) for place in range(in_flight)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent = time.perf_counter() - began
    for one in people:
        one.close()
    claimed, submitted = list(chain(*claims)), list(chain(*submits))
    contestant.check(project, len(submitted) + in_flight)
    return Measure(
        contestant.name,
        in_flight,
        1000 * statistics.fmean(claimed),
        1000 * percentile(claimed, 0.95),
        1000 * statistics.fmean(submitted),
        1000 * percentile(submitted, 0.95),
        len(submitted) / spent,
    )


def start_all(folder: Path, ends: contextlib.ExitStack) -> list[Contestant]:
    """Start the servers and make the contestants."""
    running = Running()
    ends.callback(running.stop)
    postgres, keys = PostgresServer(running.start()), Keys(folder / "keys")
    ours, floor = postgres.fresh_database(), postgres.fresh_database()
    migrate(floor, "slipway_labeling")
    service = Service(
        "slipway_labeling.main", keys, database_url=ours, ingestion="127.0.0.1:9", rpc_threads=64
    )
    ends.callback(service.stop)
    service.migrate().start()
    return [
        Contestant(OURS, ours, lambda project, name: Api(service, keys, project, name)),
        Contestant(FLOOR, floor, lambda project, name: Sql(floor, project, name)),
    ]


def report(passes: Sequence[Sequence[Measure]]) -> None:
    """Print figures and ratios."""

    def values(name: str, in_flight: int, field: str) -> list[float]:
        found = (one for measures in passes for one in measures)
        return [getattr(one, field) for one in found if (one.name, one.in_flight) == (name, in_flight)]

    rows, compared = [], []
    for count in IN_FLIGHT:
        for name in (OURS, FLOOR):
            fields = ("claim_ms", "claim_p95_ms", "submit_ms", "submit_p95_ms")
            figures = [spread(values(name, count, field), 2) for field in fields]
            rows.append([str(count), name, *figures, spread(values(name, count, "pairs_per_s"))])
        both = [ratios(values(OURS, count, f), values(FLOOR, count, f)) for f in ("claim_ms", "submit_ms")]
        compared.append([str(count), *(spread(one, 2) for one in both)])
    head = ["at once", "", "next task ms", "p95", "submit ms", "p95", "tasks/s"]
    print("\n" + table(head, rows))
    print(
        "\n" + table(["at once", "next task, labeling / bare SQL", "submit, labeling / bare SQL"], compared)
    )


def run(arguments: argparse.Namespace) -> None:
    """Start all, measure in turns, end all."""
    with workplace("labeling") as (folder, ends):
        contestants = start_all(folder, ends)
        passes: list[list[Measure]] = []
        for number in range(arguments.passes):
            turns = contestants if number % 2 == 0 else contestants[::-1]
            passes.append(
                [measure(one, n, arguments.tasks, arguments.seconds) for n in IN_FLIGHT for one in turns]
            )
            print(f"pass {number + 1} of {arguments.passes} done", flush=True)
    report(passes)
    keep(arguments.json, {"passes": [[asdict(one) for one in found] for found in passes]})


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--passes", type=int, default=5, help="how often all are measured in turn")
    parser.add_argument("--tasks", type=int, default=10_000, help="open tasks of each project")
    parser.add_argument("--seconds", type=float, default=4.0, help="of work per measurement")
    parser.add_argument("--json", type=Path, help="file for every pass")
    arguments = parser.parse_args()
    try:
        run(arguments)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
