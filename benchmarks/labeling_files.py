"""Import and export of annotation files beside PostgreSQL's COPY of the same rows.

A file of tasks (JSONL), each with the answers of some people, goes through the service's API into an empty
project and out again. Beside it:

* `COPY`: the same rows in the same three tables (indexes, foreign keys and all) by one COPY each, as Python
  reads and writes them (psycopg's `write_row` and `rows`); no JSON, no checks, no server in between.
* `COPY, ready bytes`: the same COPY of bytes that lie ready; what comes out is not looked at.

All three use databases of one server. Every second pass goes in reverse order; ratios are taken within a
pass. In the first pass what came out is compared with what went in.

    python benchmarks/labeling_files.py [--tasks 10000] [--people 1] [--passes 5] [--json FILE]
"""

import argparse
import contextlib
import json
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import psycopg
import psycopg.types.json
from measuring.figures import keep, ratios, spread, table
from measuring.processes import workplace
from slipway.ingestion.v1 import ingestion_pb2 as ing
from slipway.ingestion.v1 import ingestion_pb2_grpc
from slipway.labeling.v1 import labeling_pb2 as pb
from slipway.labeling.v1 import labeling_pb2_grpc
from slipway_local.testing import PostgresServer, Running, S3Server
from slipway_runtime.db import migrate

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "contract"))

from running import Keys, Service  # noqa: E402

OURS, FLOOR, BYTES = "labeling", "COPY", "COPY, ready bytes"
DATASET = "datasets/flowers"
CHUNK = 1 << 20
TABLES = ("tasks", "assignments", "annotations")


@dataclass(frozen=True)
class Measure:
    """One contestant in one pass."""

    name: str
    import_s: float
    export_s: float


class Contestant(Protocol):
    """Something that takes the rows and gives them back."""

    name: str

    def begin(self) -> None:
        """Make room for a new pass; not counted."""

    def put(self) -> None:
        """Take the rows; counted."""

    def get(self) -> Any:
        """Give the rows back; counted."""

    def check(self, found: Any) -> None:
        """Compare what came back with what went in; not counted."""


class Labeling:
    """The service, a project per pass."""

    name = OURS

    def __init__(self, service: Service, token: str, data: bytes, ends: contextlib.ExitStack) -> None:
        self._stub: Any = labeling_pb2_grpc.LabelingServiceStub(ends.enter_context(service.channel(token)))
        self._data = data
        self.project = ""

    def begin(self) -> None:
        schema = pb.LabelSchema(classification=pb.Classification(labels=["rose", "tulip"]))
        request = pb.CreateProjectRequest(
            project_id=f"bench-{uuid.uuid4().hex[:8]}", project=pb.Project(dataset=DATASET, schema=schema)
        )
        self.project = self._stub.CreateProject(request, timeout=10).name

    def put(self) -> None:
        self._stub.ImportAnnotations(self._requests(), timeout=120)

    def _requests(self) -> Iterator[Any]:
        header = pb.ImportHeader(parent=self.project, format=pb.JSONL)
        yield pb.ImportAnnotationsRequest(header=header)
        for start in range(0, len(self._data), CHUNK):
            yield pb.ImportAnnotationsRequest(chunk=self._data[start : start + CHUNK])

    def get(self) -> bytes:
        request = pb.ExportAnnotationsRequest(parent=self.project, format=pb.JSONL)
        return b"".join(one.chunk for one in self._stub.ExportAnnotations(request, timeout=120))

    def check(self, found: bytes) -> None:
        wanted = [json.loads(line) for line in self._data.splitlines()]
        for one, other in zip(wanted, map(json.loads, found.splitlines()), strict=True):
            answers = [each["annotations"][0]["labels"] for each in other["assignments"]]
            if (one["key"], len(one["assignments"])) != (other["key"], len(answers)):
                raise RuntimeError(f"{one['key']} came back as {other}")


class Copy:
    """COPY of a project's rows, as Python rows or as the bytes that lie ready."""

    def __init__(self, url: str, source: str, project: str, *, ready: bool) -> None:
        self.name = BYTES if ready else FLOOR
        self._ready = ready
        self._database = psycopg.connect(url.replace("postgresql+psycopg", "postgresql"))
        self._columns: dict[str, str] = {}
        self._types: dict[str, list[int]] = {}
        self._rows: dict[str, list[Any]] = {}
        self._bytes: dict[str, list[bytes]] = {}
        with psycopg.connect(source.replace("postgresql+psycopg", "postgresql")) as found:
            self._take(found, project)

    def _take(self, source: psycopg.Connection[Any], project: str) -> None:
        """Take the rows of a project that the service has imported."""
        for name in TABLES:
            cursor = source.execute(f"SELECT * FROM {name} WHERE project = %s ORDER BY 1", (project,))
            assert cursor.description is not None
            self._columns[name] = ", ".join(column.name for column in cursor.description)
            self._types[name] = [column.type_code for column in cursor.description]
            self._rows[name] = cursor.fetchall()
        row = source.execute("SELECT * FROM projects WHERE id = %s", (project,)).fetchone()
        assert row is not None
        values = [psycopg.types.json.Jsonb(one) if isinstance(one, dict) else one for one in row]
        self._database.execute(f"INSERT INTO projects VALUES ({', '.join(['%s'] * len(row))})", values)
        self._database.commit()

    def begin(self) -> None:
        self._empty()
        if self._ready and not self._bytes:
            self._copy_rows()
            self._bytes = {name: list(self._out(name)) for name in TABLES}
            self._empty()

    def _empty(self) -> None:
        self._database.execute("TRUNCATE tasks, assignments, annotations CASCADE")
        self._database.commit()

    def put(self) -> None:
        if not self._ready:
            self._copy_rows()
            return
        with self._database.cursor() as cursor:
            for name in TABLES:
                with cursor.copy(f"COPY {name} ({self._columns[name]}) FROM STDIN") as copy:
                    for part in self._bytes[name]:
                        copy.write(part)
        self._database.commit()

    def _copy_rows(self) -> None:
        with self._database.cursor() as cursor:
            for name in TABLES:
                with cursor.copy(f"COPY {name} ({self._columns[name]}) FROM STDIN") as copy:
                    for row in self._rows[name]:
                        copy.write_row(row)
        self._database.commit()

    def _out(self, name: str) -> Iterator[bytes]:
        statement = f"COPY {name} ({self._columns[name]}) TO STDOUT"
        with self._database.cursor() as cursor, cursor.copy(statement) as copy:
            for part in copy:
                yield bytes(part)

    def get(self) -> Any:
        if self._ready:
            return {name: list(self._out(name)) for name in TABLES}
        found: dict[str, list[Any]] = {}
        with self._database.cursor() as cursor:
            for name in TABLES:
                with cursor.copy(f"COPY {name} ({self._columns[name]}) TO STDOUT") as copy:
                    copy.set_types(self._types[name])
                    found[name] = list(copy.rows())
        return found

    def check(self, found: Any) -> None:
        for name in TABLES:
            wanted = len(self._rows[name])
            if not self._ready and len(found[name]) != wanted:
                raise RuntimeError(f"{len(found[name])} rows of {name} came back, not {wanted}")


def file_of(tasks: int, people: int) -> bytes:
    """Return a file of answered tasks."""
    made = "2026-01-31T12:00:0{}.123456Z"
    lines = []
    for number in range(tasks):
        answers = [
            {
                "number": person + 1,
                "annotator": f"annotators/p{person}",
                "state": "SUBMITTED",
                "claim_time": made.format(0),
                "schema_version": 1,
                "annotations": [
                    {
                        "revision": 1,
                        "labels": [("rose", "tulip")[(number + person) % 2]],
                        "lead_ms": 1000 + number,
                        "lease_ms": 2000 + number,
                        "schema_version": 1,
                        "create_time": made.format(2),
                    }
                ],
            }
            for person in range(people)
        ]
        task = {
            "key": f"image/{number:06d}.png",
            "commit": f"{DATASET}/commits/{'c' * 64}",
            "blob": f"{number:064x}",
            "media_type": "image/png",
            "state": "ANSWERED" if people else "OPEN",
            "overlap": max(people, 1),
            "create_time": made.format(1),
            "assignments": answers,
        }
        lines.append(json.dumps(task, separators=(",", ":")))
    return ("\n".join(lines) + "\n").encode()


def measure(contestant: Contestant, *, check: bool) -> Measure:
    """Return one measurement."""
    contestant.begin()
    began = time.perf_counter()
    contestant.put()
    between = time.perf_counter()
    found = contestant.get()
    ended = time.perf_counter()
    if check:
        contestant.check(found)
    return Measure(contestant.name, between - began, ended - between)


def started(module: str, keys: Keys, ends: contextlib.ExitStack, **settings: str) -> Service:
    """Return a running service that is stopped at the end."""
    service = Service(module, keys, **settings)
    ends.callback(service.stop)
    return service.migrate().start()


def start_all(folder: Path, arguments: argparse.Namespace, ends: contextlib.ExitStack) -> list[Contestant]:
    """Start the servers and make the contestants."""
    running = Running()
    ends.callback(running.stop)
    servers = running.start()
    postgres, keys = PostgresServer(servers), Keys(folder / "keys")
    url = postgres.fresh_database()
    store = S3Server(servers.s3_endpoint, servers.s3_access_key, servers.s3_secret_key).fresh_settings()
    ingestion = started("slipway_ingestion.main", keys, ends, database_url=postgres.fresh_database(), **store)
    with ingestion.channel(keys.user()) as opened:
        dataset = ing.CreateDatasetRequest(dataset_id=DATASET.partition("/")[2])
        ingestion_pb2_grpc.IngestionServiceStub(opened).CreateDataset(dataset)
    asks = {"ingestion": ingestion.address, "token_file": keys.service_file("labeling")}
    service = started("slipway_labeling.main", keys, ends, database_url=url, **asks)
    ours = Labeling(service, keys.user(), file_of(arguments.tasks, arguments.people), ends)
    ours.begin()
    ours.put()
    contestants: list[Contestant] = [ours]
    for ready in (False, True):
        beside = postgres.fresh_database()
        migrate(beside, "slipway_labeling")
        contestants.append(Copy(beside, url, ours.project.partition("/")[2], ready=ready))
    return contestants


def report(passes: list[list[Measure]], tasks: int, people: int) -> None:
    """Print the table."""
    rows = []
    for name in (OURS, FLOOR, BYTES):
        cells = [name]
        for part in ("import_s", "export_s"):
            seconds, ours = _values(passes, name, part), _values(passes, OURS, part)
            cells += [spread(seconds, 3), "" if name == OURS else spread(ratios(seconds, ours), 2)]
        rows.append(cells)
    head = [
        f"{tasks:,} tasks, {people} answers each",
        "import s",
        "it / labeling",
        "export s",
        "it / labeling",
    ]
    print("\n" + table(head, rows))
    print("\nin the first pass what came out was compared with what went in")


def _values(passes: list[list[Measure]], name: str, field: str) -> list[float]:
    return [float(getattr(one, field)) for found in passes for one in found if one.name == name]


def run(arguments: argparse.Namespace) -> None:
    """Start all, measure in turns, end all."""
    with workplace("files") as (folder, ends):
        contestants = start_all(folder, arguments, ends)
        passes = []
        for number in range(arguments.passes):
            turns = contestants if number % 2 == 0 else contestants[::-1]
            passes.append([measure(one, check=number == 0) for one in turns])
            print(f"pass {number + 1} of {arguments.passes} done", flush=True)
    report(passes, arguments.tasks, arguments.people)
    keep(arguments.json, {"passes": [[asdict(one) for one in found] for found in passes]})


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=10_000, help="tasks of the file")
    parser.add_argument("--people", type=int, default=1, help="answers per task")
    parser.add_argument("--passes", type=int, default=5, help="how often all are measured in turn")
    parser.add_argument("--json", type=Path, help="file for every pass")
    arguments = parser.parse_args()
    try:
        run(arguments)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
